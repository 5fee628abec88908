"""`timbre verify`: whether an audio file is marked as synthetic."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Annotated

import typer

from deployments.config.marks.mark_settings import MarkSettings
from deployments.marks.checks import Checked, check
from deployments.marks.search import MarkSearch
from pipeline.cli import EXIT_FAILED, one_line_errors
from pipeline.errors import InputError


@one_line_errors
def verify(
    file: Annotated[Path, typer.Argument(help="Audio in any format that clips may have.")],
    is_json: Annotated[bool, typer.Option("--json", help="The whole report, as JSON.")] = False,
    seconds: Annotated[float, typer.Option(help="How much of it to listen to.")] = 600.0,
) -> None:
    """Say whether an audio file is marked as synthetic, by watermark or content credentials.

    Exit code 0 when a mark was found, 1 when none was, 2 when the file cannot be checked.
    """
    try:
        data = file.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror}") from error
    found = asyncio.run(check(data, MarkSearch(MarkSettings()), seconds))
    typer.echo(json.dumps(found.report(), indent=1) if is_json else _said(file, found))
    if not found.is_synthetic:
        raise typer.Exit(EXIT_FAILED)


def _said(file: Path, found: Checked) -> str:
    mark = found.mark
    word = "watermark found" if mark.is_marked else "no watermark found"
    line = f"{file}: {word} (score {mark.score:.2f}, {mark.marked_s:.1f} of {mark.heard_s:.1f} s)"
    if found.told is None:
        return line
    return f"{line}; content credentials: {found.told['validation_state'].replace('_', ' ')}"
