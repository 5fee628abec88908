# pyright: basic
"""Timings of the tokenizer: vq02 against the loop, clips in one pass, whole misses."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from load_tests.bench.full_tokenizer import write_full_tokenizer
from load_tests.bench.report import Row, median_s
from pipeline.contracts import ReferenceClip, VoicePrompt
from pipeline.stepaudio.config import TOKENIZER_RATE_HZ
from pipeline.stepaudio.layout import CheckpointLayout, resolve_model
from pipeline.stepaudio.tokenizer.linguistic import LinguisticEncoder, nearest_codes
from pipeline.stepaudio.tokenizer.voice_encoder import StepVoiceEncoder
from tests.encoder_files import chunk_loop

CLIP_S = 6.0
CLIP_RATE_HZ = 24_000
FULL_SIZE = {
    "output_size": 512,
    "attention_heads": 4,
    "linear_units": 2048,
    "num_blocks": 50,
}
N_CODES = 1024
TOGETHER = 8
BATCHES_S = [[CLIP_S] * n for n in (1, 2, 4, TOGETHER)]  # lengths of clips in one pass
BATCHES_S.append([1, 2, 3, 4, 5, 7, 10, 16])
BATCH_S = 60.0  # as in serve_config.yaml
FULL = "full"  # the released sizes, random weights
BAR_MS = 80.0  # of a miss on a GPU

OpenEncoder = Callable[[float], StepVoiceEncoder]  # by batch_s


def speechlike(duration_s: float, rate_hz: int, seed: int) -> np.ndarray:
    """Noise whose level moves as syllables do, float32 (n,)."""
    random = np.random.default_rng(seed)
    n = int(duration_s * rate_hz)
    level = 0.1 * (1 + np.sin(2 * np.pi * 4 * np.arange(n) / rate_hz))
    return (random.standard_normal(n) * level).astype(np.float32)


def speechlike_16k(duration_s: float, seed: int) -> torch.Tensor:
    """The same as vq02 and vq06 read it."""
    return torch.from_numpy(speechlike(duration_s, TOKENIZER_RATE_HZ, seed))


def encoder_files(model: str, directory: Path, size: dict[str, int]) -> tuple[Path, Path]:
    """Tokenizer and vocoder directory of a checkpoint, or of the released sizes."""
    if model == FULL:
        return write_full_tokenizer(directory / FULL, size)
    layout = CheckpointLayout.at(resolve_model(model))
    return layout.tokenizer, layout.vocoder


def moved(encoder: LinguisticEncoder, device: str) -> LinguisticEncoder:
    """The encoder itself, on another device."""
    encoder.encoder.to(device)
    encoder._device = device
    return encoder


def against_loop(
    encoder: LinguisticEncoder, device: str, n_threads: int, repeats: int = 3
) -> list[Row]:
    """All chunks at once against funasr's loop, on one clip: ms, codes that differ.

    The loop runs on the CPU, which is the truth, and on `device` too where that is another.
    """
    usual_threads = torch.get_num_threads()
    torch.set_num_threads(n_threads)
    try:
        return _against_loop(encoder, device, _threads(n_threads), repeats)
    finally:
        torch.set_num_threads(usual_threads)


def _threads(n_threads: int) -> str:
    return "1 thread" if n_threads == 1 else f"{n_threads} threads"


def _against_loop(encoder: LinguisticEncoder, device: str, threads: str, repeats: int) -> list[Row]:
    n_layers = len(encoder.encoder.encoders0) + len(encoder.encoder.encoders)
    name = f"vq02, {n_layers} layers, {CLIP_S:g} s clip, {threads}"
    waveform = speechlike_16k(CLIP_S, 1)
    moved(encoder, "cpu")
    truth = chunk_loop(encoder, waveform)
    loops_s = {"CPU": _mean_s(lambda: chunk_loop(encoder, waveform), repeats)}
    moved(encoder, device)
    if device != "cpu":
        chunk_loop(encoder, waveform)
        loops_s[device] = _mean_s(lambda: chunk_loop(encoder, waveform).cpu(), repeats)
    hidden = encoder.encode(waveform)
    at_once_s = median_s(lambda: encoder.encode(waveform).cpu(), 5)
    loops = [Row(f"{name}: chunk loop ({at})", s * 1e3, "ms") for at, s in loops_s.items()]
    ratios = [Row(f"{name}: ratio", loops_s["CPU"] / at_once_s, "x", 4.0, "higher")]
    if device != "cpu":
        ratios.append(
            Row(f"{name}: ratio to the loop on {device}", loops_s[device] / at_once_s, "x")
        )
    return [
        *loops,
        Row(f"{name}: all chunks at once ({device})", at_once_s * 1e3, "ms"),
        *ratios,
        Row(f"{name}: codes that differ", _differing(hidden, truth), "codes", 0.0),
    ]


def _mean_s(work: Callable[[], object], repeats: int) -> float:
    """Mean duration of `work`, which has run before."""
    started_s = time.perf_counter()
    for _ in range(repeats):
        work()
    return (time.perf_counter() - started_s) / repeats


def _differing(hidden: torch.Tensor, truth: torch.Tensor) -> float:
    """Number of differing codes, by a codebook of rows of the reference output."""
    order = torch.randperm(len(truth), generator=torch.Generator().manual_seed(0))
    codebook = truth[order[:N_CODES]]
    codes, expected = (nearest_codes(h, codebook) for h in (hidden, truth))
    return float(np.sum(codes != expected))


@torch.inference_mode()
def compare_batch(encoder: LinguisticEncoder, lengths_s: Sequence[float], device: str) -> list[Row]:
    """Does a batch of clips pay? Clips in one pass against the same clips one by one."""
    clips = [encoder.frames(speechlike_16k(s, seed)) for seed, s in enumerate(lengths_s)]
    took_s = []
    for _ in range(4):  # by turns, so that both see the same neighbours; the first warms up
        started_s = time.perf_counter()
        alone = [encoder.encode_frames([clip])[0].cpu() for clip in clips]
        middle_s = time.perf_counter()
        together = [hidden.cpu() for hidden in encoder.encode_frames(clips)]
        took_s.append((middle_s - started_s, time.perf_counter() - middle_s))
    alone_s, together_s = np.median(took_s[1:], axis=0)
    name = batch_name(lengths_s, device)
    return [
        Row(f"{name}: one by one", alone_s * 1e3, "ms"),
        Row(f"{name}: in one pass", together_s * 1e3, "ms"),
        Row(f"{name}: ratio", alone_s / together_s, "x"),
        Row(
            f"{name}: codes that differ",
            _differing(torch.cat(together), torch.cat(alone)),
            "codes",
            0.0,
        ),
    ]


def batch_name(lengths_s: Sequence[float], device: str) -> str:
    """How rows of a batch are called."""
    shortest_s, longest_s = min(lengths_s), max(lengths_s)
    kind = f"{longest_s:g} s" if shortest_s == longest_s else f"{shortest_s:g} to {longest_s:g} s"
    return f"vq02 on {device}, {len(lengths_s)} of {kind}"


def measure_miss(open_encoder: OpenEncoder, name: str, bar_ms: float | None) -> list[Row]:
    """A whole encode, and several clips at a time."""
    clips = _clips()
    with _opened(open_encoder, 0.0) as encoder:
        alone_s = median_s(lambda: encoder.encode_blocking(clips[0]), 5)
        together_s = median_s(lambda: asyncio.run(_encode_all(encoder, clips)), 3)
    return [
        Row(f"{name}: miss", alone_s * 1e3, "ms", bar_ms),
        Row(_together(name), together_s / TOGETHER * 1e3, "ms"),
    ]


def measure_batched_misses(open_encoder: OpenEncoder, name: str) -> list[Row]:
    """Several clips at a time whose vq02 take one pass."""
    clips = _clips()
    with _opened(open_encoder, BATCH_S) as encoder:
        batched_s = median_s(lambda: asyncio.run(_encode_all(encoder, clips)), 3)
    title = f"{_together(name)}, batch_s {BATCH_S:g}"
    return [Row(title, batched_s / TOGETHER * 1e3, "ms")]


def _together(name: str) -> str:
    return f"{name}: {TOGETHER} misses at a time, each"


def _clips() -> list[ReferenceClip]:
    return [
        ReferenceClip(speechlike(CLIP_S, CLIP_RATE_HZ, seed), CLIP_RATE_HZ, f"{seed:064d}")
        for seed in range(TOGETHER)
    ]


@contextmanager
def _opened(open_encoder: OpenEncoder, batch_s: float) -> Iterator[StepVoiceEncoder]:
    encoder = open_encoder(batch_s)
    try:
        yield encoder
    finally:
        encoder.close()


async def _encode_all(encoder: StepVoiceEncoder, clips: list[ReferenceClip]) -> list[VoicePrompt]:
    return await asyncio.gather(*(encoder.encode(clip) for clip in clips))
