"""Texts of callers that made an expression run for minutes: each is read in an instant."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest

from deployments.config.settings import load_settings
from deployments.http.bodies.forms import Label
from deployments.http.bodies.read import RawBody
from deployments.http.jobs.body import Defaults, read_job
from deployments.http.model_names import ModelNames
from deployments.jobs.plan import JobOrder
from deployments.jobs.subtitles import Subtitle, is_subtitles, read_subtitles
from deployments.jobs.tables import is_table, read_table
from pipeline.errors import InputError

# An expression asks for signals while it runs, so that a limit ends one that takes minutes.
pytestmark = [pytest.mark.unit, pytest.mark.timeout(10)]
MANY = 100_000
TIMES = "00:01.000 --> 00:02.000\n"
SETTINGS = load_settings({})


def ordered(**body: object) -> JobOrder:
    raw = RawBody(json.dumps(body).encode(), Label.of("application/json"))
    return read_job(raw, Defaults(None, None), SETTINGS, ModelNames(SETTINGS))


@pytest.mark.parametrize(
    "said",
    [
        "<v" + ".a" * (MANY // 2),
        "<v" + "." * MANY + " ",
        "<v " * (MANY // 3),
        "<v.a " * (MANY // 5),
        "<v" + " " * MANY,
        "<v " + " " * MANY + "Ann",
        "<v Ann" + "\t" * MANY,
        "<" * MANY,
        "{\\" * (MANY // 2),
        " \n" * (MANY // 2) + "x",
    ],
)
def test_a_cue_is_read_in_an_instant(said: str):
    with suppress(InputError):
        read_subtitles(TIMES + "One " + said, "subtitles")


@pytest.mark.parametrize(
    "line", ["0" * MANY, " " * MANY + "x", TIMES.strip() + " " * MANY, "00:01.000 " + " " * MANY]
)
def test_a_line_of_times_is_read_in_an_instant(line: str):
    is_subtitles(line)
    with suppress(InputError):
        read_subtitles(f"{line} -->\nOne.", "subtitles")


@pytest.mark.parametrize(
    ("said", "speaker"),
    [
        ("<v Ann>One.", "Ann"),
        ("<v.loud Ann B.>One.", "Ann B."),
        ("<v.first.loud\tAnn>One.</v>", "Ann"),
        ("<v   Ann  >One.", "Ann"),
        ("<i><v Ann></i>One.", "Ann"),
        ("<video Ann>One.", None),
        ("<v>One.", None),
    ],
)
def test_who_speaks_is_found_as_before(said: str, speaker: str | None):
    assert read_subtitles(TIMES + said, "s") == [Subtitle(1.0, 2.0, "One.", speaker)]


@pytest.mark.parametrize(
    "steps",
    [
        "emotion:" + " " * MANY + "!*",
        "emotion" + " " * MANY + "!",
        "emotion: a" + " a" * (MANY // 2) + "*",
        "a" * MANY + "!",
        "emotion:happy" + "\u2003" * MANY + "* 22",
        "emotion:happy;" * (MANY // 14),
        ";" * MANY,
    ],
)
def test_steps_in_short_are_read_in_an_instant(steps: str):
    with suppress(InputError):
        ordered(inputs=[{"text": "One.", "edits": steps}])


def test_steps_in_short_are_found_as_before():
    (ask,) = ordered(
        inputs=[{"text": "One.", "edits": " emotion = happy *2;\tstyle:  whisper ; denoise"}]
    ).asks
    assert [(str(one.mode), one.info, one.passes) for one in ask.edits] == [
        ("emotion", "happy", 2),
        ("style", "whisper", 1),
        ("denoise", "", 1),
    ]


@pytest.mark.parametrize("table", ["text" + "," * MANY, "text\n" + '"' * MANY, "text " * MANY])
def test_a_table_is_read_in_an_instant(table: str):
    is_table(table)
    with suppress(InputError):
        read_table(table, "table")
