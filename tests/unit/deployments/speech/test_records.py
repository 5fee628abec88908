"""Answers as records, and a tape's listeners."""

from __future__ import annotations

import numpy as np
import pytest

from cache_store.codec import Record, RecordCodec
from cache_store.errors import RecordError
from cache_store.keyring import Keyring
from deployments.speech.records import (
    SPEECH_SCHEMA,
    Answer,
    from_note,
    to_answer,
    to_note,
    to_record,
)
from deployments.speech.tape import Tape, on_grid, sliced
from pipeline.audio.encode import make_encoder
from pipeline.contracts import Drawn, Quality, Usage, Verdict

pytestmark = pytest.mark.unit
RNG = np.random.default_rng(0)
SAMPLES = RNG.integers(-(2**15), 2**15, 50_000, dtype=np.int16)
ANSWER = Answer(
    SAMPLES,
    Quality(Verdict.SHORT, is_retried=True),
    Usage(33, 20),
    is_single=True,
    drawn=Drawn(np.arange(10, dtype=np.int16), frozenset()),
)


def test_an_answer_comes_back_from_its_entry() -> None:
    codec = RecordCodec(SPEECH_SCHEMA, Keyring())
    entry = codec.encode(to_record(ANSWER), "ab" * 32)
    back = to_answer(codec.decode(entry, "ab" * 32))
    assert np.array_equal(back.samples, SAMPLES)
    assert np.array_equal(back.drawn.ids, ANSWER.drawn.ids)
    assert (back.quality, back.usage, back.is_single) == (ANSWER.quality, Usage(33, 20), True)
    assert len(entry) < 1.02 * SAMPLES.nbytes


@pytest.mark.parametrize(
    ("arrays", "facts"),
    [
        ({"samples": np.empty(0, np.int16)}, {}),
        ({"tokens": np.zeros(7, np.int16)}, {}),
        ({"tokens": np.full(5, 5120, np.int16)}, {}),
        ({}, {"verdict": "fine"}),
    ],
)
def test_what_is_no_whole_answer_is_refused(arrays, facts) -> None:
    good = to_record(ANSWER)
    bad = Record({**good.arrays, **arrays}, {**good.metadata, **facts})
    with pytest.raises(RecordError):
        RecordCodec(SPEECH_SCHEMA, Keyring()).encode(bad, "ab" * 32)


def test_an_answer_without_its_verdict_is_refused() -> None:
    with pytest.raises(RecordError, match="verdict"):
        RecordCodec(SPEECH_SCHEMA, Keyring()).encode(
            Record(to_record(ANSWER).arrays, {}), "ab" * 32
        )


def test_notes_come_back() -> None:
    note = to_note(ANSWER.quality, ANSWER.usage, is_single=True)
    assert from_note(note) == (ANSWER.quality, ANSWER.usage, True)
    assert from_note(b"") == (Quality(), Usage(), False)


@pytest.mark.parametrize("audio_format", ["wav", "mp3", "opus", "aac", "flac"])
def test_rounding_is_once_for_all(audio_format: str) -> None:
    """Rounded speech encodes to the same bytes however it is cut, and however often rounded."""
    once = on_grid(RNG.uniform(-1.2, 1.2, 30_000).astype(np.float32))
    assert np.array_equal(on_grid(once), once)
    one, other = make_encoder(audio_format), make_encoder(audio_format)
    whole = one.encode(once) + one.finish()
    pieces = b"".join(other.encode(piece) for piece in np.array_split(once, 7))
    assert whole == pieces + other.finish()


def test_slices_are_the_whole_and_the_first_is_short() -> None:
    pieces = list(sliced(SAMPLES))
    assert np.array_equal(np.concatenate(pieces), SAMPLES)
    assert len(pieces[0]) == 6_000
    assert list(sliced(SAMPLES[:0])) == []


def test_no_slice_holds_the_event_loop_for_long() -> None:
    minutes = np.zeros(5 * 60 * 24_000, np.int16)
    pieces = list(sliced(minutes))
    assert sum(map(len, pieces)) == len(minutes)
    assert max(map(len, pieces)) == 16 * 24_000


@pytest.mark.parametrize(("start", "most"), [(0, 10), (5, 20_000), (49_990, 100), (50_000, 5)])
def test_a_tape_is_read_from_any_place(start: int, most: int) -> None:
    tape = Tape()
    for piece in np.array_split(SAMPLES, 9):
        tape.add(piece)
    assert np.array_equal(tape.samples_from(start, most), SAMPLES[start : start + most])
