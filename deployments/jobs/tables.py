"""Tables of rows: comma-separated values with a line of names at the top."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from pipeline.errors import MAX_FOUND, InputError

TEXT = "text"
COLUMNS = (TEXT, "voice", "edits", "speed", "seed", "pause_s")
_MARKS = ",;\t|"


def is_table(text: str) -> bool:
    """Whether a text is one: its first line names columns, `text` among them."""
    names = _names(text)
    return TEXT in names and set(names) <= set(COLUMNS)


def read_table(text: str, param: str) -> list[dict[str, str]]:
    """Rows by the names of their columns, cells that are empty left out; empty lines are no rows.

    Raises InputError naming `param`, and the row.
    """
    names = _names(text)
    if TEXT not in names:
        raise InputError(
            f"{param}: the first line names the columns, {TEXT} among them; found "
            f"{', '.join(names)[:MAX_FOUND]!r}, known: {', '.join(COLUMNS)}",
            param=param,
        )
    unknown = [name for name in names if name not in COLUMNS]
    if unknown:
        raise InputError(
            f"{param}: no column is named {unknown[0][:MAX_FOUND]!r}; known: {', '.join(COLUMNS)}",
            param=param,
        )
    try:
        lines = list(csv.reader(io.StringIO(text.lstrip("\ufeff")), delimiter=_mark(text)))[1:]
    except csv.Error as error:
        raise InputError(f"{param} is no table: {error}", param=param) from error
    return [
        _row(names, cells, number, param)
        for number, cells in enumerate(lines, 2)
        if any(cell.strip() for cell in cells)
    ]


def _row(names: Sequence[str], cells: Sequence[str], number: int, param: str) -> dict[str, str]:
    if len(cells) > len(names):
        raise InputError(
            f"{param}: line {number} has {len(cells)} cells and there are {len(names)} columns: "
            'put a text that holds the separator into "…"',
            param=param,
        )
    return {name: cell.strip() for name, cell in zip(names, cells, strict=False) if cell.strip()}


def _names(text: str) -> list[str]:
    first = text.lstrip("\ufeff").partition("\n")[0].rstrip("\r")
    return [name.strip().strip('"').lower() for name in first.split(_mark(text))]


def _mark(text: str) -> str:
    """The separator: whichever the first line has most of."""
    first = text.partition("\n")[0]
    return max(_MARKS, key=first.count)
