"""Loudness against FFmpeg's own meter, and the two bands."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest
from av.filter import Graph

from pipeline.audio.decode import decode_clip
from pipeline.audio.levels import SILENT_LUFS, measure_levels, to_decibels
from pipeline.voice_list import VOICES_DIR, load_voices

pytestmark = pytest.mark.unit


def ffmpeg_lufs(samples: np.ndarray, rate_hz: int) -> float:
    graph = Graph()
    time_base = Fraction(1, rate_hz)
    source = graph.add_abuffer(
        sample_rate=rate_hz, format="flt", layout="mono", time_base=time_base
    )
    meter = graph.add("ebur128", "metadata=1:framelog=quiet")
    sink = graph.add("abuffersink")
    source.link_to(meter)
    meter.link_to(sink)
    graph.configure()
    frame = av.AudioFrame.from_ndarray(samples[np.newaxis], format="flt", layout="mono")
    frame.sample_rate, frame.pts, frame.time_base = rate_hz, 0, time_base
    graph.push(frame)
    graph.push(None)
    found = SILENT_LUFS
    while True:
        try:
            out = graph.pull()
        except (BlockingIOError, EOFError):
            return found
        found = float(out.metadata.get("lavfi.r128.I", found))


@pytest.mark.parametrize("name", sorted(load_voices(VOICES_DIR)))
def test_loudness_is_that_of_ffmpeg(name: str) -> None:
    clip = decode_clip(load_voices(VOICES_DIR)[name].path.read_bytes())
    found = measure_levels(clip.samples, clip.sample_rate_hz).loudness_lufs()
    assert found == pytest.approx(ffmpeg_lufs(clip.samples, clip.sample_rate_hz), abs=0.2)


@pytest.mark.parametrize("rate_hz", [8_000, 11_025, 44_100, 48_000, 192_000])
def test_loudness_at_any_rate(rate_hz: int) -> None:
    """A sine of 1 kHz at full scale has -3 LUFS, by the standard."""
    t = np.arange(2 * rate_hz) / rate_hz
    sine = (0.1 * np.sin(2 * np.pi * 1_000 * t)).astype(np.float32)
    assert measure_levels(sine, rate_hz).loudness_lufs() == pytest.approx(-23.0, abs=0.1)


def test_pauses_do_not_count() -> None:
    rng = np.random.default_rng(5)
    noise = rng.normal(0, 0.05, 48_000).astype(np.float32)
    alone = measure_levels(noise, 24_000).loudness_lufs()
    paused = np.concatenate([noise, np.zeros(240_000, np.float32), noise])
    assert measure_levels(paused, 24_000).loudness_lufs() == pytest.approx(alone, abs=0.7)


@pytest.mark.parametrize("n_samples", [0, 1, 5, 12_000])
def test_silence_and_next_to_nothing_have_a_level(n_samples: int) -> None:
    levels = measure_levels(np.zeros(n_samples, np.float32), 24_000)
    assert levels.loudness_lufs() == SILENT_LUFS
    assert len(levels.weighted) == max(1, n_samples // 480)


def test_a_band_holds_its_own_sound_only() -> None:
    t = np.arange(48_000) / 24_000
    for hz, is_high in ((1_000, False), (6_000, True)):
        sine = (0.2 * np.sin(2 * np.pi * hz * t)).astype(np.float32)
        levels = measure_levels(sine, 24_000)
        inside, outside = levels.speech_band, levels.high_band
        if is_high:
            inside, outside = outside, inside
        assert to_decibels(inside.mean()) == pytest.approx(to_decibels(0.2**2 / 2), abs=0.2)
        assert to_decibels(outside.mean()) < to_decibels(inside.mean()) - 25
