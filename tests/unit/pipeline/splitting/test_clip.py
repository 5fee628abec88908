"""Clips longer than the model takes are cut at pauses, with the words that belong to each part."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.audio.decode import decode_clip
from pipeline.contracts import Float32Array
from pipeline.errors import ClipDurationError, InputError
from pipeline.splitting.clip import split_clip
from pipeline.splitting.pauses import find_pauses
from pipeline.voice_list import load_voices

pytestmark = pytest.mark.unit
VOICES = load_voices()
RATE_HZ = 22_050
PAUSE_S = 0.45


def spoken(names: list[str]) -> tuple[Float32Array, str, list[float]]:
    """Voices one after another: samples, all their words, and where each ends, seconds."""
    pieces, ends = list[Float32Array](), list[float]()
    noise = np.random.default_rng(0)
    for name in names:
        clip = decode_clip(VOICES[name].path.read_bytes())
        assert clip.sample_rate_hz == RATE_HZ
        pause = noise.normal(0, 1e-4, round(PAUSE_S * RATE_HZ)).astype(np.float32)
        pieces += [clip.samples, pause]
        ends.append(sum(map(len, pieces)) / RATE_HZ)
    return np.concatenate(pieces), " ".join(VOICES[name].transcript for name in names), ends


ALL = list(VOICES)


@pytest.mark.slow
@pytest.mark.parametrize("limit_s", [12.0, 20.0, 30.0])
@pytest.mark.parametrize("names", [ALL, ALL[::-1], ["bruno", "aria"] * 6])
def test_words_and_audio_are_cut_at_the_same_places(names: list[str], limit_s: float) -> None:
    samples, text, ends = spoken(names)
    parts = split_clip(samples, RATE_HZ, text, limit_s)
    assert len(parts) > 1
    assert np.array_equal(np.concatenate([part.samples for part in parts]), samples)
    assert " ".join(part.transcript for part in parts) == text
    at_s = 0.0
    said = [VOICES[name].transcript for name in names]
    for part in parts[:-1]:
        assert len(part.samples) <= limit_s * RATE_HZ
        at_s += len(part.samples) / RATE_HZ
        n_said = len(part.transcript)
        sentences = next(n for n in range(1, 20) if len(" ".join(said[:n])) >= n_said)
        assert part.transcript == " ".join(said[:sentences])
        said = said[sentences:]
        end_s = ends[len(names) - len(said) - 1]
        assert end_s - PAUSE_S - 0.3 < at_s < end_s + 0.2


def test_without_words_any_pause_will_do() -> None:
    samples, _, _ = spoken(ALL)
    parts = split_clip(samples, RATE_HZ, "", 12.0)
    assert len(parts) >= 3
    assert {part.transcript for part in parts} == {""}
    assert np.array_equal(np.concatenate([part.samples for part in parts]), samples)
    quiet = find_pauses(samples, RATE_HZ)
    middles = [pause.middle_s for pause in quiet.inner]
    cuts = np.cumsum([len(part.samples) for part in parts])[:-1] / RATE_HZ
    assert all(min(abs(cut - middle) for middle in middles) < 0.001 for cut in cuts)


def test_a_short_clip_is_one_part() -> None:
    samples, text, _ = spoken(["aria"])
    (part,) = split_clip(samples, RATE_HZ, text, 30.0)
    assert part.transcript == text
    assert part.samples.shape == samples.shape


@pytest.mark.parametrize(
    "text",
    [
        " ".join(VOICES[name].transcript for name in ALL[:3]),  # words are missing
        " ".join(VOICES[name].transcript for name in ALL * 3),  # words that nobody said
        " ".join(VOICES[name].transcript for name in ALL).replace(".", ""),  # no sentences
        "Yes. " * 66,
    ],
)
def test_words_that_might_get_to_the_wrong_part_are_refused(text: str) -> None:
    samples, _, _ = spoken(ALL)
    with pytest.raises(InputError, match="parts"):
        split_clip(samples, RATE_HZ, text, 12.0)


def test_sound_without_a_pause_cannot_be_cut() -> None:
    hum = np.sin(np.arange(40 * 8_000) / 5).astype(np.float32) * np.float32(0.3)
    with pytest.raises(ClipDurationError, match=r"between 0.0 and 30.0 s"):
        split_clip(hum, 8_000, "", 30.0)
