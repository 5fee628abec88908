"""Measures what recorded Euler steps of the vocoder bring: the same work with and without them.

    python -m load_tests.vocoder_graphs [--device cuda] [--full] [--json FILE]

--full takes the released sizes with seeded random weights. Also checks that the two
ways make the same mels within rounding and that replays give the same bytes again and again. On a
CPU nothing is recorded: a rehearsal.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from load_tests.full_vocoder import write_full_vocoder
from load_tests.provenance import provenance
from load_tests.report import Row, median_s, publish
from load_tests.vocoder_bench import BATCH, PROMPT_GROUPS, QUIET_ROWS, UTTERANCE_GROUPS, all_at_once
from pipeline.contracts import VoicePrompt
from pipeline.stepaudio.layout import CheckpointLayout, resolve_model
from pipeline.stepaudio.vocoder.wave_decoder import StepWaveDecoder
from tests.vocoder_files import make_ids, make_voice

REPEATS = 5
MEL_DIFFERENCE = 0.02  # ln; TF32 rounds to ten bits, and six Euler steps for ten cost 0.07


def measure_graphs(vocoder: Path, device: str, groups: int = UTTERANCE_GROUPS) -> list[Row]:
    """Rows of both ways, and of their difference."""
    rows: list[Row] = []
    mels: dict[bool, torch.Tensor] = {}
    for graphs in (False, True):
        name = "graphs" if graphs else "no graphs"
        began_s = time.perf_counter()
        decoder = StepWaveDecoder(vocoder, device, threads=1, graphs=graphs)
        rows.append(Row(f"{name}: start", time.perf_counter() - began_s, "s"))
        cold, mels[graphs] = _with_mel(decoder, groups)
        rows += _timed(decoder, name, groups)
        rows.append(
            Row(f"{name}: bytes that differ, warm", _differing(cold, decoder, groups), "", 0.0)
        )
        rows.append(Row(f"{name}: device memory", _used_gib(device), "GiB"))
        decoder.close()
        del decoder
        many = StepWaveDecoder(vocoder, device, threads=1, max_batch=BATCH, graphs=graphs)
        took_s = median_s(lambda many=many: asyncio.run(_everyone(many, groups)), 3)
        rows.append(Row(f"{name}: {BATCH} streams at once", took_s, "s"))
        many.close()
        del many
    apart = float((mels[True] - mels[False]).abs().mean())
    level = float(mels[False].abs().mean())
    return [*rows, Row(f"mel-L1 apart (mean |mel| {level:.3f})", apart, "ln", MEL_DIFFERENCE)]


def _with_mel(decoder: StepWaveDecoder, groups: int) -> tuple[np.ndarray, torch.Tensor]:
    """Samples, and all mels that HiFT was given for them; phases add up what rounding did to F0."""
    seen: list[torch.Tensor] = []
    hook = decoder._model.hift.f0_predictor.register_forward_pre_hook(
        lambda _, args: seen.append(args[0].cpu())
    )
    samples = _spoken(decoder, groups, 0)
    hook.remove()
    return samples, torch.cat(seen, dim=2)


def _timed(decoder: StepWaveDecoder, name: str, groups: int) -> list[Row]:
    def first(rows: int | None) -> Callable[[], None]:
        return lambda: asyncio.run(_first_piece(decoder, groups, rows))

    whole_s = median_s(lambda: _spoken(decoder, groups, 0), REPEATS)
    return [
        Row(f"{name}: first piece, {QUIET_ROWS} rows", 1e3 * median_s(first(QUIET_ROWS), 9), "ms"),
        Row(f"{name}: first piece, as scheduled", 1e3 * median_s(first(None), 9), "ms"),
        Row(f"{name}: streaming RTF", whole_s / (0.12 * groups), ""),
    ]


def _job(groups: int, seed: int) -> tuple[np.ndarray, VoicePrompt]:
    return make_ids(groups, seed), make_voice(PROMPT_GROUPS + seed, seed)


async def _first_piece(decoder: StepWaveDecoder, groups: int, first_rows: int | None) -> None:
    ids, voice = _job(groups, 0)
    stream = decoder.stream(all_at_once(ids), voice, first_rows)
    await anext(stream)
    await stream.aclose()


def _spoken(decoder: StepWaveDecoder, groups: int, seed: int) -> np.ndarray:
    ids, voice = _job(groups, seed)

    async def pieces() -> list[np.ndarray]:
        return [chunk.samples async for chunk in decoder.stream(all_at_once(ids), voice)]

    return np.concatenate(asyncio.run(pieces()))


async def _everyone(decoder: StepWaveDecoder, groups: int) -> None:
    async def drain(seed: int) -> None:
        ids, voice = _job(groups, seed)
        async for _ in decoder.stream(all_at_once(ids), voice):
            pass

    await asyncio.gather(*(drain(seed) for seed in range(BATCH)))


def _differing(cold: np.ndarray, decoder: StepWaveDecoder, groups: int) -> float:
    """Samples that are not the same when the stream comes again, another between."""
    _spoken(decoder, groups, 3)
    return float(np.count_nonzero(cold != _spoken(decoder, groups, 0)))


def _used_gib(device: str) -> float:
    if device == "cpu":
        return 0.0
    torch.cuda.empty_cache()
    free, whole = torch.cuda.mem_get_info()
    return (whole - free) / 2**30


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--full", action="store_true", help="released sizes, random weights")
    parser.add_argument("--groups", type=int, default=UTTERANCE_GROUPS, help="of 120 ms, spoken")
    parser.add_argument("--json", type=Path, help="also write the results here")
    options = parser.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    with tempfile.TemporaryDirectory() as name:
        if options.full:
            vocoder = write_full_vocoder(Path(name))
        else:
            vocoder = CheckpointLayout.at(resolve_model("tiny")).vocoder
        rows = measure_graphs(vocoder, options.device, options.groups)
    return publish(rows, provenance(options.device), options.json)


if __name__ == "__main__":
    sys.exit(main())
