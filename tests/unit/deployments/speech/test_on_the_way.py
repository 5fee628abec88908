"""Speech between processes: half the bytes, and what everybody hears stays the same."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from deployments.speech.on_the_way import sent_in_steps
from deployments.speech.tape import on_grid
from deployments.telemetry.transfers import stamped
from pipeline.audio.encode import to_pcm16
from pipeline.contracts import SpeechChunk

pytestmark = pytest.mark.unit

RAY_SENDS_ALONG_BYTES = 100 * 1024  # with the message; more goes to the object store
LOUD = np.random.default_rng(0).normal(0, 0.6, 24_000).astype(np.float32)  # some of it clips


@pytest.mark.parametrize("samples", [LOUD, LOUD[:0], LOUD[::2]], ids=["loud", "none", "strided"])
def test_what_arrives_is_on_the_grid(samples: np.ndarray) -> None:
    sent = stamped(sent_in_steps(SpeechChunk(samples, last=True)))
    arrived = pickle.loads(pickle.dumps(sent, protocol=5)).value  # noqa: S301 - our own bytes
    assert type(arrived.samples) is np.ndarray
    assert arrived.samples.dtype == np.float32
    assert np.array_equal(arrived.samples, on_grid(samples))
    assert np.array_equal(to_pcm16(arrived.samples), to_pcm16(samples))
    assert arrived.last


def test_two_seconds_go_along_with_their_message() -> None:
    two_s = SpeechChunk(np.tile(LOUD, 2), last=False)
    assert len(pickle.dumps(stamped(two_s))) > RAY_SENDS_ALONG_BYTES
    assert len(pickle.dumps(stamped(sent_in_steps(two_s)))) < RAY_SENDS_ALONG_BYTES


def test_who_does_not_know_our_class_reads_it() -> None:
    written = pickle.dumps(sent_in_steps(SpeechChunk(LOUD, last=False)).samples)
    assert b"deployments" not in written
