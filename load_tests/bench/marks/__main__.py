"""What marks cost, what they survive, and what one hears of them, of a checkpoint's own speech.

`python -m load_tests.bench.marks --clips 200 --json FILE`. PESQ needs `pesq` and librosa (the
extras training and dev); without it that row is left out.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
from importlib.util import find_spec
from pathlib import Path

import torch

from load_tests.bench.marks.material import Spoken, speak
from load_tests.bench.marks.treatments import TREATMENTS
from load_tests.bench.provenance import provenance
from load_tests.bench.report import Row, percentile, publish
from pipeline.contracts import OUTPUT_SAMPLE_RATE_HZ, Float32Array
from pipeline.local import LocalPipeline
from pipeline.marks.detector import Detector
from pipeline.marks.marker import Marker

PESQ_RATE_HZ = 16_000  # of its wide band


def detection(spoken: list[Spoken], detector: Detector) -> list[Row]:
    """Shares found of marked speech, and of unmarked, after every treatment."""
    rows: list[Row] = []
    for name, treat in TREATMENTS.items():
        scores = [detector.find(*treat(one.audio)).score for one in spoken]
        share = sum(score >= 0.5 for score in scores) / len(scores)
        rows.append(Row(f"marked, {name}: found", share, "share", 0.99, "higher"))
        rows.append(Row(f"marked, {name}: least score", min(scores), ""))
    for name, treat in TREATMENTS.items():
        scores = [detector.find(*treat(one.unmarked)).score for one in spoken]
        share = sum(score >= 0.5 for score in scores) / len(scores)
        rows.append(Row(f"unmarked, {name}: found", share, "share", 0.01))
        rows.append(Row(f"unmarked, {name}: highest score", max(scores), ""))
    return rows


def costs(spoken: list[Spoken]) -> list[Row]:
    """Of the mark alone, on the thread that makes the audio."""
    firsts_ms = [one.first_s * 1e3 for one in spoken]
    audio_s = sum(one.audio_s for one in spoken)
    return [
        Row("first chunk, median", statistics.median(firsts_ms), "ms", 20),
        Row("first chunk, 95th percentile", percentile(firsts_ms, 0.95), "ms"),
        Row("seconds of work per second of audio", sum(o.mark_s for o in spoken) / audio_s, "s/s"),
    ]


def sound(spoken: list[Spoken]) -> list[Row]:
    """PESQ of the marked to the unmarked, wide band."""
    import librosa
    from pesq import pesq  # pyright: ignore[reportMissingImports] of the training extra

    def slow(samples: Float32Array) -> Float32Array:
        return librosa.resample(samples, orig_sr=OUTPUT_SAMPLE_RATE_HZ, target_sr=PESQ_RATE_HZ)

    pairs = [(slow(one.unmarked), slow(one.audio)) for one in spoken]
    scores = [pesq(PESQ_RATE_HZ, plain, marked, "wb") for plain, marked in pairs]
    return [
        Row("PESQ, mean", statistics.mean(scores), "", 4.0, "higher"),
        Row("PESQ, least", min(scores), ""),
    ]


def main() -> int:
    """Exit code 1 when a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    with LocalPipeline(asked.model) as pipeline:
        spoken = asyncio.run(speak(pipeline, Marker.load(), asked.clips))
    rows = [*costs(spoken), *detection(spoken, Detector.load())]
    if find_spec("pesq"):
        rows += sound(spoken)
    audio_s = sum(one.audio_s for one in spoken)
    about = {**provenance("cpu"), "clips": asked.clips, "audio_s": round(audio_s, 1)}
    return publish(rows, about, asked.json)


if __name__ == "__main__":
    raise SystemExit(main())
