"""Commands that the documents name exist; the examples themselves run in the serve tier."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator

import pytest
import typer.main

from deployments.cli import app
from tests.conftest import ROOT
from tests.readme_blocks import blocks, code_spans

pytestmark = pytest.mark.unit
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (ROOT / "docs").glob("**/*.md")
    if path.parent.name != "decisions"  # each as it was on its day
)
DOCUMENTS = ("README.md", "CONTRIBUTING.md", "SECURITY.md", *PAGES)
TIERS = ("unit", "parity", "serve", "chaos")


def commands(document: str, program: str) -> Iterator[list[str]]:
    """Words after `program`, wherever the document shows it."""
    shown = code_spans(document)
    for block in blocks(document):
        if block.language == "bash":
            shown += block.commands
    for command in shown:
        name, _, rest = command.removeprefix(".venv/bin/").partition(" ")
        if name == program and rest:
            yield rest.split()


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_timbre_command_exists(document: str):
    root = typer.main.get_command(app)
    for words in commands(document, "timbre"):
        group = root
        for word in (word for word in words if word not in {"·", "…"}):
            known = getattr(group, "commands", {})
            if not known or word.startswith("-"):  # arguments and options follow
                break
            assert word in known, f"timbre {' '.join(words)}"
            if getattr(known[word], "commands", None):
                group = known[word]
            elif "·" not in words:
                break


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_make_target_exists(document: str):
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    assert {words[0] for words in commands(document, "make")} <= targets


def test_make_help_names_every_tier():
    done = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    named = {line.split()[0] for line in done.stdout.splitlines() if line.strip()}
    assert {*TIERS, "fast", "test", "check", "help"} <= named


def test_the_readme_has_examples_of_both_kinds():
    assert {block.language for block in blocks("README.md")} == {"", "bash", "python"}
