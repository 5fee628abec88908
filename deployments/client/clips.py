"""What a command's option names: a file, standard input, or a word of the caller's."""

from __future__ import annotations

import sys
from pathlib import Path

from deployments.client.outlets import STDIO
from pipeline.errors import InputError


def read_file(file: Path, what: str) -> bytes:
    """All of it; `-` is standard input. what: it is, for the message.

    Raises InputError when it cannot be read, or is empty.
    """
    try:
        data = sys.stdin.buffer.read() if file == STDIO else file.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {what} {file}: {error.strerror}") from error
    if not data:
        raise InputError(f"{what} {file} is empty")
    return data


def read_words(said: str) -> str:
    """The text itself; `-` is standard input. Raises InputError for what is no UTF-8."""
    if said != str(STDIO):
        return said
    try:
        return read_file(STDIO, "the text").decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError("the text on standard input is no UTF-8") from error


def clip_file(voice: str) -> Path | None:
    """The file that a voice's option names; None for a voice's name.

    Raises InputError for a file that is not there.
    """
    file = Path(voice)
    if file == STDIO or file.is_file():
        return file
    if file.suffix or len(file.parts) > 1:
        raise InputError(f"cannot read the clip {voice}: no such file")
    return None
