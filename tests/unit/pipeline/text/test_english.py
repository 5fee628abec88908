"""Written forms of English and how they are said."""

from __future__ import annotations

import pytest

from pipeline.text.english.forms import with_words
from pipeline.text.english.numerals import cardinal, decimal, ordinal, year
from pipeline.text.phonemes import espeak_phonemes

pytestmark = pytest.mark.unit

READINGS = {
    # money
    "It costs $1.25.": "It costs one dollar and twenty-five cents.",
    "$0.99 or $1": "ninety-nine cents or one dollar",
    "$1,000.50": "one thousand dollars and fifty cents",
    "€3,50": "three euros and fifty cents",
    "3,50 €": "three euros and fifty cents",
    "€1.250,50": "one thousand two hundred fifty euros and fifty cents",
    "£1.05": "one pound and five pence",
    "£2m": "two million pounds",
    "US$5": "five US dollars",
    "5 USD": "five US dollars",
    "CHF 20": "twenty Swiss francs",
    "$1.5 million": "one point five million dollars",
    "$2.5bn": "two point five billion dollars",
    "$5-10k": "five to ten thousand dollars",
    "£1m–£2m": "one million pounds to two million pounds",
    "-$5": "minus five dollars",
    "$5/month": "five dollars per month",
    "¥500": "five hundred yen",
    "25¢, $.50, Rs. 5": "twenty-five cents, fifty cents, five rupees",
    # dates
    "Due on 2026-11-26.": "Due on November twenty-sixth, twenty twenty-six.",
    "2026-11-26T14:30:00Z": "November twenty-sixth, twenty twenty-six at fourteen thirty UTC",
    "11/26/2026": "November twenty-sixth, twenty twenty-six",
    "26/11/2026": "November twenty-sixth, twenty twenty-six",
    "26.11.2026": "November twenty-sixth, twenty twenty-six",
    "on 3 May 2026": "on the third of May, twenty twenty-six",
    "the 3rd of May": "the third of May",
    "May 3, 2026": "May third, twenty twenty-six",
    "Nov. 26": "November twenty-sixth",
    "March 15-20": "March fifteenth to twentieth",
    "in May 1999": "in May nineteen ninety-nine",
    "the 1990s and '80s": "the nineteen nineties and eighties",
    "in 1999, 1905 and 2005": "in nineteen ninety-nine, nineteen oh five and two thousand five",
    "1914-1918": "nineteen fourteen to nineteen eighteen",
    "2026-11, not 2010-12": "November twenty twenty-six, not twenty ten to twelve",
    "9.30 am or 10.15pm": "nine thirty AM or ten fifteen PM",
    # signs
    "from -5°C to +20°C": "from minus five degrees Celsius to plus twenty degrees Celsius",
    "+$5 or +3 at UTC+2": "plus five dollars or plus three at UTC plus two",
    "p<0.05, p<.05, x>3, a<b": (
        "p less than zero point zero five, p less than zero point zero five, x greater than three, "
        "a less than b"
    ),
    "3.5e-4.": "three point five times ten to the power of minus four.",
    "0x1F is no product": "zero x 1F is no product",
    "10 / 2": "ten divided by two",
    # times
    "at 14:30": "at fourteen thirty",
    "9:05 am": "nine oh five AM",
    "At 9 a.m. He": "At nine AM. He",
    "12:00": "twelve o'clock",
    "9am-5pm": "nine AM to five PM",
    "9:00–17:00": "nine o'clock to seventeen hundred",
    # telephone numbers and codes
    "555-123-4567": "five five five, one two three, four five six seven",
    "+1 (415) 555-0132": "plus one, four one five, five five five, zero one three two",
    "020 7946 0958": "zero two zero, seven nine four six, zero nine five eight",
    "555-1234": "five five five, one two three four",
    "4111 1111 1111 1111": ", ".join(["four one one one", *["one one one one"] * 3]),
    "007": "zero zero seven",
    # numbers
    "1,234,567": "one million two hundred thirty-four thousand five hundred sixty-seven",
    "10 000": "ten thousand",
    "3.14 and .5": "three point one four and zero point five",
    "It was -5 outside": "It was minus five outside",
    "10-20 people": "ten to twenty people",
    "pages 10–20": "pages ten to twenty",
    "10k users": "ten thousand users",
    "the 21st, 3rd and 112th": "the twenty-first, third and one hundred twelfth",
    "1/2 cup, 3/4, 2 1/2 cups": "one half cup, three quarters, two and a half cups",
    "2½ km": "two and a half kilometers",
    "50/50, 8/10, 24/7": "fifty fifty, eight out of ten, twenty-four seven",
    "version 2.0.1": "version two point zero point one",
    "192.168.1.1": "one hundred ninety-two dot one hundred sixty-eight dot one dot one",
    "A4, MP3, H2O, 5G": "A4, MP3, H2O, 5G",
    # measures
    "45% or 5-10%": "forty-five percent or five to ten percent",
    "5 km, 1 km": "five kilometers, one kilometer",
    "100 km/h": "one hundred kilometers per hour",
    "20 °C": "twenty degrees Celsius",
    "-5°F": "minus five degrees Fahrenheit",
    "5 kg/m²": "five kilograms per square meter",
    "5 μm": "five micrometers",
    "5'10\" tall": "five foot ten tall",
    "5 ft 3 in": "five feet three inches",
    "16 GB": "sixteen gigabytes",
    # signs
    "3 + 4 = 7": "three plus four equals seven",
    "2x4, 3 × 4": "two times four, three times four",
    "2x faster": "two times faster",
    "x² + y^2": "x squared plus y squared",
    "10⁻³": "ten to the power of minus three",
    "≤5, ±2, ~$5": "less than or equal to five, plus or minus two, about five dollars",
    "#1 and #BigNews, C#": "number one and hashtag Big News, C sharp",
    "he/she and/or TCP/IP": "he she and or TCP IP",
    "the word¹ ends.²": "the word ends.",
    # abbreviations and addresses
    "Dr. Smith, Mrs. Lee": "Doctor Smith, Missus Lee",
    "St. Mary on Main St.": "Saint Mary on Main Street",
    "e.g. this, i.e. that, etc.": "for example this, that is that, et cetera.",
    "No. 5, p. 12": "number five, page twelve",
    "World War II, Henry VIII": "World War two, Henry the eighth",
    "In part I agree": "In part I agree",
    "https://example.com/docs/v2/index.html?q=a.": "example dot com slash docs slash v2 slash "
    "index dot html question mark q equals a.",
    "github.com/user/repo": "github dot com slash user slash repo",
    "bob.smith@example.com": "bob dot smith at example dot com",
}


