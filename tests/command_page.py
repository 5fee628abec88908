"""`docs/cli.md`, made of the commands themselves: `python -m tests.command_page`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer.main
from typer.core import TyperGroup

from deployments.cli import app
from pipeline.cli import MEANS
from tests.conftest import ROOT
from tests.documents.cells import cell

PAGE = ROOT / "docs" / "cli.md"
MADE = "## How a command ends\n"
CODES = "\n| exit code | means |\n|---|---|\n"


def page() -> str:
    """The whole of it: the prose that stands there, and behind it what is made."""
    prose, _, _ = PAGE.read_text(encoding="utf-8").partition(MADE)
    codes = "".join(f"| {code.value} | {means} |\n" for code, means in MEANS.items())
    root = typer.main.get_command(app)
    return prose + MADE + CODES + codes + "".join(_told(root, ("timbre",)))


def _told(command: Any, names: tuple[str, ...]) -> Iterator[str]:
    if isinstance(command, TyperGroup):
        for name, below in command.commands.items():
            yield from _told(below, (*names, name))
        return
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    options = [one for one in command.params if one.param_type_name == "option"]
    shown = [_metavar(one) for one in arguments]
    yield f"\n## {' '.join(names)}\n\n{_sentences(command.help)}\n\n"
    yield f"`{' '.join([*names, *shown])}`\n\n| option | |\n|---|---|\n"
    for one, metavar in zip(arguments, shown, strict=True):
        yield f"| `{metavar}` | {_cell(one.help)} |\n"
    for one in options:
        names_of = ", ".join(f"`{name}`" for name in (*one.opts, *one.secondary_opts))
        variable = f"; `{one.envvar}`" if one.envvar else ""
        usual = one.default
        is_told = usual not in (None, False, "", ()) and not callable(usual)
        default = f"; as usual `{usual}`" if is_told else ""
        needed = "; needed" if one.required else ""
        yield f"| {names_of} | {_cell(one.help)}{default}{variable}{needed} |\n"


def _metavar(argument: Any) -> str:
    name = argument.metavar or (argument.name or "").upper()
    return name if argument.required else f"[{name}]"


def _sentences(text: str | None) -> str:
    """A docstring's paragraphs, each on one line."""
    paragraphs = (text or "").strip().split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def _cell(text: str | None) -> str:
    return cell(text or "").rstrip(".")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
