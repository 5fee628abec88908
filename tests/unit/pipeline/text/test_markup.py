"""Markup is never spoken as signs."""

from __future__ import annotations

import pytest

from pipeline.text.markup import without_markup

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("marked", "plain"),
    [
        ("* **London:** The capital city.", "London: The capital city."),
        ("## Summary\n\nAll is well.", "Summary.\nAll is well."),
        ("It is *very* _very_ **important**.", "It is very very important."),
        ("Read [the manual](https://example.com/a_b?x=1) first.", "Read the manual first."),
        ("![A cat](cat.png) and <https://example.org>", "A cat and https://example.org"),
        ("[a link][1] here\n\n[1]: https://example.com", "a link here"),
        ("- one\n- two\n  - three", "one.\ntwo.\nthree"),
        ("• one\n• two", "one.\ntwo"),
        ("1. Wash.\n2. Boil", "Wash.\nBoil"),
        ("- [ ] Buy\n- [x] Sold", "Buy.\nSold"),
        ("> quote **x**\n> y", "quote x\ny"),
        ("| a | b |\n|---|---|\n| c | d |", "a, b.\nc, d"),
        ("```python\nprint(x)\n```", "print(x)\n"),
        ("Hello.\n\n---\n\nGood bye.", "Hello.\nGood bye."),
        ("A note[^1].\n\n[^1]: Its text.", "A note.\nIts text."),
        (r"\*not\* `code` ~~gone~~", "*not* code gone"),
        ("AT&amp;T &lt;b&gt; &copy;", "AT&T <b> ©"),
        ("2*3*4", "2×3×4"),
    ],
)
def test_markdown(marked: str, plain: str) -> None:
    assert without_markup(marked) == plain


@pytest.mark.parametrize(
    ("marked", "plain"),
    [
        ("<p>Hello <b>world</b></p><p>Two</p>", "Hello world.\nTwo"),
        ("one<br/>two", "one\ntwo"),
        ("<style>p {}</style>Hi <!-- no --> there<script>x < 1</script>", "Hi there"),
        ("<img src='a.png' alt='A &amp; B'>", "A & B"),
        ("<speak>Hi<break time='1s'/>there</speak>", "Hi [pause:1000ms] there"),
        ("Hi.<break/> There", "Hi. [pause:400ms] There"),
        ("<sub alias='World Wide Web'>WWW</sub> H<sub>2</sub>O", "World Wide Web H2O"),
        ("<say-as interpret-as='characters'>ABC</say-as>", "A B C"),
        (
            "<say-as interpret-as='ordinal'>3</say-as> <say-as interpret-as='date'>May</say-as>",
            "3rd May",
        ),
        ("<mstts:express-as style='sad'>Oh</mstts:express-as>", "Oh"),
        ("<?xml version='1.0'?><![CDATA[Hello]]>", "Hello"),
        ("<thought>Hm</thought>", "Hm"),
    ],
)
def test_tags(marked: str, plain: str) -> None:
    assert [line.split() for line in without_markup(marked).splitlines() if line.strip()] == [
        line.split() for line in plain.splitlines()
    ]


@pytest.mark.parametrize(
    "text",
    [
        "Plain text\nof two lines, with 'quotes' - and a dash.",
        "[Laughter] so [Sigh]: yes",
        "[Laughter]: that was funny",
        "a < b and c > d, I <3 you, if x <y and y> z",
        "<audio_5> <|EOT|>",
        "a snake_case_word",
        "1986. A great year.",
        "Title\n\nText",
        "    indented\n    text",
    ],
)
def test_what_is_no_markup_stays(text: str) -> None:
    assert without_markup(text) == text


def test_more_brackets_than_a_text_has_are_no_links() -> None:
    assert without_markup("[" * 1000 + "a](b)").count("a](b)") == 1
