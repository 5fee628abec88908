"""Long texts in passages: where they are cut, and that nothing is lost."""

from __future__ import annotations

import hypothesis
import hypothesis.strategies as st
import pytest

from pipeline.text.segment import passages

pytestmark = pytest.mark.unit


def letters(text: str) -> float:
    """A cost like the real one: what is spoken, by its length."""
    return sum(character.isalnum() for character in text)


def cut(text: str, limit: float = 1) -> list[str]:
    return passages(text, letters, limit)


def sentences(text: str) -> list[str]:
    """Cut at every sentence: each is as long as the limit, so no two fit together."""
    longest = max(letters(part) for part in text.split("|"))
    return passages(text.replace("|", ""), letters, longest)


@pytest.mark.parametrize(
    "marked",
    [
        "One two three. |Two three four. |Ten two threes.",
        "Is it so late? |Yes indeed now! |Well then go on… |We go for home.",
        "He said “no way at all.” |Then he went off.",
        "I too say a no. |He also says no. |So it is a no.",
        "(It was a dark night.) |He went for home.",
        "今天天气非常好。|我们去公园了！|你们想去哪里？",
        "क्या यह सच बात है। |हाँ यह सच बात है।",
    ],
)
def test_it_is_cut_behind_sentences(marked: str) -> None:
    assert sentences(marked) == [part.strip() for part in marked.split("|")]


@pytest.mark.parametrize(
    "sentence",
    [
        "Dr. Smith paid 3.50 a piece, i.e. too much, at St. Mary and so on.",
        "See www.example.com or e.g. https://a.example/b.c?d=e. or so, he wrote.",
        "J. R. R. Tolkien lived in the U.S. Army barracks at 5 p.m. on most days.",
        "“Stop!” he said, and Mr. Brown vs. Mrs. Brown went on... and on for long.",
        "1. Buy a lot of milk and a lot of bread for the whole of the next week.",
        "Pi is 3.14159 and No. 5 is alive, cf. Fig. 2 for more of the very same.",
    ],
)
def test_a_point_inside_a_sentence_is_no_end(sentence: str) -> None:
    other = "And now here is a quite different thing that takes as long as that."
    limit = max(letters(sentence), letters(other))
    assert passages(f"{sentence} {other}", letters, limit) == [sentence, other]


def test_short_sentences_go_together_and_evenly() -> None:
    text = " ".join(f"Sentence {n} has some words." for n in range(10, 19))
    parts = cut(text, limit=4 * 23)
    assert [part.count(".") for part in parts] == [3, 3, 3]


def test_a_text_within_the_limit_stays_as_it_is() -> None:
    text = " Hello there.  How are you? "
    assert cut(text, limit=100) == [text]


def test_a_long_sentence_is_cut_at_its_pauses_then_between_words_then_anywhere() -> None:
    long = "When the rain stopped, the children ran outside, and the old man sat down; he slept."
    assert cut(long, limit=40) == [
        "When the rain stopped, the children ran outside,",
        "and the old man sat down; he slept.",
    ]
    words = "one two three four five six seven eight nine ten"
    assert cut(words, limit=20) == ["one two three four five", "six seven eight nine ten"]
    assert sorted(map(len, cut("x" * 10, limit=4))) == [3, 3, 4]
    assert cut("今天天气非常好我们一起去公园", limit=7) == ["今天天气非常好", "我们一起去公园"]


def test_a_mark_stays_with_its_letter() -> None:
    text = "e\u0301" * 9
    assert all(len(part) % 2 == 0 for part in cut(text, limit=2))


def test_what_is_not_spoken_makes_no_passage_of_its_own() -> None:
    text = "A first one here. --- ... !!! A second one here. *** ..."
    parts = cut(text, limit=14)
    assert len(parts) == 2
    assert all(letters(part) > 0 for part in parts)


@hypothesis.given(
    st.lists(
        st.sampled_from(
            [
                "word",
                "a",
                "Dr.",
                "3.14",
                "end.",
                "Stop!",
                "so,",
                "—",
                "“no.”",
                "今天。",
                "...",
                "x" * 30,
            ]
        ),
        min_size=1,
        max_size=60,
    ),
    st.integers(5, 60),
)
def test_no_word_is_lost_and_none_is_too_long(words: list[str], limit: int) -> None:
    text = " ".join(words)
    parts = cut(text, limit=limit)
    assert "".join("".join(parts).split()) == "".join(text.split())
    if len(parts) > 1:
        assert all(letters(part) <= limit for part in parts)
