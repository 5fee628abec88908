"""Runs what the documents show: each fenced block, against a service, in a folder of its own.

Blocks of one page share that folder and, in bash, one another's variables: a page reads from top to
bottom. Refusals by the service count as failures in every language.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import warnings
from contextlib import chdir
from dataclasses import dataclass, replace
from pathlib import Path

from tests.conftest import ROOT
from tests.readme_blocks import Block, blocks
from tests.serve.service_client import decoded

SHOWN_URL = "http://127.0.0.1:8000"
AUDIO = {".mp3", ".wav", ".opus", ".flac", ".aac"}
TIMEOUT_S = 240
LEAST_S = 0.3  # of audio
PAGES = (
    "README.md",
    "docs/quick_start.md",
    "docs/openai.md",
    "docs/api/speech.md",
    "docs/voices.md",
    "docs/edits.md",
    "docs/jobs.md",
    "docs/cache.md",
    "docs/tuning.md",
    "docs/marks.md",
)
NOT_HERE = {
    "make demo": "installs; what it then does is tests/serve/one/api/test_demo.py",
    "make test": "is what runs this",
    "pip wheel . --no-deps --wheel-dir dist": "tests/serve/one/life/test_wheel.py, off line",
    'pip install "$(ls dist/timbre-*.whl)[cpu,embedded]" --constraint constraints.txt': "the same",
    "timbre up": "the shared service stands for it; test_wheel.py runs the command",
}
OF_NPM = 'from "openai"'  # tests/serve/one/api/test_clients.py, where that package is installed
# Node's fetch does not raise for a refusal, and examples that checked each reply would be long.
_STRICT_FETCH = """data:text/javascript,
const plain = globalThis.fetch;
globalThis.fetch = async (...asked) => {
  const reply = await plain(...asked);
  if (!reply.ok) throw new Error(`${reply.status}: ${await reply.text()}`);
  return reply;
};"""


@dataclass(slots=True)
class Page:
    """A page of the documents, in the folder where its examples run.

    url: of the service. voices: the folder of its store.
    """

    name: str
    directory: Path
    url: str
    voices: Path

    def __post_init__(self) -> None:
        (self.directory / "pipeline").symlink_to(ROOT / "pipeline")  # as from the repository's top
        (self.directory / "voices").symlink_to(self.voices)
        (self.directory / ".curlrc").write_text("fail-with-body\nsilent\nshow-error\n")

    def run_all(self) -> list[str]:
        """Why examples could not run on this machine; the others did."""
        missing = {block.line: missing_for(block) for block in programs(self.name)}
        for block in programs(self.name):
            if not missing[block.line]:
                self.run(block)
        return [why for why in missing.values() if why]

    def run(self, block: Block) -> None:
        """A block fails as a program does, or by audio that is none. Raises AssertionError."""
        block = replace(block, text=block.text.replace(SHOWN_URL, self.url))
        if block.language == "python":
            self._run_python(block)
        elif block.language == "javascript":
            program = self.directory / f"line_{block.line}.mjs"
            program.write_text(block.text)
            self._run(["node", "--import", _STRICT_FETCH, program.name], block)
        elif commands := self._commands(block):
            self._run(["bash", "-euo", "pipefail", "-c", self._with_variables(commands)], block)
        for path in sorted(self.directory.iterdir()):
            if path.suffix in AUDIO:
                require_speech(path)
                path.unlink()

    def _commands(self, block: Block) -> list[str]:
        """Of a block from which nothing is left out: the block, comments, loops and all."""
        if not any(left in block.text for left in NOT_HERE):
            return [block.text]
        return [command for command in block.commands if command not in NOT_HERE]

    def _with_variables(self, commands: list[str]) -> str:
        """Later blocks of a page know the variables of earlier ones."""
        kept = "variables.sh"
        lines = [f"if [ -e {kept} ]; then . ./{kept}; fi", *commands]
        return "\n".join(
            [*lines, "", f"declare -p | grep -E '^declare -- [A-Z]+=' > {kept} || true"]
        )

    def _run(self, command: list[str], block: Block) -> None:
        here = Path(sys.executable).parent
        variables = {
            **os.environ,
            "PATH": f"{here}{os.pathsep}{os.environ['PATH']}",
            "CURL_HOME": str(self.directory),
        }
        done = subprocess.run(
            command,
            cwd=self.directory,
            env=variables,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        assert done.returncode == 0, f"{self.name}:{block.line}\n{done.stdout}{done.stderr}"

    def _run_python(self, block: Block) -> None:
        """In this process, where what it imports is loaded already."""
        code = compile(block.text, f"{self.name}:{block.line}", "exec")
        with chdir(self.directory), warnings.catch_warnings():
            warnings.simplefilter("error")
            exec(code, {"__name__": "__main__"})  # noqa: S102 - the documents' own


def programs(name: str) -> list[Block]:
    """The blocks of a page that are programs, but those that need a package of npm's."""
    found = [one for one in blocks(name) if one.language in {"bash", "python", "javascript"}]
    return [one for one in found if OF_NPM not in one.text]


def missing_for(block: Block) -> str:
    """Why a block cannot run on this machine; empty where it can."""
    needs = {"bash": "curl", "javascript": "node"}.get(block.language)
    if needs is None or shutil.which(needs):
        return ""
    return f"there is no {needs} on this machine"


def require_speech(path: Path, least_s: float = LEAST_S) -> None:
    """Audio that lasts, and is not silent."""
    samples, rate_hz = decoded(path.read_bytes())
    assert len(samples) > least_s * rate_hz, path.name
    assert abs(samples).max() > 1e-3, path.name
