"""Clips as text: base64 in its spellings, data: URIs, and nothing that has to be fetched."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployments.http.bodies import clip_text
from deployments.http.bodies.clip_text import clip_bytes
from pipeline.errors import InputError, UnsupportedError

pytestmark = pytest.mark.unit


@given(
    clip=st.binary(max_size=300),
    is_url_safe=st.booleans(),
    is_padded=st.booleans(),
    line=st.integers(1, 80),
    slice_chars=st.integers(1, 50),
)
def test_any_spelling_at_any_border(clip, is_url_safe, is_padded, line, slice_chars):
    text = (base64.urlsafe_b64encode if is_url_safe else base64.b64encode)(clip).decode()
    text = text if is_padded else text.rstrip("=")
    text = "\r\n".join(text[i : i + line] for i in range(0, len(text), line))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clip_text, "SLICE_CHARS", slice_chars)
        assert clip_bytes(text, "x") == clip
        assert clip_bytes(f"data:audio/wav;base64,{text}", "x") == clip


@pytest.mark.parametrize("slice_chars", [1, 3, 2**18])
@pytest.mark.parametrize(
    "text",
    ["Q", "QUI=QUI=", "QUI=Q", "not base64!", "Grüße", "QUI\N{GRINNING FACE}", "=QUI", "QUJ$"],
)
def test_what_is_none_is_refused(monkeypatch, text: str, slice_chars: int):
    monkeypatch.setattr(clip_text, "SLICE_CHARS", slice_chars)
    with pytest.raises(InputError, match="ref_audio is not valid base64") as caught:
        clip_bytes(text, "ref_audio")
    assert caught.value.param == "ref_audio"


@pytest.mark.parametrize(
    ("uri", "clip"),
    [
        ("data:,a%20b", b"a b"),
        ("data:;base64,", b""),
        ("data:audio/wav;codecs=1; BASE64 ,QUI", b"AB"),
        ("Data:audio/x-wav;name=a%2Cb;base64,QUI%3D", b"AB"),
    ],
)
def test_data_uris(uri: str, clip: bytes):
    assert clip_bytes(uri, "x") == clip


def test_a_data_uri_without_data():
    with pytest.raises(InputError, match="comma"):
        clip_bytes("data:audio/wav;base64", "x")


@pytest.mark.parametrize(
    "address",
    ["http://a/b", "HTTPS://a/b", " https://a", "file:/etc/passwd", "s3://a/b", "ftp://a"],
)
def test_addresses_are_not_fetched(address: str):
    with pytest.raises(UnsupportedError, match="not fetched"):
        clip_bytes(address, "x")
