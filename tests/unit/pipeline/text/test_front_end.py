"""Both front ends: what a caller wrote and the words that are said."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import TextError
from pipeline.text.front_end import front_end
from pipeline.text.phonemes import FRONT_END_NAME
from tests.conftest import ROOT

pytestmark = pytest.mark.unit
VOICES = ROOT / "pipeline" / "voices" / "voices.json"
Words = Callable[[str], str]


@pytest.fixture(scope="module")
def plain() -> Words:
    return front_end(None).words


@pytest.fixture(scope="module")
def spoken() -> Words:
    return front_end(FRONT_END_NAME).words


def test_ordinary_text_is_left_alone(plain: Words, spoken: Words) -> None:
    texts = [voice["transcript"] for voice in json.loads(VOICES.read_text(encoding="utf-8"))]
    texts += [
        "“Well—yes,” she said; it’s fine (I think): okay…",
        "你好，今天天气很好。",
        "[Sigh] So.",
    ]
    for text in texts:
        assert plain(text) == spoken(text) == text


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.from_regex("[a-z]{2,9}", fullmatch=True), st.sampled_from([" ", ", ", "; ", "? "])
        ),
        min_size=1,
        max_size=12,
    )
)
def test_words_and_their_punctuation_are_left_alone(parts: list[tuple[str, str]]) -> None:
    text = "".join(word + mark for word, mark in parts).strip()
    if "vs" not in {word for word, _ in parts}:
        assert front_end(None).words(text) == text


def read_or_refused(text: str) -> None:
    """Whatever is written is words of one line, or refused without a field's name."""
    for name in (None, FRONT_END_NAME):
        try:
            words = front_end(name).words(text)
        except TextError as error:
            refusal = error
        else:
            assert words == " ".join(words.split())
            assert words.encode() is not None
            continue
        assert refusal.param is None


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(st.text(st.characters(codec=None, exclude_categories=()), max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    read_or_refused(text)


@settings(max_examples=150, deadline=None)
@given(st.text("年个第-+$€£¥½²0123456789.,:/~ %°CFkmgh点万亿Aez*_[](){}|<>&#!?'\"", max_size=40))
def test_any_mixture_of_signs_is_read_or_refused(text: str) -> None:
    read_or_refused(text)


def test_nothing_written_is_nothing_said(plain: Words, spoken: Words) -> None:
    for text in ("", "  \n", "\x07\u200b"):
        assert plain(text) == spoken(text) == ""


@pytest.mark.parametrize("text", ["...", "。", "--- ---", "🎉🎉", "\n\n***\n", "\ufffd!"])
def test_marks_alone_cannot_be_spoken(text: str, plain: Words, spoken: Words) -> None:
    for words in (plain, spoken):
        with pytest.raises(TextError, match="nothing that can be spoken") as caught:
            words(text)
        assert caught.value.param is None


@pytest.mark.parametrize(
    ("text", "script"),
    [
        ("مرحبا بالعالم", "Arabic"),
        ("こんにちは", "Japanese"),
        ("日本語を話します。", "Japanese"),
        ("สวัสดีครับ", "Thai"),
        ("안녕하세요", "Korean"),
        ("Привет, мир", "Cyrillic"),
        ("नमस्ते", "Devanagari"),
        ("שלום", "Hebrew"),
        ("Γειά σου", "Greek"),
        ("Hello مرحبا بالعالم", "Arabic"),
    ],
)
def test_a_script_without_words_is_refused(text: str, script: str, spoken: Words) -> None:
    with pytest.raises(TextError, match=f"{script} script.*spoken are English and Chinese$"):
        spoken(text)


def test_the_plain_front_end_speaks_what_the_released_checkpoint_does(plain: Words) -> None:
    for text in ("こんにちは", "안녕하세요", "日本語を話します。", "你好"):
        assert plain(text) == text
    with pytest.raises(TextError, match="English, Chinese, Japanese and Korean"):
        plain("Привет, мир")


def test_a_few_foreign_letters_are_said_in_latin_ones(spoken: Words) -> None:
    assert spoken("The word мир means peace.") == "The word mir means peace."
    assert spoken("π is 3") == "pi is three"
    assert spoken("Nguyễn, Ångström, naïve") == "Nguyen, Ångström, naïve"


def test_chinese_numbers_are_said_in_chinese(spoken: Words) -> None:
    said = spoken("今天是2026-11-26，价格是$1.25，2个苹果，第3次，45%，下午3:30，5km。")
    assert said == (
        "今天是二零二六年十一月二十六日，价格是一点二五美元，两个苹果，第三次，百分之四十五，"
        "下午三点三十分，五公里。"
    )
    assert spoken("我也想guo4guo4guo1儿guo4的生活") == "我也想guo4guo4guo1儿guo4的生活"


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("5\u22123 = 2", "five minus three equals two"),
        ("from 1990\u22122000", "from nineteen ninety to two thousand"),
        ("10\u221220 kg at \u22125 °C", "ten to twenty kilograms at minus five degrees Celsius"),
        ("算5\u22123，日期26/11/2026", "算五减三，日期二零二六年十一月二十六日"),
        (r"I do not know ¯\_(ツ)_/¯", "I do not know"),
    ],
)
def test_minus_signs_and_shrugs_are_read_as_meant(written: str, words: str, spoken: Words) -> None:
    assert spoken(written) == words


def test_tags_and_control_symbols_stay_for_the_prompt_to_judge(plain: Words) -> None:
    text = "[Laughter] Well [Surprise-oh] <audio_5> then <|EOT|> [Sigh]"
    assert plain(text) == text


@pytest.mark.parametrize(
    ("marked", "words"),
    [
        ("* **London:** The capital city.", "London: The capital city."),
        ("## Summary\n\nAll is well.", "Summary. All is well."),
        ("Read [the manual](https://example.com/v2?x=1) first.", "Read the manual first."),
        ("1. Pay $5\n2. Go 🎉\n", "Pay five dollars. Go"),
        ("<speak>Hi<break time='1s'/>there</speak>", "Hi [pause:1000ms] there."),
        ("&lt;b&gt; 5 &lt; 6", "b five less than six"),
        ("A heading\n\nIts text\nin lines.\n \nMore", "A heading. Its text in lines. More"),
    ],
)
def test_markup_is_never_spoken(marked: str, words: str, spoken: Words) -> None:
    assert spoken(marked) == words


HOSTILE = (
    "[", "![", "[[a]", "<a ", "<!--", "<script>", "<sub alias=", "1. a\n", "> ", "*a", "&amp;",
    "1-", "1.", "1,", "$1-", "a.", "a@b.", "http://a", "(1", "+1 ", "12-", "1 000", "9am-", "½",
    "X ", "No. ", "5 kg/", "'5", "1,000", ". ", "-", "!?", "🎉", "->", " • ", "e\u0301", "ﷺ",
    "汉1-", "a汉 ", "\ud83d", "`", "\\", "\n", "a\n", "|a|\n|-|\n",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("part", HOSTILE)
def test_a_hostile_text_takes_no_long_time(part: str, spoken: Words) -> None:
    """CPU time, the least of three: the collector, or a library's first use, may fall into one."""
    text = (part * 4096)[:4096]

    def took_s() -> float:
        started_s = time.thread_time()
        with contextlib.suppress(TextError):
            spoken(text)
        return time.thread_time() - started_s

    assert min(took_s() for _ in range(3)) < 0.5


def test_threads_share_a_front_end(spoken: Words) -> None:
    texts = [f"**{n}** cats, $1.{n:02}, 共{n}人" for n in range(40)]
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(spoken, texts)) == [spoken(text) for text in texts]
