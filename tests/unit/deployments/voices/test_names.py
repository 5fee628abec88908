"""Names of uploaded voices: never paths, and never a built-in one in disguise."""

from __future__ import annotations

import pytest

from deployments.config.settings import VoiceSettings
from deployments.voices.names import MAX_NAME_CHARS, checked_name, name_key
from pipeline.errors import InputError
from pipeline.voice_list import load_voices

pytestmark = pytest.mark.unit
RESERVED = (*load_voices(), *VoiceSettings().aliases, "default")

PATHS = (
    "../x", "a/b", "..", ".", "/", "\\", "a\\b", "..\\x", "/etc/passwd", "x/../../y", "a\u2044b",
    "\uff0e\uff0e\uff0fx", "a\uff0fb", "a\u2215b", "~/",
)  # fmt: skip
UNSEEN = (
    "a\0b", "\0", "a\nb\x07", "zero\u200bwidth", "right\u202eleft", "a\ufeffb", "soft\u00adhyphen",
    "\ud800", "private\ue000", "line\u2028break",
)  # fmt: skip
DISGUISED = (
    "aria", "ARIA", " Aria ", "\u0430ria", "ari\u0430", "\uff41\uff52\uff49\uff41", "\u00e1ria",
    "ar\u0131a", "a r i a", "a-ria", "aria.", "e1ena", "brun0", "\u0432runo",
    "alloy", "al1oy", "\u0430ll\u043ey", "default", "\U0001d41a\U0001d42b\U0001d422\U0001d41a",
    "h\u03c5g\u03bf", "\u03b1r\u03b9\u03b1", "\u0441l\u0430ra",
)  # fmt: skip


@pytest.mark.parametrize("name", [*PATHS, *UNSEEN])
def test_a_name_is_never_a_path_nor_unseen(name: str):
    with pytest.raises(InputError) as caught:
        checked_name(name, RESERVED)
    assert caught.value.param == "name"
    assert caught.value.message.isascii()


@pytest.mark.parametrize("name", DISGUISED)
def test_a_built_in_voice_cannot_be_shadowed(name: str):
    with pytest.raises(InputError, match=r"looks like|several scripts"):
        checked_name(name, RESERVED)


@pytest.mark.parametrize(
    "name", ["", "   ", "!!!", "\u2014", "x" * (MAX_NAME_CHARS + 1), "x" * 1_000]
)
def test_a_name_says_something_and_is_short(name: str):
    with pytest.raises(InputError) as caught:
        checked_name(name, RESERVED)
    assert len(caught.value.message) < 400


@pytest.mark.parametrize("name", ["voice_1", "Voice_abc", "cons_0", "CONS_x"])
def test_a_name_does_not_look_like_an_id(name: str):
    with pytest.raises(InputError, match="looks like an id"):
        checked_name(name, RESERVED)


@pytest.mark.parametrize(
    "name",
    [
        "Maria", "Zo\u00eb", "O'Brien", "narrator (calm)", "\u5f20\u4f1f", "7 of 9", "a.b",
        "\u041c\u0430\u0440\u0438\u044f", "\u0391\u03bb\u03ad\u03be\u03b7\u03c2", "me@example.org",
        "x" * MAX_NAME_CHARS, "\u3042\u304d\u5b50", "\U0001f600 Joe", "arianna",
    ],
)  # fmt: skip
def test_ordinary_names_are_kept_as_they_are_written(name: str):
    assert checked_name(name, RESERVED).shown == name


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Maria", " MARIA "), ("Zoe\u0308", "zo\u00eb"), ("a  b", "A b"), ("\uff2d\uff41x", "max"),
        ("STRASSE", "stra\u00dfe"),
    ],
)  # fmt: skip
def test_spellings_of_one_name_are_equal(one: str, other: str):
    assert name_key(one) == name_key(other) == checked_name(one, RESERVED).key


def test_other_names_are_other_names():
    assert len({name_key(name) for name in ("Maria", "Mar\u00eda", "Mario", "Maria 2")}) == 4


@pytest.mark.parametrize("name", ["Zoя", "Иvan", "Zoë Σmith", "Ivan Иван"])
def test_a_name_is_of_one_script(name: str):
    with pytest.raises(InputError, match="mixes letters of several scripts"):
        checked_name(name, ("aria",))
