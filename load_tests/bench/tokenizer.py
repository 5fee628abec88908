"""Measures the tokenizer: vq02 against the chunk loop, clips in one pass, a miss, misses together.

    python -m load_tests.bench.tokenizer [--device cuda] [--threads 1 2 4] [--quick] [--json FILE]
    python -m load_tests.bench.tokenizer --model full [--device cuda]

vq02 runs at the released size (50 layers of 512) with seeded random weights, once for every count
of --threads. The loop is funasr's own streaming code on the same weights and threads, the one that
the tests take for the truth. Clips in one pass run at the first count of --threads. A miss is timed
on a checkpoint, or with `--model full`, which is the default on a GPU, on encoders of the released
sizes with random weights.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from load_tests.bench.provenance import provenance
from load_tests.bench.report import publish
from load_tests.bench.tokenizer_parts import (
    BAR_MS,
    BATCHES_S,
    CLIP_S,
    FULL,
    FULL_SIZE,
    against_loop,
    compare_batch,
    encoder_files,
    measure_batched_misses,
    measure_miss,
)
from pipeline.stepaudio.tokenizer.voice_encoder import StepVoiceEncoder
from tests.encoder_files import make_encoder

QUICK_SIZE = {**FULL_SIZE, "num_blocks": 5}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--model", help="whose miss is timed: full, tiny or a directory")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2, 4], help="of vq02")
    parser.add_argument("--quick", action="store_true", help="5 layers instead of 50")
    parser.add_argument("--json", type=Path, help="also write the results here")
    options = parser.parse_args()
    size: dict[str, Any] = QUICK_SIZE if options.quick else FULL_SIZE
    device, is_gpu = options.device, options.device != "cpu"
    model = options.model or (FULL if is_gpu else "tiny")
    torch.backends.cudnn.allow_tf32 = False  # as the replica has it: codes must be exact
    torch.set_num_threads(options.threads[0])
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        encoder = make_encoder(directory, **size)
        rows = [row for n in options.threads for row in against_loop(encoder, device, n)]
        rows += [
            row for lengths_s in BATCHES_S for row in compare_batch(encoder, lengths_s, device)
        ]
        files = encoder_files(model, directory, size)

        def opened(batch_s: float) -> StepVoiceEncoder:
            return StepVoiceEncoder(*files, device=device, threads=1, batch_s=batch_s)

        title = f"{Path(model).name} on {device}, {CLIP_S:g} s clip"
        rows += measure_miss(opened, title, BAR_MS if is_gpu and model == FULL else None)
        rows += measure_batched_misses(opened, title)
    return publish(rows, provenance(device), options.json)


if __name__ == "__main__":
    sys.exit(main())
