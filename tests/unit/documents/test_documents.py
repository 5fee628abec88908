"""docs/ is held to the code: generated parts, links, commands, settings, shown JSON and YAML.

What talks to a service runs in tests/serve/one/api/test_documents.py.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator

import pytest
import yaml
from markdown_it import MarkdownIt
from typer.testing import CliRunner

from deployments.cli import app
from deployments.config.settings import Settings, load_settings
from deployments.doctor import exposure
from deployments.doctor.findings import Level
from tests.conftest import ROOT
from tests.documents import examples
from tests.documents.audio import CHAIN, FOLDER, SPOKEN
from tests.documents.pages import PAGES, renewed
from tests.documents.site import entries, expanded, on_page_content, on_page_markdown
from tests.documents.troubleshooting_page import said_by
from tests.http_app import http_app
from tests.readme_blocks import Block, blocks, code_spans

pytestmark = pytest.mark.unit
WRITTEN = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))
DOCUMENTS = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", *WRITTEN)
LANGUAGES = {"", "bash", "python", "javascript", "json", "yaml"}
RUN_ELSEWHERE = {
    "docs/cli.md": "tests/serve/one/api/test_commands.py",
    "docs/edge.md": "tests/unit/deploy/test_documents.py",
    "docs/keys.md": "here",
    "docs/websocket.md": "tests/serve/one/api/test_websocket.py",
}
RUNBOOKS = "docs/operations/"  # tests of their own run what they show
SHOWN = [
    (name, block) for name in DOCUMENTS if not name.startswith(RUNBOOKS) for block in blocks(name)
]


def of_language(language: str) -> list[tuple[str, Block]]:
    return [(name, block) for name, block in SHOWN if block.language == language]


@pytest.mark.parametrize("path", PAGES)
def test_a_generated_part_is_that_of_the_code(path: str):
    is_current = (ROOT / path).read_text(encoding="utf-8") == renewed(path)
    assert is_current, f"{path} is not what the code says: python -m tests.documents"


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_file_that_is_linked_is_there(name: str):
    missing = [one for one in links(name) if one and not ((ROOT / name).parent / one).exists()]
    assert not missing


def links(name: str) -> Iterator[str]:
    """Paths, without the place in them; addresses of the web aside."""
    text = (ROOT / name).read_text(encoding="utf-8")
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        for child in token.children or ():
            target = str(child.attrs.get("href") or child.attrs.get("src") or "")
            if not re.match("[a-z]+:", target):
                yield target.partition("#")[0]


def test_only_known_languages_are_shown():
    """Each has a test that runs it, or reads it; a drawing has none."""
    assert {block.language for _, block in SHOWN} <= LANGUAGES


def test_every_program_that_is_shown_is_run_by_a_test():
    pages = {name for name, block in SHOWN if block.language in {"bash", "python", "javascript"}}
    assert pages <= {*examples.PAGES, *RUN_ELSEWHERE}


@pytest.mark.parametrize(("name", "block"), of_language("yaml"))
def test_settings_that_are_shown_are_settings(name: str, block: Block, tmp_path, monkeypatch):
    shown = yaml.safe_load(block.text)
    monkeypatch.chdir(tmp_path)
    load_settings(shown.get("args", shown))


@pytest.mark.parametrize(("name", "block"), of_language("json"))
async def test_json_that_is_shown_is_json_and_a_body_is_taken(name: str, block: Block):
    for line in re.split(r"\n(?=\{)", block.text.strip()):
        shown = json.loads(line)
        if "input" in shown:
            async with http_app() as service:
                await service.spoken(**shown)


async def test_the_error_that_is_shown_is_what_a_client_gets():
    [shown] = [block.text for block in blocks("docs/api/index.md") if block.language == "json"]
    async with http_app() as service:
        assert (await service.speak(voice="nobody")).json() == json.loads(shown)


def test_settings_that_are_named_exist():
    unknown = [
        f"{name}: {'.'.join(path)}"
        for name in WRITTEN
        if name not in PAGES and not name.startswith(("docs/decisions/", RUNBOOKS))
        for span in code_spans(name)
        if re.fullmatch(r"[a-z_]+(\.[a-z_0-9]+)+", path_of(span))
        and (path := path_of(span).split("."))[0] in SECTIONS
        and path[-1] not in {"py", "yaml", "json", "md"}
        and not is_setting(path)
    ]
    assert not unknown


SECTIONS = {
    name: field.annotation
    for name, field in Settings.model_fields.items()
    if hasattr(field.annotation, "model_fields")
}


def path_of(span: str) -> str:
    """Of `cache.url: none` the part before its value."""
    return span.partition(":")[0].partition(" ")[0]


def is_setting(path: list[str]) -> bool:
    fields = Settings.model_fields
    for key in path:
        if key not in fields:
            return False
        inner = fields[key].annotation
        fields = getattr(inner, "model_fields", None) or {}
        if not fields:
            return True
    return True


def test_keys_are_made_as_it_is_shown(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TIMBRE_CACHE__URL", str(tmp_path / "store"))
    (tmp_path / "serve_config.yaml").write_text((ROOT / "serve_config.yaml").read_text())
    [block] = [one for one in blocks("docs/keys.md") if one.language == "bash"]
    runner, shown_id, made = CliRunner(), "8f14e45fceea167a", ""
    for command in block.commands:
        words = command.replace(shown_id, made or shown_id).split()
        assert words[0] == "timbre"
        done = runner.invoke(app, words[1:])
        assert done.exit_code == 0, f"{command}: {done.output}"
        if words[2] == "create":
            made = done.stdout.strip().removeprefix("tk_")[: len(shown_id)]


def test_every_page_is_in_the_navigation_once():
    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    pages = [name.removeprefix("docs/") for name in WRITTEN]
    assert sorted(entries(expanded(nav, pages))) == pages


def test_a_pattern_takes_what_nobody_names_and_an_empty_section_goes():
    nav = ["index.md", {"A": ["a/one.md", "a/*.md"]}, {"B": ["b/*.md"]}]
    pages = ["a/one.md", "a/two.md", "index.md"]
    assert expanded(nav, pages) == ["index.md", {"A": ["a/one.md", "a/two.md"]}]


def test_one_request_in_two_languages_is_two_tabs():
    curl, python = "```bash\ncurl x\n```\n", "```python\nx()\n```\n"
    tabs = on_page_markdown(f"Before.\n\n{curl}\n{python}\nAfter.\n")
    assert tabs == (
        'Before.\n\n=== "curl"\n\n    ```bash\n    curl x\n    ```\n\n'
        '=== "Python"\n\n    ```python\n    x()\n    ```\n\nAfter.\n'
    )
    assert on_page_markdown(curl + "\n" + curl) == curl + "\n" + curl


def test_a_link_to_audio_becomes_a_player():
    shown = on_page_content('<p><a href="audio/a.mp3">A voice</a> <a href="a.html">page</a></p>')
    assert '<audio controls preload="none" src="audio/a.mp3">' in shown
    assert '<a href="a.html">page</a>' in shown


def test_audio_is_what_its_command_makes_and_small():
    files = {path.name: path.stat().st_size for path in FOLDER.iterdir()}
    assert files.keys() == {*SPOKEN, *CHAIN, "bruno.mp3"}
    assert sum(files.values()) < 1_000_000


def test_what_a_check_says_is_read_from_its_source():
    said = {one.level: one for one in said_by(exposure.keys)}
    assert "keys are off, and the service is to listen on *host*" in said[Level.FAULT].found
    assert "`timbre keys create`" in said[Level.FAULT].remedy
    token = [one.remedy for one in said_by(exposure.ray_token)]
    assert any("start Ray with RAY_AUTH_MODE=token" in remedy for remedy in token)


@pytest.mark.slow
def test_the_pages_are_built_without_a_dead_link_and_ask_nobody(tmp_path):
    built = tmp_path / "docs"
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--site-dir", str(built)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    page = (built / "edits.html").read_text(encoding="utf-8")
    assert 'src="audio/edit_1_clone.mp3"' in page
    assert not re.findall(r'(?:src|href)="(https?://[^"]+\.(?:js|css|woff2?|png))', page)
    shutil.rmtree(built)
