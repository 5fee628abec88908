"""What Serve logs of a refused request is one line; of a failed one, everything."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator

import pytest

from deployments.telemetry import logs as telemetry
from pipeline import errors
from pipeline.errors import CapacityError, StageError, TextError

pytestmark = pytest.mark.unit


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """What a replica's log holds, with the loggers set up as a replica does."""
    loggers = [logging.getLogger(name) for name in ("ray.serve", *telemetry.OUR_LOGGERS)]
    before = [(one, one.level, one.propagate, one.handlers[:], one.filters[:]) for one in loggers]
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    loggers[0].handlers = [handler]
    loggers[0].setLevel(logging.INFO)
    telemetry.adopt_serve_logging()
    yield stream
    for one, level, propagate, handlers, filters in before:
        one.setLevel(level)
        one.propagate, one.handlers, one.filters = propagate, handlers, filters


def raises(error: Exception) -> None:
    raise error


def fails(error: Exception) -> None:
    """As ray/serve/_private/replica.py logs what a deployment's method raised."""
    try:
        raises(error)
    except Exception:
        logging.getLogger("ray.serve").exception("Request failed.")


REFUSALS = [
    (
        TextError("'my secret' holds nothing to speak", param="input"),
        "INFO",
        "invalid_text (input)",
    ),
    (errors.UndecodableAudioError("x"), "INFO", "undecodable_audio (-)"),
    (errors.ClipDurationError("x", param="ref_audio"), "INFO", "clip_duration (ref_audio)"),
    (errors.TooLargeError("x"), "INFO", "too_large (-)"),
    (errors.UnsupportedError("x"), "INFO", "unsupported_value (-)"),
    (CapacityError("x"), "WARNING", "overloaded (-)"),
]


@pytest.mark.parametrize(
    ("error", "level", "says"), REFUSALS, ids=[type(row[0]).__name__ for row in REFUSALS]
)
def test_a_refusal_is_one_line(log: io.StringIO, error: Exception, level: str, says: str) -> None:
    fails(error)
    assert log.getvalue() == f"{level} Request refused: {says}.\n"


@pytest.mark.parametrize("error", [StageError("it broke", detail="why"), ZeroDivisionError()])
def test_a_failure_keeps_its_traceback(log: io.StringIO, error: Exception) -> None:
    fails(error)
    assert log.getvalue().startswith("ERROR Request failed.\nTraceback")
    assert type(error).__name__ in log.getvalue()


def test_other_lines_pass(log: io.StringIO) -> None:
    logging.getLogger("ray.serve").info("started %s", "well")
    telemetry.adopt_serve_logging()
    fails(TextError("again"))
    assert log.getvalue() == "INFO started well\nINFO Request refused: invalid_text (-).\n"
