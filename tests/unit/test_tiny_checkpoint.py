"""The embedded checkpoint: complete, small, described, and it speaks."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import numpy as np
import pytest

from pipeline.contracts import OUTPUT_SAMPLE_RATE_HZ, Sampling, SpeechRequest
from pipeline.local import LocalPipeline, _say
from pipeline.phonemes import FRONT_END_NAME
from pipeline.prompting import FRONT_END_KEY
from pipeline.stepaudio.checkpoint_verify import verify_checkpoint
from pipeline.stepaudio.layout import PACKAGED_TINY, CheckpointLayout
from pipeline.voice_list import load_voices

pytestmark = pytest.mark.unit

MAX_BYTES = 40_000_000
TEXT = "The children opened the garden gate."


@pytest.fixture(scope="module")
def speaking() -> Iterator[LocalPipeline]:
    with LocalPipeline("tiny") as pipeline:
        yield pipeline


def spoken(pipeline: LocalPipeline, voice: str, seed: int) -> np.ndarray:
    listed = load_voices()[voice]
    request = SpeechRequest(
        text=TEXT, transcript=listed.transcript, speaker="", sampling=Sampling(seed=seed)
    )
    return asyncio.run(_say(pipeline, listed.path.read_bytes(), request))[0]


def test_it_is_sound_and_small() -> None:
    report = verify_checkpoint(PACKAGED_TINY)
    assert report.ok, report.problems
    files = [path for path in PACKAGED_TINY.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= MAX_BYTES


def test_its_config_names_the_front_end_and_its_card_says_what_it_is() -> None:
    config = json.loads(CheckpointLayout.at(PACKAGED_TINY).lm_config.read_text())
    assert config[FRONT_END_KEY] == FRONT_END_NAME
    card = (PACKAGED_TINY / "README.md").read_text(encoding="utf-8")
    for heading in ("Data", "Recipe", "Quality", "Limits", "Licence"):
        assert f"\n## {heading}" in card


def test_it_speaks_at_a_plausible_length_and_level(speaking: LocalPipeline) -> None:
    samples = spoken(speaking, "elena", 3)
    assert 1.0 < len(samples) / OUTPUT_SAMPLE_RATE_HZ < 4.5  # six words
    assert 0.01 < float(np.sqrt(np.mean(samples**2))) < 0.3
    assert float(np.abs(samples).max()) <= 1.0
    assert np.array_equal(samples, spoken(speaking, "elena", 3))


def test_a_high_voice_makes_it_speak_higher_than_a_low_one(speaking: LocalPipeline) -> None:
    low, high = (_pitch_hz(spoken(speaking, name, 3)) for name in ("david", "clara"))
    assert high > 1.4 * low


def _pitch_hz(samples: np.ndarray) -> float:
    """Median over loud frames of the autocorrelation's best lag between 70 and 400 Hz."""
    size, rate = 1440, OUTPUT_SAMPLE_RATE_HZ
    frames = np.lib.stride_tricks.sliding_window_view(samples, size)[::480]
    level = np.sqrt(np.mean(frames**2, axis=1))
    pitches = []
    for frame in frames[level > np.quantile(level, 0.6)]:
        spectrum = np.abs(np.fft.rfft(frame * np.hanning(size), 4096)) ** 2
        correlation = np.fft.irfft(spectrum)
        lags = np.arange(rate // 400, rate // 70)
        pitches.append(rate / lags[correlation[lags].argmax()])
    return float(np.median(pitches))
