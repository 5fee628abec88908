"""The subset of SSML: what is said, what is refused and how."""

from __future__ import annotations

import pytest

from pipeline.errors import InputError, UnsupportedError
from pipeline.text.front_end import two_language_words
from pipeline.text.pauses import with_marks
from pipeline.text.ssml.document import is_ssml, without_ssml

pytestmark = pytest.mark.unit


def said(ssml: str) -> str:
    return two_language_words(f"<speak>{ssml}</speak>")


@pytest.mark.parametrize(
    ("ssml", "words"),
    [
        ("Hello there.", "Hello there."),
        ("<p>One</p><p>Two</p>", "One. Two."),
        ("<p><s>One</s><s>Two?</s></p>", "One. Two?"),
        ("<s>你好</s><s>再见</s>", "你好。 再见。"),
        ('A<break time="500ms"/>B', "A [pause:500ms] B."),
        ('A<break time="1.25s"/>B', "A [pause:1250ms] B."),
        ('A<break strength="strong"/>B', "A [pause:700ms] B."),
        ('A <break strength="none"/> B', "A B."),
        ("A<break/>B", "A [pause:400ms] B."),
        ('The <sub alias="World Wide Web Consortium">W3C</sub>.', "The World Wide Web Consortium."),
        ('<say-as interpret-as="characters">abc1</say-as>', "A B C one."),
        ('<say-as interpret-as="spell-out">NASA</say-as>', "N A S A."),
        ('<say-as interpret-as="digits">2024</say-as>', "two zero two four."),
        ('<say-as interpret-as="cardinal">2024</say-as>', "two thousand twenty-four."),
        (
            '<say-as interpret-as="cardinal">-1,234.5</say-as>',
            "minus one thousand two hundred thirty-four point five.",
        ),
        ('<say-as interpret-as="ordinal">21</say-as>', "twenty-first."),
        (
            '<say-as interpret-as="telephone">5551234</say-as>',
            "five five five, one two three four.",
        ),
        (
            '<say-as interpret-as="date" format="dmy">03/05/2024</say-as>',
            "May third, twenty twenty-four.",
        ),
        (
            '<say-as interpret-as="date" format="mdy">03/05/2024</say-as>',
            "March fifth, twenty twenty-four.",
        ),
        ('<say-as interpret-as="time">2:30pm</say-as>', "two thirty PM."),
        ('<say-as interpret-as="fraction">11/26</say-as>', "eleven over twenty-six."),
        ('<say-as interpret-as="unit">5km</say-as>', "five kilometers."),
        ('<say-as interpret-as="currency">$5</say-as>', "five dollars."),
        (
            '电话<say-as interpret-as="telephone">13812345678</say-as>号',
            "电话幺三八幺二三四五六七八号。",
        ),
        ('他是<say-as interpret-as="ordinal">3</say-as>名，太好了', "他是第三名，太好了。"),
        (
            '日期<say-as interpret-as="date" format="dmy">03/05/2024</say-as>定了',
            "日期二零二四年五月三日定了。",
        ),
        ("AT&T &amp; R&D, 5 &lt; 6", "AT&T & R&D, five less than six."),
        ("<!-- never said -->Hi", "Hi."),
    ],
)
def test_what_is_said(ssml: str, words: str) -> None:
    assert said(ssml) == words


@pytest.mark.parametrize(
    ("ssml", "message"),
    [
        (
            '<prosody rate="slow">Hi</prosody>',
            r"<prosody> is not served; allowed: <speak>, <p>, <s>, "
            r"<break>, <sub>, <say-as>",
        ),
        ("<voice name='x'>Hi</voice>", "<voice> is not served"),
        ("<amazon:effect name='whispered'>Hi</amazon:effect>", "<amazon:effect> is not served"),
        ("<p>Hi", "not well formed: mismatched tag in line 1"),
        ("a < b", "not well formed"),
        ('<break time="soon"/>', r"write \[pause:500ms\]"),
        ('<break time="11s"/>', "10s at most"),
        ('<break strength="huge"/>', "allowed: none, x-weak, weak, medium, strong, x-strong"),
        ("<sub>W3C</sub>", "needs an alias"),
        ('<say-as interpret-as="bleep">x</say-as>', "'bleep'> is not served; allowed: characters"),
        ('<sub alias="x"><p>y</p></sub>', "cannot stand inside"),
    ],
)
def test_what_is_not_served_is_refused_by_name(ssml: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        said(ssml)
    assert caught.value.param is None


def test_a_document_type_is_refused_so_that_no_entity_grows() -> None:
    bomb = '<speak><!DOCTYPE x [<!ENTITY a "aaaa">]>&a;</speak>'
    with pytest.raises(InputError, match="not well formed"):
        two_language_words(bomb)
    before = '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaa">]><speak>&a;</speak>'
    assert not is_ssml(before)  # so no parser reads it


@pytest.mark.parametrize(
    "text",
    [
        "<speak>Hi</speak>",
        "  <speak version='1.1'>Hi</speak>",
        "<?xml version='1.0'?>\n<speak>Hi</speak>",
        "<!-- a --><speak>Hi</speak>",
    ],
)
def test_ssml_begins_with_speak(text: str) -> None:
    assert is_ssml(text)
    assert two_language_words(text) == "Hi."


@pytest.mark.parametrize("text", ["<b>Hi</b>", "speak <speak>", "<speaker>Hi</speaker>", ""])
def test_other_text_is_left_to_other_steps(text: str) -> None:
    assert not is_ssml(text)
    assert without_ssml(text) == text


@pytest.mark.parametrize(
    ("text", "marked"),
    [
        ("a[pause:500ms]b", "a [pause:500ms] b"),
        ("a [pause:1.5s] b", "a  [pause:1500ms]  b"),
        ("a [ PAUSE : .5 S ] b", "a  [pause:500ms]  b"),
        ("a [pause:0ms] b", "a   b"),
        ("a [pause for effect] b", "a [pause for effect] b"),
        ("a [pause] b", "a [pause] b"),
    ],
)
def test_pauses_have_one_form(text: str, marked: str) -> None:
    assert with_marks(text) == marked
    assert with_marks(marked).split() == marked.split()


@pytest.mark.parametrize(
    "time", ["", "500", "ms", "-1s", "11s", "10.001s", "1e3ms", "1 minute", "99999999999s"]
)
def test_a_bad_pause_is_refused_with_its_form(time: str) -> None:
    with pytest.raises(
        UnsupportedError, match=r"write \[pause:500ms\] or \[pause:1.5s\], 10s at most"
    ):
        with_marks(f"a [pause:{time}] b")


def test_pauses_together_have_a_bound() -> None:
    assert with_marks("a [pause:10s]" * 12)
    with pytest.raises(InputError, match="130 s together, 120 s are allowed"):
        with_marks("a [pause:10s]" * 13)


def test_pauses_stay_in_words_that_are_read_again() -> None:
    words = two_language_words("In 5/3 [pause:2s] it was <break time='250ms'/> $5.")
    assert words == "In five over three [pause:2000ms] it was [pause:250ms] five dollars."
    assert two_language_words(words) == words
