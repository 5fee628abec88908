"""Forms: the parts of a multipart body, the fields of an urlencoded one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import parse_qsl

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import Field, File, FormParser, parse_options_header

from deployments.http.bodies.json_text import read_text
from pipeline.errors import InputError

MAX_PARTS = 64
MULTIPART = "multipart/form-data"
URLENCODED = "application/x-www-form-urlencoded"
_IN_MEMORY = {"MAX_MEMORY_FILE_SIZE": float("inf")}  # the edge bounds the whole body


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """One part of a form."""

    name: str
    content: bytes
    is_file: bool
    """It has a file name."""
    charset: str = ""
    """As the part's own Content-Type names it, else empty."""

    @property
    def text(self) -> str:
        """Raises InputError where the content is none."""
        return read_text(self.content, self.charset)


@dataclass(frozen=True, slots=True)
class Label:
    """A Content-Type header; each part is empty when it is missing."""

    kind: str = ""
    """Media type, lower case."""
    charset: str = ""
    boundary: bytes = b""

    @classmethod
    def of(cls, header: str) -> Label:
        kind, options = parse_options_header(header)
        charset = options.get(b"charset", b"").decode("latin-1")
        return cls(kind.decode("latin-1").lower(), charset, options.get(b"boundary", b""))


def is_multipart(content: bytes, label: Label) -> bool:
    """Whether a body is multipart: by its Content-Type, else by its first line."""
    return label.kind == MULTIPART or content.lstrip()[:2] == b"--"


def read_multipart(content: bytes, label: Label) -> Sequence[Part]:
    """Its parts in order, without those of a file field that was left empty.

    A Content-Type with a missing or wrong boundary (set by hand, as with fetch) is corrected.
    Raises InputError.
    """
    border = label.boundary
    if not border or b"--" + border not in content:
        border = content.lstrip().partition(b"\n")[0].strip()[2:]
    parts: list[Part] = []

    def add(name: bytes | None, content: bytes, kind: str | None, *, is_file: bool) -> None:
        if len(parts) == MAX_PARTS:
            raise FormParserError(f"more than {MAX_PARTS} parts")
        shown = (name or b"").decode("utf-8", errors="backslashreplace")
        parts.append(Part(shown.strip(), content, is_file, Label.of(kind or "").charset))

    def on_field(field: Field) -> None:
        add(field.field_name, field.value or b"", field.content_type, is_file=False)

    def on_file(file: File) -> None:
        file.file_object.seek(0)
        content = file.file_object.read()
        if content or file.file_name:
            add(file.field_name, content, file.content_type, is_file=True)

    try:
        parser = FormParser(MULTIPART, on_field, on_file, boundary=border, config=_IN_MEMORY)
        parser.write(content)
        parser.finalize()
    except (FormParserError, ValueError) as error:
        raise InputError(f"the form cannot be read: {error}", param="body") from error
    return parts


def read_urlencoded(content: bytes, label: Label) -> Sequence[Part]:
    """Its fields in order. Raises InputError."""
    try:
        pairs = parse_qsl(
            read_text(content, label.charset), keep_blank_values=True, max_num_fields=MAX_PARTS
        )
    except ValueError as error:
        raise InputError(f"the form cannot be read: {error}", param="body") from error
    return [Part(name.strip(), value.encode(), is_file=False) for name, value in pairs]
