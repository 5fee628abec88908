"""A hundred streams: nothing is heard at the borders of chunks, nor at the end."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.contracts import VoicePrompt
from pipeline.stepaudio import wave_decoder
from pipeline.stepaudio.hift import source_noise
from pipeline.stepaudio.wave_decoder import StepWaveDecoder
from tests.vocoder_files import join, make_ids, make_voice, token_stream, write_vocoder

pytestmark = pytest.mark.unit

N_STREAMS = 100
GROUP_SAMPLES = 2880
NEAR = 120  # samples on each side of a border: 5 ms
LAST = 2400  # the last 100 ms


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StepWaveDecoder]:
    directory: Path = write_vocoder(tmp_path_factory.mktemp("vocoder"))
    decoder = StepWaveDecoder(directory, threads=1, steps=1, chunk_rows=(5, 8, 11))
    yield decoder
    decoder.close()


class Heard:
    """One stream: its pieces, and the same mel made to sound as a whole."""

    def __init__(self, pieces: list[np.ndarray], whole: np.ndarray) -> None:
        self.audio = join(pieces)
        self.whole = whole
        ends = np.cumsum([len(piece) for piece in pieces if len(piece)])
        self.borders = [int(end) for end in ends[:-1]]


@pytest.fixture(scope="module")
def streams(decoder: StepWaveDecoder) -> list[Heard]:
    mels: list[torch.Tensor] = []
    real = wave_decoder.decode_chunk

    def watched(hift: Any, mel: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        mels.append(mel)
        return real(hift, mel, *args, **kwargs)

    heard = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wave_decoder, "decode_chunk", watched)
        for seed in range(N_STREAMS):
            mels.clear()
            ids, voice = make_ids(6 + seed % 7, seed), make_voice(1 + seed % 3, seed)
            first = (None, 6, 9)[seed % 3]
            pieces = asyncio.run(pieces_of(decoder, ids, voice, 1 + seed % 4, first))
            heard.append(Heard(pieces, sounded_whole(decoder, torch.cat(mels, dim=2))))
    return heard


async def pieces_of(
    decoder: StepWaveDecoder,
    ids: np.ndarray,
    voice: VoicePrompt,
    groups_per_chunk: int,
    first: int | None,
) -> list[np.ndarray]:
    stream = decoder.stream(token_stream(ids, groups_per_chunk), voice, first)
    return [chunk.samples async for chunk in stream]


@torch.inference_mode()
def sounded_whole(decoder: StepWaveDecoder, mel: torch.Tensor) -> np.ndarray:
    hift = decoder._model.hift
    source = hift.m_source
    size = source.samples_per_frame
    noise = source_noise(decoder._model.seed, 0, mel.shape[2], size, source.n_sines)
    return hift(mel, noise)[0].clamp(-1, 1).numpy()


def test_totals_are_exact(streams: list[Heard]) -> None:
    for seed, one in enumerate(streams):
        assert len(one.audio) == len(one.whole) == (6 + seed % 7) * GROUP_SAMPLES
        assert np.isfinite(one.audio).all()
        assert one.borders


def test_no_step_at_a_border_is_beyond_the_signals_own(streams: list[Heard]) -> None:
    for one in streams:
        steps = np.abs(np.diff(one.audio))
        at_borders = np.array([steps[border - 1] for border in one.borders])
        assert at_borders.max() <= np.delete(steps, [b - 1 for b in one.borders]).max()


def test_borders_hold_no_more_energy_than_the_whole_has_there(streams: list[Heard]) -> None:
    """Energy of steps, where clicks show: near all borders, streamed against whole."""

    def energy(audio: np.ndarray, borders: list[int]) -> float:
        steps = np.diff(audio) ** 2
        return float(sum(steps[b - NEAR : b + NEAR].sum() for b in borders))

    streamed = sum(energy(one.audio, one.borders) for one in streams)
    whole = sum(energy(one.whole, one.borders) for one in streams)
    assert streamed == pytest.approx(whole, rel=0.02)


def test_the_end_is_the_speech_and_not_noise(streams: list[Heard]) -> None:
    for one in streams:
        level = np.sqrt(np.mean(one.whole[-LAST:] ** 2))
        error = np.sqrt(np.mean((one.audio[-LAST:] - one.whole[-LAST:]) ** 2))
        assert error < 0.05 * level