@pytest.mark.parametrize(("written", "said"), READINGS.items())
def test_a_written_form_is_said(written: str, said: str) -> None:
    assert " ".join(with_words(written).split()) == said


@pytest.mark.parametrize("said", READINGS.values())
def test_words_are_not_read_again(said: str) -> None:
    assert with_words(said) == said


@pytest.mark.parametrize(
    "text",
    [
        "He may, in May, march on.",
        "“Well—yes,” she said; it’s fine (I think): okay…",
        "Twenty-five state-of-the-art trains, at five o'clock.",
        "AT&T's R&D, Q&A",
        "I am. No, you are!",
    ],
)
def test_words_and_ordinary_punctuation_stay(text: str) -> None:
    assert with_words(text) == text


@pytest.mark.parametrize("written", ["2026-13-45", "99/99/2026", "25:99", "1.2.3.4.5", "$", "1e5"])
def test_what_looks_like_a_form_and_is_none_is_still_read(written: str) -> None:
    assert with_words(written).strip()


def test_numbers_of_any_size() -> None:
    assert cardinal("0") == "zero"
    assert cardinal("1001") == "one thousand one"
    assert cardinal("1" * 16) == " ".join(["one"] * 16)
    assert ordinal("30") == "thirtieth"
    assert year("1066") == "one thousand sixty-six"
    assert decimal("1,234.50") == "one thousand two hundred thirty-four point five zero"


def test_espeak_says_the_words_and_no_signs() -> None:
    assert espeak_phonemes(with_words("$5")) == espeak_phonemes("five dollars")
    for written in list(READINGS)[::4]:
        said = espeak_phonemes(with_words(written))
        assert not [sign for sign in ("dæʃ", "hæʃɪ", "tɪldə", "ɹoʊmən", "æstɚɹɪsk") if sign in said]
