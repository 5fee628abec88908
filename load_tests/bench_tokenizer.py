"""Measures the tokenizer: vq02 against the chunk loop, clips in one pass, a miss, misses together.

    python -m load_tests.bench_tokenizer [--device cuda] [--threads 1 2 4] [--quick] [--json FILE]
    python -m load_tests.bench_tokenizer --model full [--device cuda]

vq02 runs at the released size (50 layers of 512) with seeded random weights, once for every count
of --threads. The loop is funasr's own streaming code on the same weights and threads, the one that
the tests take for the truth. Clips in one pass run at the first count of --threads. A miss is timed
on a checkpoint, or with `--model full`, which is the default on a GPU, on encoders of the released
sizes with random weights.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from load_tests.full_tokenizer import write_full_tokenizer
from load_tests.provenance import provenance
from load_tests.report import Row, median_s, publish
from pipeline.contracts import ReferenceClip, VoicePrompt
from pipeline.stepaudio.config import TOKENIZER_RATE_HZ
from pipeline.stepaudio.layout import CheckpointLayout, resolve_model
from pipeline.stepaudio.tokenizer.linguistic import LinguisticEncoder, nearest_codes
from pipeline.stepaudio.tokenizer.voice_encoder import StepVoiceEncoder
from tests.encoder_files import chunk_loop, make_encoder

CLIP_S = 6.0
CLIP_RATE_HZ = 24_000
FULL_SIZE = {
    "output_size": 512,
    "attention_heads": 4,
    "linear_units": 2048,
    "num_blocks": 50,
}
QUICK_SIZE = {**FULL_SIZE, "num_blocks": 5}
N_CODES = 1024
TOGETHER = 8
BATCHES_S = [[CLIP_S] * n for n in (1, 2, 4, TOGETHER)]  # lengths of clips in one pass
BATCHES_S.append([1, 2, 3, 4, 5, 7, 10, 16])
BATCH_S = 60.0  # as in serve_config.yaml
FULL = "full"  # the released sizes, random weights
BAR_MS = 80.0  # of a miss on a GPU


def speechlike(duration_s: float, rate_hz: int, seed: int) -> np.ndarray:
    """Noise whose level moves as syllables do, float32 (n,)."""
    random = np.random.default_rng(seed)
    n = int(duration_s * rate_hz)
    level = 0.1 * (1 + np.sin(2 * np.pi * 4 * np.arange(n) / rate_hz))
    return (random.standard_normal(n) * level).astype(np.float32)


def measure_linguistic(
    directory: Path, size: dict[str, Any], device: str, threads: Sequence[int]
) -> list[Row]:
    """All chunks at once against the loop, on one clip, by threads."""
    encoder = make_encoder(directory, **size)
    waveform = torch.from_numpy(speechlike(CLIP_S, TOKENIZER_RATE_HZ, 1))
    usual_threads = torch.get_num_threads()
    rows = []
    for n_threads in threads:
        torch.set_num_threads(n_threads)
        rows += _compare_once(encoder, waveform, device, _name(size, n_threads))
    torch.set_num_threads(usual_threads)
    return rows


def _name(size: dict[str, int], n_threads: int) -> str:
    threads = "1 thread" if n_threads == 1 else f"{n_threads} threads"
    return f"vq02, {size['num_blocks']} layers, {CLIP_S:g} s clip, {threads}"


def _compare_once(
    encoder: LinguisticEncoder, waveform: torch.Tensor, device: str, name: str
) -> list[Row]:
    """The loop always runs on the CPU; all chunks at once on `device`."""
    encoder = _moved(encoder, "cpu")
    truth = chunk_loop(encoder, waveform)
    loop_s = median_s(lambda: chunk_loop(encoder, waveform), 3)
    encoder = _moved(encoder, device)
    hidden = encoder.encode(waveform)
    at_once_s = median_s(lambda: encoder.encode(waveform).cpu(), 5)
    codebook = truth[torch.randperm(len(truth), generator=torch.Generator().manual_seed(0))]
    codes, expected = (nearest_codes(h, codebook[:N_CODES]) for h in (hidden, truth))
    return [
        Row(f"{name}: chunk loop (CPU)", loop_s * 1e3, "ms"),
        Row(f"{name}: all chunks at once ({device})", at_once_s * 1e3, "ms"),
        Row(f"{name}: ratio", loop_s / at_once_s, "x", 4.0, "higher"),
        Row(f"{name}: codes that differ", float(np.sum(codes != expected)), "codes", 0.0),
    ]


def _moved(encoder: LinguisticEncoder, device: str) -> LinguisticEncoder:
    encoder.encoder.to(device)
    encoder._device = device
    return encoder


def measure_batches(directory: Path, size: dict[str, Any], device: str) -> list[Row]:
    """Does a batch of clips pay? Clips in one pass against the same clips one by one."""
    encoder = _moved(make_encoder(directory, **size), device)
    return [row for lengths_s in BATCHES_S for row in _compare_batch(encoder, lengths_s, device)]


@torch.inference_mode()
def _compare_batch(
    encoder: LinguisticEncoder, lengths_s: Sequence[float], device: str
) -> list[Row]:
    clips = [
        encoder.frames(torch.from_numpy(speechlike(length_s, TOKENIZER_RATE_HZ, seed)))
        for seed, length_s in enumerate(lengths_s)
    ]
    took_s = []
    alone, together = [], []
    for _ in range(4):  # by turns, so that both see the same neighbours; the first warms up
        started_s = time.perf_counter()
        alone = [encoder.encode_frames([clip])[0].cpu() for clip in clips]
        middle_s = time.perf_counter()
        together = [hidden.cpu() for hidden in encoder.encode_frames(clips)]
        took_s.append((middle_s - started_s, time.perf_counter() - middle_s))
    alone_s, together_s = np.median(took_s[1:], axis=0)
    codebook = torch.cat(alone)
    codebook = codebook[torch.randperm(len(codebook), generator=torch.Generator().manual_seed(0))]
    codes, expected = (
        nearest_codes(torch.cat(hidden), codebook[:N_CODES]) for hidden in (together, alone)
    )
    shortest_s, longest_s = min(lengths_s), max(lengths_s)
    kind = f"{longest_s:g} s" if shortest_s == longest_s else f"{shortest_s:g} to {longest_s:g} s"
    name = f"vq02 on {device}, {len(clips)} of {kind}"
    return [
        Row(f"{name}: one by one", alone_s * 1e3, "ms"),
        Row(f"{name}: in one pass", together_s * 1e3, "ms"),
        Row(f"{name}: ratio", alone_s / together_s, "x"),
        Row(f"{name}: codes that differ", float(np.sum(codes != expected)), "codes", 0.0),
    ]


def encoder_files(model: str, directory: Path, size: dict[str, int]) -> tuple[Path, Path]:
    """Tokenizer and vocoder directory of a checkpoint, or of the released sizes."""
    if model == FULL:
        return write_full_tokenizer(directory / FULL, size)
    layout = CheckpointLayout.at(resolve_model(model))
    return layout.tokenizer, layout.vocoder


def measure_miss(
    files: tuple[Path, Path], model: str, device: str, bar_ms: float | None
) -> list[Row]:
    """A whole encode, and several clips at a time."""
    clips = [
        ReferenceClip(speechlike(CLIP_S, CLIP_RATE_HZ, seed), CLIP_RATE_HZ, f"{seed:064d}")
        for seed in range(TOGETHER)
    ]
    encoder = StepVoiceEncoder(*files, device=device, threads=1)
    alone_s = median_s(lambda: encoder.encode_blocking(clips[0]), 5)
    together_s = median_s(lambda: asyncio.run(_encode_all(encoder, clips)), 3)
    encoder.close()
    batching = StepVoiceEncoder(*files, device=device, threads=1, batch_s=BATCH_S)
    batched_s = median_s(lambda: asyncio.run(_encode_all(batching, clips)), 3)
    batching.close()
    name = f"{Path(model).name} on {device}, {CLIP_S:g} s clip"
    title = f"{name}: {TOGETHER} misses at a time, each"
    return [
        Row(f"{name}: miss", alone_s * 1e3, "ms", bar_ms),
        Row(title, together_s / TOGETHER * 1e3, "ms"),
        Row(f"{title}, batch_s {BATCH_S:g}", batched_s / TOGETHER * 1e3, "ms"),
    ]


async def _encode_all(encoder: StepVoiceEncoder, clips: list[ReferenceClip]) -> list[VoicePrompt]:
    return await asyncio.gather(*(encoder.encode(clip) for clip in clips))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--model", help="whose miss is timed: full, tiny or a directory")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2, 4], help="of vq02")
    parser.add_argument("--quick", action="store_true", help="5 layers instead of 50")
    parser.add_argument("--json", type=Path, help="also write the results here")
    options = parser.parse_args()
    size = QUICK_SIZE if options.quick else FULL_SIZE
    is_gpu = options.device != "cpu"
    model = options.model or (FULL if is_gpu else "tiny")
    torch.backends.cudnn.allow_tf32 = False  # as the replica has it: codes must be exact
    torch.set_num_threads(options.threads[0])
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        rows = measure_linguistic(directory, size, options.device, options.threads)
        rows += measure_batches(directory, size, options.device)
        files = encoder_files(model, directory, size)
        bar_ms = BAR_MS if is_gpu and model == FULL else None
        rows += measure_miss(files, model, options.device, bar_ms)
    about = provenance(options.device)
    return publish(rows, about, options.json)


if __name__ == "__main__":
    sys.exit(main())
