"""What a form may cost: so many parts, and text in a charset of a few."""

from __future__ import annotations

import pytest

from deployments.http.bodies.forms import (
    MAX_PARTS,
    URLENCODED,
    Label,
    read_multipart,
    read_urlencoded,
)
from deployments.http.bodies.json_text import read_text
from pipeline.errors import InputError
from tests.unit.deployments.http.bodies.sent import FORM, form, part

pytestmark = pytest.mark.unit


def test_a_form_has_so_many_parts():
    parts = [part("input", b"x") for _ in range(MAX_PARTS + 1)]
    assert len(read_multipart(form(*parts[1:]), Label.of(FORM))) == MAX_PARTS
    with pytest.raises(InputError, match=f"more than {MAX_PARTS} parts"):
        read_multipart(form(*parts), Label.of(FORM))


def test_an_urlencoded_form_has_as_many():
    label = Label(URLENCODED)
    assert len(read_urlencoded(b"&".join([b"a=b"] * MAX_PARTS), label)) == MAX_PARTS
    with pytest.raises(InputError, match="Max number of fields"):
        read_urlencoded(b"&".join([b"a=b"] * (MAX_PARTS + 1)), label)


@pytest.mark.parametrize("charset", ["utf-7", "idna", "punycode", "unicode_escape", "hex"])
def test_a_charset_is_one_of_a_few(charset: str):
    """Some codecs take quadratic time, some make no text of what they read."""
    with pytest.raises(InputError, match="send UTF-8"):
        read_text(b"\xff\\x41", charset)


@pytest.mark.parametrize("charset", ["a\0b", "\0", "\udcff", "x" * 10_000])
def test_a_charsets_name_may_be_anything(charset: str):
    with pytest.raises(InputError, match="send UTF-8"):
        read_text(b"\xff", charset)
