"""What is drawn and not said, and the Unicode forms of what is."""

from __future__ import annotations

import pytest

from pipeline.text.signs import outside_tags, without_drawings, without_signs
from pipeline.text.unicode_forms import composed

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("drawn", "said"),
    [
        ("Chapter one " + "." * 100 + " 12", "Chapter one, 12"),
        ("Chapter one . . . . . 12", "Chapter one, 12"),
        ("Well.....", "Well..."),
        ("Hello.\n" + "-" * 200 + "\nGood bye.", "Hello.\n\nGood bye."),
        ("No" + "!" * 150, "No!"),
        ("What?!?!?!", "What?!"),
        ("|" + "-" * 40 + "|" + "-" * 40 + "|\n| a | b |", "a, b"),
        ("Name: ______ end", "Name: end"),
        ("Hello -=-=-=-=- you", "Hello you"),
        ("Hello * * * * * you", "Hello you"),
        ('""""""""""Hi', '"Hi'),
        ("No,,,,,,,, no;; no", "No, no; no"),
        ("┌──┐ box └──┘", "box"),
        ("Yes " + "🎉" * 30, "Yes"),
        ("Well done " + "👏🏽" * 16 + " to all.", "Well done to all."),
        ("Great 🎉! Next 🇬🇧, 👩\u200d🚀.", "Great! Next,."),
        ("I ❤️ you :) :smile:", "I you"),
        ("1️⃣ one", "one"),
        ("A -> B → C", "A, B, C"),
        ("Mon • Tue | Wed", "Mon, Tue, Wed"),
        ("好🎉的！！！！", "好的！"),
        ("**重点：**内容", "重点：内容"),
        ("等等…………好", "等等……好"),
        ("[Sigh] 🎉 [Laughter]x", "[Sigh] [Laughter]x"),
        ("Acme™ and Foo®", "Acme and Foo"),
    ],
)
def test_signs_go(drawn: str, said: str) -> None:
    def change(text: str) -> str:
        return without_signs(without_drawings(text))

    assert outside_tags(change, composed(drawn)).strip(" \n") == said


@pytest.mark.parametrize(
    "text",
    [
        "Wait... what?! “Yes” — no… (well; [so]: ‘it’s’ 5%).",
        "你好，今天天气很好！等等……好的～",
        "Hello -- there --- and @you & me",
        "[Laughter] <audio_5> <|EOT|>",
    ],
)
def test_ordinary_punctuation_stays(text: str) -> None:
    assert outside_tags(lambda part: without_signs(without_drawings(part)), text) == text


@pytest.mark.parametrize(
    ("odd", "plain"),
    [
        ("The cafe\u0301 was a cliche\u0301.", "The café was a cliché."),
        ("Ｈｅｌｌｏ\u3000ｗｏｒｌｄ！", "Hello world!"),
        ("Room １２", "Room 12"),
        ("价格１２．５元，时间１４：３０", "价格12.5元，时间14:30"),
        ("ﬁne ﬂow 𝐇𝐞𝐥𝐥𝐨 ⓗⓘ Ⅷ 5㎞ 1ˢᵗ", "fine flow Hello hi VIII 5km 1st"),
        ("①②", " 1  2 "),
        ("Nice \ud83d", "Nice "),
        ("\ud83d\ude00", "😀"),
        ("a\x00b\u200bc\xadd\ufeff\u202ee", "abcde"),
        ("a\x0bb\u00a0c\u2009d", "a b c d"),
        ("10\u00a0000", "10000"),
        ("٣٤", "34"),
        ("Z\u0337a\u0337lgo", "Zalgo"),
        ("it´s it\u02bcs", "it's it's"),
        ("ｱｲ", "アイ"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("a\ufffdb", "ab"),
    ],
)
def test_one_form_of_many(odd: str, plain: str) -> None:
    assert composed(odd) == plain


@pytest.mark.parametrize(
    "text",
    [
        "naïve café, Łódź",
        "你好，（今天）！",
        "x² ½ … ™ 20 °C",
        "ㅋㅋ 안녕",
        "สวัสดี नमस्ते",
        "「はい」、ガギ",
    ],
)
def test_composed_text_stays(text: str) -> None:
    assert composed(text) == text


def test_a_wrong_encoding_is_no_ground_for_guesses() -> None:
    assert composed("âœ” Ã©") == "âœ” Ã©"
