"""What a chunk takes of the vocoder's thread: alone, and in turns with those of other streams.

    python -m load_tests.simulate.chunks [--json FILE]

Milliseconds of a core, of the embedded model in voices that are kept, marks on, as `timbre up` has
it. Chunks of four answers, one answer after another, and all four at once.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import numpy as np
import yaml

from load_tests.bench.provenance import provenance
from load_tests.bench.report import Row, publish
from load_tests.simulate.profiles import CHUNK, CHUNK_ROW, ROOT, SWITCH
from pipeline.audio.decode import decode_clip
from pipeline.contracts import TokenChunk, VoicePrompt
from pipeline.stepaudio.layout import CheckpointLayout, resolve_model
from pipeline.stepaudio.tokenizer.voice_encoder import StepVoiceEncoder
from pipeline.stepaudio.vocoder.wave_decoder import StepWaveDecoder
from pipeline.voice_list import load_voices
from tests.vocoder_files import make_ids

STREAMS, ROUNDS, GROUPS = 4, 3, 87  # groups: of an answer in chunks of every size
HANDED = 15  # tokens at a time

Took = Mapping[int, list[float]]


class Bench:
    """A decoder as the service has it, and what its chunks took, by their rows."""

    def __init__(self) -> None:
        document = yaml.safe_load((ROOT / "serve_config.cpu.yaml").read_text(encoding="utf-8"))
        stage = document["applications"][0]["args"]["vocoder"]
        layout = CheckpointLayout.at(resolve_model("tiny"))
        self._decoder = StepWaveDecoder(
            layout.vocoder,
            threads=stage["threads"],
            chunk_rows=stage["chunk_rows"],
            prompt_memory_bytes=stage["prompt_memory_mib"] * 2**20,
            marks=True,
        )
        encoder = StepVoiceEncoder(layout.tokenizer, layout.vocoder)
        clips = [one.path.read_bytes() for one in list(load_voices().values())[:STREAMS]]
        self._voices = [encoder.encode_blocking(decode_clip(clip)) for clip in clips]
        self._took = defaultdict[int, list[float]](list)
        self._before_s = 0.0
        self._decoder.tell_times(self._timed)

    def _timed(self, rows: int, chunks: int, took_s: float) -> None:
        """Called on the thread that computes, behind each chunk: its CPU since the last one."""
        del chunks, took_s
        now_s = time.thread_time()
        self._took[rows].append(1e3 * (now_s - self._before_s))
        self._before_s = now_s

    def took_ms(self, *, at_once: bool) -> Took:
        """Of a round."""
        self._took = defaultdict(list)
        asyncio.run(self._spoken(at_once))
        return self._took

    async def _spoken(self, at_once: bool) -> None:
        answers = [self._answer(voice) for voice in self._voices]
        if at_once:
            await asyncio.gather(*answers)
            return
        for answer in answers:
            await answer

    async def _answer(self, voice: VoicePrompt) -> None:
        async for _ in self._decoder.stream(_tokens(), voice):
            pass


async def _tokens() -> AsyncIterator[TokenChunk]:
    ids = make_ids(GROUPS)
    for begin in range(0, len(ids), HANDED):
        yield TokenChunk(ids[begin : begin + HANDED], last=begin + HANDED >= len(ids))
        await asyncio.sleep(0)


def rows_of(alone: Took, in_turns: Took) -> list[Row]:
    """A straight line through the quickest alone; the mean difference of the quickest in turns.

    The quickest: whatever else runs makes some slower, and none quicker.
    """
    sizes = sorted(rows for rows in alone if rows in in_turns)
    least = [min(alone[rows]) for rows in sizes]
    row_ms, chunk_ms = np.polyfit(sizes, least, 1)
    more = [min(in_turns[rows]) - ms for rows, ms in zip(sizes, least, strict=True)]
    return [
        Row(CHUNK, float(chunk_ms), "ms"),
        Row(CHUNK_ROW, float(row_ms), "ms"),
        Row(SWITCH, max(statistics.fmean(more), 0.0), "ms"),
    ]


def main() -> int:
    """Measure in turns, print, write."""
    parser = argparse.ArgumentParser(prog="python -m load_tests.simulate.chunks")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    bench = Bench()
    bench.took_ms(at_once=False)  # begins things
    found = {at_once: defaultdict[int, list[float]](list) for at_once in (False, True)}
    for _ in range(ROUNDS):
        for at_once, all_ms in found.items():
            for rows, took_ms in bench.took_ms(at_once=at_once).items():
                all_ms[rows] += took_ms
    about = {**provenance("cpu"), "rounds": ROUNDS, "streams": STREAMS}
    return publish(rows_of(found[False], found[True]), about, options.json)


if __name__ == "__main__":
    sys.exit(main())
