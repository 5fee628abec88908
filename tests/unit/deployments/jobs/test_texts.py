"""Subtitles and tables: what is read of them, what is refused, and subtitles that are written."""

from __future__ import annotations

import pytest

from deployments.jobs.subtitles import Subtitle, is_subtitles, read_subtitles, to_srt, to_vtt
from deployments.jobs.tables import is_table, read_table
from pipeline.errors import InputError

pytestmark = pytest.mark.unit
SRT = "\ufeff1\r\n00:00:01,5 --> 00:00:03,250\r\n<i>One</i>\r\n{\\an8}two.\r\n\r\n\r\n2\r\n01:00:00.000 --> 01:00:01.000\r\nThree.\r\n"  # noqa: E501
VTT = """WEBVTT - a title
Kind: captions

STYLE
::cue { color: red }

NOTE not spoken
at all

intro
00:01.000 --> 00:02.000 align:start position:0%
<v.loud Ann>Fish &amp; chips</v>

00:03.000 --> 00:04.000
♪

"""


def test_subrip_as_it_is_found():
    assert read_subtitles(SRT, "subtitles") == [
        Subtitle(1.5, 3.25, "One two."),
        Subtitle(3_600.0, 3_601.0, "Three."),
    ]


def test_webvtt_with_what_is_not_spoken():
    assert read_subtitles(VTT, "subtitles") == [
        Subtitle(1.0, 2.0, "Fish & chips", "Ann"),
        Subtitle(3.0, 4.0, "♪"),
    ]


def test_cues_are_in_the_order_they_are_heard_and_empty_ones_are_none():
    text = "00:05.000 --> 00:06.000\nB\n\n00:01.000 --> 00:02.000\nA\n\n00:03.000 --> 00:04.000\n\n"
    assert [cue.text for cue in read_subtitles(text, "subtitles")] == ["A", "B"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("Hello.", "block 1 is no cue: it has no line of times"),
        ("00:00:01 --> 00:00:02\na", "its times are not as"),
        ("00:00:02,000 --> 00:00:02,000\na", "it ends before it begins"),
        ("WEBVTT\n\nNOTE only this\n", "holds no subtitles"),
        ("", "holds no subtitles"),
    ],
)
def test_what_is_no_subtitles(text: str, says: str):
    with pytest.raises(InputError, match=says) as caught:
        read_subtitles(text, "subtitles")
    assert caught.value.param == "subtitles"


def test_a_text_shows_what_it_is():
    assert is_subtitles(SRT)
    assert is_subtitles(VTT)
    assert not is_subtitles("A text with --> an arrow.\nAnd more.")
    assert is_table("text,voice\nOne.,aria")
    assert is_table("text\nOne.")
    assert not is_table("text, which is no table\nOne.")
    assert not is_table("One, two.")


def test_what_is_written_is_read_again():
    cues = [Subtitle(0.0, 1.2345, "A --> B\n\nC"), Subtitle(3_661.5, 3_662.0, "x < y & z")]
    assert to_srt(cues).startswith("1\n00:00:00,000 --> 00:00:01,234\nA → B C\n\n2\n01:01:01,500")
    for written in (to_srt(cues[1:]), to_vtt(cues[1:])):
        assert read_subtitles(written.replace("x < y", "x &lt; y"), "s") == cues[1:]
    assert "x &lt; y &amp; z" in to_vtt(cues)


def test_rows_of_a_table():
    text = 'Text;VOICE;edits\n"One; two.";aria;emotion:happy\n;;\nThree.\n'
    assert read_table(text, "table") == [
        {"text": "One; two.", "voice": "aria", "edits": "emotion:happy"},
        {"text": "Three."},
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("voice\naria", "text among them"),
        ("text,mood\nOne.,sad", "no column is named 'mood'"),
        ("text,voice\nOne, two.,aria", "line 2 has 3 cells"),
        ("", "text among them"),
    ],
)
def test_what_is_no_table(text: str, says: str):
    with pytest.raises(InputError, match=says):
        read_table(text, "table")
