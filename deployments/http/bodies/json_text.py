"""JSON as clients send it: in any Unicode encoding, with a byte order mark or without."""

from __future__ import annotations

import codecs
import json
from typing import Any, NoReturn

from pydantic_core import from_json

from pipeline.errors import InputError

# Charsets that are accepted where the bytes are no UTF-8; other codecs are refused.
LEGACY_CHARSETS = (
    "ascii", "iso8859-1", "iso8859-15", "cp1250", "cp1251", "cp1252", "koi8-r", "big5", "gbk",
    "gb2312", "gb18030", "shift_jis", "cp932", "euc_jp", "euc_kr",
)  # fmt: skip


def read_json(content: bytes, charset: str = "", name: str = "body") -> Any:
    """Parse `content`.

    charset: from the Content-Type, if it names one; UTF-8 and the byte order marks of UTF-16 and 32
    take precedence. name: of `content` in messages about it. Lone surrogates pass, NaN and Infinity
    do not. Raises InputError.
    """
    encoding = json.detect_encoding(content)
    try:
        if encoding in {"utf-8", "utf-8-sig"}:
            return _read_utf8(content.removeprefix(codecs.BOM_UTF8), charset)
        return _parsed(content.decode(encoding).removeprefix("\ufeff"))
    except UnicodeDecodeError as error:
        raise InputError(f"the {name} {_not_text(error)}", param=name) from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"the {name} is not valid JSON: {error}", param=name) from error


def read_text(content: bytes, charset: str = "") -> str:
    """The text of a form's field, decoded as `read_json` does. Raises InputError."""
    if _is_utf8(content):
        return content.decode("utf-8-sig")
    try:
        return content.decode(_legacy(charset))
    except UnicodeDecodeError as error:
        raise InputError(f"a field of the form {_not_text(error)}", param="body") from error


def _read_utf8(content: bytes, charset: str) -> Any:
    try:
        return _parsed(content)
    except ValueError:
        if _is_utf8(content):
            raise
    return _parsed(content.decode(_legacy(charset)))


def _not_text(error: UnicodeDecodeError) -> str:
    found = error.object[error.start]
    return (
        f"is not valid {error.encoding}: byte 0x{found:02x} at position {error.start}; send UTF-8"
    )


def _is_utf8(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


def _legacy(charset: str) -> str:
    """The codec to decode with; UTF-8 unless the charset is an allowed one."""
    try:
        name = codecs.lookup(charset).name if charset else "utf-8"
    except (LookupError, ValueError):  # ValueError: a NUL in its name
        return "utf-8"
    return name if name in LEGACY_CHARSETS else "utf-8"


def _parsed(source: bytes | str) -> Any:
    try:
        return from_json(source, allow_inf_nan=False)
    except ValueError as error:
        if "hex escape" not in str(error):
            raise
    # A lone surrogate: the fast parser refuses it; the field's owner gives a better message.
    return json.loads(source, parse_constant=_refuse)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON number")
