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
from collections.abc import Iterator
from contextlib import chdir
from dataclasses import dataclass, field
from pathlib import Path

from tests.conftest import ROOT
from tests.readme_blocks import Block, blocks
from tests.serve.service_client import decoded

SHOWN_URL = "http://127.0.0.1:8000"
AUDIO = {".mp3", ".wav", ".opus", ".flac", ".aac"}
TIMEOUT_S = 240
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

    url: of the service. left_out: commands that run elsewhere, with the reason.
    """

    name: str
    directory: Path
    url: str
    left_out: dict[str, str] = field(default_factory=dict[str, str])

    def __post_init__(self) -> None:
        (self.directory / "pipeline").symlink_to(ROOT / "pipeline")  # as from the repository's top
        (self.directory / ".curlrc").write_text("fail-with-body\nsilent\nshow-error\n")

    def run(self, block: Block) -> None:
        """Raises AssertionError with what a block said that failed."""
        text = block.text.replace(SHOWN_URL, self.url)
        if block.language == "python":
            self._run_python(text, block)
        elif block.language == "javascript":
            program = self.directory / f"line_{block.line}.mjs"
            program.write_text(text)
            self._run(["node", "--import", _STRICT_FETCH, program.name], block)
        elif block.language == "bash" and (commands := self._commands(block)):
            self._run(["bash", "-euo", "pipefail", "-c", self._with_variables(commands)], block)

    def new_audio(self) -> Iterator[Path]:
        """What the last block made, that plays; removed afterwards."""
        for path in sorted(self.directory.iterdir()):
            if path.suffix in AUDIO and not path.is_symlink():
                yield path
                path.unlink()

    def _commands(self, block: Block) -> list[str]:
        """Of a block from which nothing is left out: the block, comments, loops and all."""
        if not any(left in block.text for left in self.left_out):
            return [block.text]
        return [command for command in block.commands if command not in self.left_out]

    def _with_variables(self, commands: list[str]) -> str:
        """Later blocks of a page know the variables of earlier ones."""
        kept = "variables.sh"
        lines = [f"if [ -e {kept} ]; then . ./{kept}; fi", *commands]
        return "\n".join(
            [*lines, "", f"declare -p | grep -E '^declare -- [A-Z]+=' > {kept} || true"]
        )

    def _run(self, command: list[str], block: Block) -> None:
        ours = [part.replace(SHOWN_URL, self.url) for part in command]
        here = Path(sys.executable).parent
        variables = {
            **os.environ,
            "PATH": f"{here}{os.pathsep}{os.environ['PATH']}",
            "CURL_HOME": str(self.directory),
        }
        done = subprocess.run(
            ours,
            cwd=self.directory,
            env=variables,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        assert done.returncode == 0, f"{self.name}:{block.line}\n{done.stdout}{done.stderr}"

    def _run_python(self, text: str, block: Block) -> None:
        """In this process, where what it imports is loaded already."""
        code = compile(text, f"{self.name}:{block.line}", "exec")
        with chdir(self.directory), warnings.catch_warnings():
            warnings.simplefilter("error")
            exec(code, {"__name__": "__main__"})  # noqa: S102 - the documents' own


def examples(name: str) -> list[Block]:
    """The blocks of a page that are programs."""
    return [one for one in blocks(name) if one.language in {"bash", "python", "javascript"}]


def missing_for(block: Block) -> str:
    """Why a block cannot run on this machine; empty where it can."""
    needs = {"bash": "curl", "javascript": "node"}.get(block.language)
    if needs is None or shutil.which(needs):
        return ""
    return f"there is no {needs} on this machine"


def require_speech(path: Path) -> None:
    """Audio of half a second at least that is not silent."""
    samples, rate_hz = decoded(path.read_bytes())
    assert len(samples) > 0.3 * rate_hz, path.name
    assert abs(samples).max() > 1e-3, path.name
