"""Keys: golden values, every ingredient counts, no two kinds or field lists collide."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from cache_store.keys import (
    AliasKey,
    EntryPath,
    SpeechKey,
    VoiceKey,
    digest,
    fingerprint,
    parse_path,
    raw_key,
)

pytestmark = pytest.mark.unit

A, B = "aa" * 32, "bb" * 32


def test_golden_keys_never_change():
    """A change here abandons every record that is stored anywhere."""
    assert raw_key(b"RIFF....") == GOLDEN["raw"]
    assert VoiceKey("shared", A, B).digest == GOLDEN["voice"]
    assert AliasKey("shared", A, B).digest == GOLDEN["alias"]
    assert fingerprint("decode", {"rate": "24000", "library": "av 15"}) == GOLDEN["fingerprint"]


def test_paths():
    voice, alias = VoiceKey("team-1", A, B), AliasKey("team-1", A, B)
    d = voice.digest
    assert voice.path == f"v1/{B[:16]}/team-1/{d[:2]}/{d}.sva"
    assert alias.path == f"v1/alias/{B[:16]}/team-1/{alias.digest[:2]}/{alias.digest}.sva"


@pytest.mark.parametrize("kind", [VoiceKey, AliasKey])
def test_each_ingredient_changes_the_key(kind):
    keys = [kind("shared", A, B), kind("other", A, B), kind("shared", B, B), kind("shared", A, A)]
    assert len({key.digest for key in keys}) == 4
    assert len({key.path for key in keys}) == 4


def test_kinds_and_field_borders_do_not_collide():
    assert digest("a", b"xy") != digest("b", b"xy")
    assert digest("a", b"x", b"y") != digest("a", b"xy") != digest("a", b"xy", b"")
    assert raw_key(b"x") != digest("pcm", b"x")
    assert VoiceKey("shared", A, B).digest != AliasKey("shared", A, B).digest


def test_fingerprint_ignores_order_and_covers_names_and_values():
    base = fingerprint("enc", {"a": "1", "b": "2"})
    assert fingerprint("enc", {"b": "2", "a": "1"}) == base
    assert fingerprint("enc", {"a": "2", "b": "1"}) != base
    assert fingerprint("enc", {"a": "1"}) != base
    assert fingerprint("decode", {"a": "1", "b": "2"}) != base


@pytest.mark.parametrize("namespace", ["", "../x", "A", "a/b", "-a", "a" * 64, "a b", "ä"])
def test_a_namespace_that_could_not_stand_in_a_path_is_refused(namespace):
    with pytest.raises(ValueError, match=re.escape(repr(namespace))):
        VoiceKey(namespace, A, B)


@pytest.mark.parametrize("bad", ["", "abc", "AA" * 32, "../../etc", "a" * 200])
def test_a_digest_that_is_not_hex_is_refused(bad):
    with pytest.raises(ValueError, match="clip"):
        VoiceKey("shared", bad, B)
    with pytest.raises(ValueError, match="decode_fingerprint"):
        AliasKey("shared", A, bad)


GOLDEN = {
    "raw": "897fff6de2ff4bb19af6cf22494cba55e62f2efb19ac82e51a0fdc564dc2610f",
    "voice": "f08c8e8b2949f73e58314402f8bcce427210fae22d63ea99fcf001733f5f2889",
    "alias": "0d816b3470b315bd5dd1dcb1185322aa782bc19ea254b67ded607a35d2418c59",
    "fingerprint": "07b483d3b3e3f66ba226ba005ea93de695438fd71a5d14ccf82304e9058f603f",
}


SPOKEN = SpeechKey(
    VoiceKey("shared", "ab" * 32, "cd" * 32),
    "clone",
    "",
    "One two.",
    "Hi.",
    (("seed", "7"), ("temperature", "None")),
    "ef" * 32,
)


@pytest.mark.parametrize(
    "change",
    [
        {"voice": VoiceKey("team-1", "ab" * 32, "cd" * 32)},
        {"voice": VoiceKey("shared", "ac" * 32, "cd" * 32)},
        {"voice": VoiceKey("shared", "ab" * 32, "ce" * 32)},
        {"mode": "emotion"},
        {"info": "happy"},
        {"text": "One two"},
        {"transcript": "Ho."},
        {"drawn": (("seed", "8"), ("temperature", "None"))},
        {"drawn": (("seed", "7"), ("temperature", "0.7"))},
        {"model_fingerprint": "ee" * 32},
        {"is_marked": True},
    ],
)
def test_every_ingredient_changes_the_key_of_speech(change):
    assert replace(SPOKEN, **change).digest != SPOKEN.digest


def test_speech_is_named_by_content_and_lies_with_its_clip():
    same = replace(SPOKEN, drawn=tuple(reversed(SPOKEN.drawn)))
    assert same.digest == SPOKEN.digest
    assert SPOKEN.digest == "f02768492d0c6445f8bfaf232c6f0bc031135ab138ccc7afd76a3153be1a6547"
    assert SPOKEN.owner == SPOKEN.voice.owner
    assert SPOKEN.owner in SPOKEN.path
    assert parse_path(SPOKEN.path) == EntryPath("speech", "ef" * 8, "shared", SPOKEN.digest)
    assert parse_path(SPOKEN.path.replace("/speech/", "/alias/")) is None
    with pytest.raises(ValueError, match="model_fingerprint"):
        replace(SPOKEN, model_fingerprint="../..")
