"""Pronunciations: where they fit, in which order, and what is refused."""

from __future__ import annotations

import time

import pytest

from pipeline.errors import InputError
from pipeline.text import dictionary
from pipeline.text.dictionary import checked, fitting, in_order, pronounced
from pipeline.text.front_end import plain_words, two_language_words
from pipeline.text.options import Pronunciation, Reading
from pipeline.text.unicode_forms import composed

pytestmark = pytest.mark.unit


def word(written: str, said: str, **how: object) -> Pronunciation:
    return Pronunciation(written, said, **how)  # type: ignore[arg-type]


def pattern(written: str, said: str, **how: object) -> Pronunciation:
    return Pronunciation(written, said, is_regex=True, **how)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "entry", "said"),
    [
        ("Mr. Nguyen is here", word("Nguyen", "win"), "Mr. win is here"),
        ("NGUYEN nguyens", word("nguyen", "win"), "win nguyens"),
        ("US us", word("US", "U S", is_cased=True), "U S us"),
        ("concatenate a cat", word("cat", "dog"), "concatenate a dog"),
        ("cats, cat's", word("cat", "dog"), "cats, dog's"),
        ("New   York City", word("New York", "NYC"), "NYC City"),
        ("I use C++ and C", word("C++", "see plus plus"), "I use see plus plus and C"),
        ("重庆在重庆市", word("重庆", "崇庆"), "崇庆在崇庆市"),
        ("用API调用", word("API", "接口"), "用接口调用"),
        ("a.b axb", word("a.b", "x"), "x axb"),
        ("v1 v22", pattern(r"\bv(\d+)\b", r"version \1"), "version 1 version 22"),
        ("colour color", pattern(r"colou?r", "hue"), "hue hue"),
        ("2024-05", pattern(r"(?P<y>\d{4})-(?P<m>\d\d)", r"\g<m> of \g<y>"), "05 of 2024"),
        ("abc", pattern(r"x*", "!"), "abc"),
        ("[Sigh] sigh [pause:500ms]", word("sigh", "hm"), "[Sigh] hm [pause:500ms]"),
        ("500ms [pause:500ms]", pattern(r"\d+ms", "soon"), "soon [pause:500ms]"),
        ("", word("a", "b"), ""),
        ("chat", word("chat", "cat", language="zh"), "chat"),
        ("他说chat", word("chat", "聊天", language="zh"), "他说聊天"),
        ("caf\u00e9", word("cafe\u0301", "coffee house"), "coffee house"),
        ("the API", word("ＡＰＩ", "interface"), "the interface"),
    ],
)  # fmt: skip
def test_where_an_entry_fits(text: str, entry: Pronunciation, said: str) -> None:
    assert pronounced(text, [entry]) == said


def test_no_place_is_changed_twice_and_the_first_entry_wins() -> None:
    swap = [word("a", "b"), word("b", "a"), word("a", "never")]
    assert pronounced("a b", swap) == "b a"
    nested = in_order([pattern("New .*", "?"), word("New", "x"), word("New York", "y")])
    assert pronounced("New York, New Jersey", nested) == "y, x Jersey"


def test_it_comes_before_numbers_are_read_and_its_own_are() -> None:
    reading = Reading(pronunciations=(word("5G", "five gee"), word("XR-7", "XR 7")))
    assert (
        two_language_words("5G on an XR-7, 5 km", reading)
        == "five gee on an XR seven, five kilometers"
    )


def test_a_script_that_is_not_spoken_may_be_written_where_it_has_a_pronunciation() -> None:
    reading = Reading(pronunciations=(word("мир", "peace"), word("Привет", "hello")))
    assert plain_words("Привет, мир", reading) == "hello, peace"


def test_markup_around_a_word_is_no_part_of_it() -> None:
    reading = Reading(pronunciations=(word("SQL", "sequel"),))
    assert two_language_words("**SQL** and `SQL`", reading) == "sequel and sequel"
    assert two_language_words("<speak>SQL <break time='1s'/> SQL</speak>", reading) == (
        "sequel [pause:1000ms] sequel."
    )


@pytest.mark.parametrize(
    "entry",
    [
        pattern("(", "x"),
        pattern("a", r"\2"),
        pattern("a", r"\g<b>"),
        pattern("a{2,1}", "x"),
        word("  ", "x"),
        word("\u200b", "x"),
    ],
)
def test_an_entry_that_cannot_be_used_is_refused(entry: Pronunciation) -> None:
    with pytest.raises(InputError):
        checked(entry)


def test_expressions_that_run_away_are_stopped_and_named() -> None:
    evil = [pattern(r"(?:a|aa)+$", "x", label="pronunciation.3")]
    started_s = time.monotonic()
    with pytest.raises(InputError, match=r"take too long for this text, at pronunciation\.3"):
        pronounced("a" * 32 + "!", evil)  # for some seconds where nobody stops them, not for ever
    assert time.monotonic() - started_s < 5.0


def test_an_expression_that_runs_away_of_itself_is_refused_as_it_is_written() -> None:
    started_s = time.monotonic()
    with pytest.raises(InputError, match="takes too long"):
        checked(pattern("((?R)|a)*", "x"))
    assert time.monotonic() - started_s < 5.0


def test_a_text_grows_within_bounds() -> None:
    with pytest.raises(InputError, match="grows beyond"):
        pronounced("a " * 2000, [word("a", "b" * 500)])


def test_where_an_entry_comes_from_is_no_part_of_how_a_text_is_read() -> None:
    """Readings are part of keys: another entry before it makes it no other one."""
    kept = [word("a", "b", label=f"pron_1.entries.{at}") for at in (3, 4)]
    assert kept[0] == kept[1]
    assert repr(Reading(pronunciations=(kept[0],))) == repr(Reading(pronunciations=(kept[1],)))


def test_entries_that_cannot_fit_are_left_out() -> None:
    assert fitting("Paris", [word("Ｐａｒｉｓ", "x")]) == (word("Ｐａｒｉｓ", "x"),)
    entries = [word("Paris", "x"), word("New York", "y"), pattern("z", "z"), word("AT&T", "w")]
    assert fitting("PARIS in New Jersey; AT&amp;T", entries) == (entries[0], entries[2], entries[3])


def test_an_entry_is_found_however_its_letters_are_put_together() -> None:
    """Some letters come apart where upper and lower case are made one."""
    for written in ("\u01f0ava", "j\u030cava", "\u0390", "Stra\u00dfe", "\u0130zmir", "\u1e9e"):
        entry = word(written, "x")
        assert fitting(f"In {written} now", [entry]) == (entry,), written
        assert pronounced(composed(f"In {written} now"), [entry]) == "In x now"


def test_entries_are_composed_once_and_not_for_every_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a large dictionary it takes longer than all else that a router does with a request."""
    entries = [word(f"caf\u00e9{number:04}", "x") for number in range(5_000)]
    assert fitting("Caf\u00e94999", entries) == (entries[4999],)
    seen: list[str] = []
    monkeypatch.setattr(dictionary, "composed", lambda text: seen.append(text) or composed(text))
    assert fitting("Caf\u00e94998", entries) == (entries[4998],)
    assert seen == ["Caf\u00e94998"]


def test_a_text_without_entries_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(text: str) -> str:
        raise AssertionError(f"looked at: {text}")

    monkeypatch.setattr(dictionary, "composed", never)
    monkeypatch.setattr(dictionary, "language_of", never)
    assert fitting("Caf\u00e9.", iter(())) == ()
    assert plain_words("Cafe.", Reading()) == "Cafe."
