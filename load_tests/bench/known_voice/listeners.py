"""Listeners who play what comes, over HTTP: first audio, and how often they run dry.

    python -m load_tests.bench.known_voice.listeners [--most 4] [--rounds 3] [--json FILE]

One service of this tree as it ships for a CPU. One to `--most` listeners at the same time, then as
many on average who come one after another, each with a seed and without: without, the first chunk
follows the load. Their voices are known; no text is asked for twice with a seed.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from load_tests.bench.known_voice.http import KNOWN
from load_tests.bench.known_voice.services import REQUEST_TIMEOUT_S, service
from load_tests.bench.provenance import provenance
from load_tests.bench.report import Row, publish
from pipeline.continuity import Continuity, PlaybackMeter
from pipeline.voice_list import load_voices

TEXTS = (
    "One two three four five six seven eight, and then we walked along the river until dark.",
    "There was nothing to be seen from the window, so he asked for the letter and went away.",
    "The water was cold and the boat was small, but nobody had told her about the second door.",
    "We will meet again in the morning, when the train has left and all the others are asleep.",
)
ANSWER_S = 5.5  # of such a text, about
PCM_BYTES_S = 48_000


async def listened(
    http: httpx.AsyncClient, voice: str, text: str, seed: int | None, **fields: Any
) -> Continuity:
    """One listener, who plays what comes from its first piece on. fields: others of the request."""
    body = {"input": text, "voice": voice, "response_format": "pcm", "seed": seed, **fields}
    meter = PlaybackMeter(time.perf_counter())
    async with http.stream("POST", "/v1/audio/speech", json=body) as reply:
        reply.raise_for_status()
        async for piece in reply.aiter_raw():
            meter.sent(len(piece) / PCM_BYTES_S, time.perf_counter())
    return meter.continuity()


class Crowd:
    """Listeners of one service. has_seeds: whether they name seeds."""

    def __init__(self, http: httpx.AsyncClient, seeds: Iterator[int], *, has_seeds: bool) -> None:
        self._http, self._seeds, self._has_seeds = http, seeds, has_seeds
        self._voices = itertools.cycle(itertools.islice(load_voices(), len(TEXTS)))
        self._texts = itertools.cycle(TEXTS)

    async def one(self) -> Continuity:
        """The next voice says the next text."""
        seed = next(self._seeds) if self._has_seeds else None
        return await listened(self._http, next(self._voices), next(self._texts), seed)

    async def at_once(self, n: int) -> list[Continuity]:
        """`n` who begin at the same time."""
        return list(await asyncio.gather(*(self.one() for _ in range(n))))

    async def one_after_another(self, n: int, times: np.random.Generator) -> list[Continuity]:
        """`3 n` who come at random times, `n` of them at once on average."""

        async def later(wait_s: float) -> Continuity:
            await asyncio.sleep(wait_s)
            return await self.one()

        waits_s = times.exponential(ANSWER_S / n, 3 * n).cumsum().tolist()
        return list(await asyncio.gather(*(later(wait_s) for wait_s in waits_s)))


def rows_of(what: str, heard: Sequence[Continuity]) -> list[Row]:
    """First audio and underruns of some listeners."""
    first_s = [one.ttfa_s for one in heard if one.ttfa_s is not None]
    return [
        Row(f"{what}: first audio, p50", statistics.median(first_s), "s"),
        Row(f"{what}: first audio, latest", max(first_s), "s"),
        Row(f"{what}: underruns in {len(heard)}", sum(one.underruns for one in heard), "", 0.0),
        Row(f"{what}: seconds dry", sum(one.underrun_s for one in heard), "s"),
    ]


async def measured(url: str, most: int, rounds: int) -> list[Row]:
    rows: list[Row] = []
    async with httpx.AsyncClient(base_url=url, timeout=REQUEST_TIMEOUT_S, trust_env=False) as http:
        for voice in itertools.islice(load_voices(), len(TEXTS)):
            await listened(http, voice, KNOWN, 0)
        for has_seeds in (True, False):
            crowd = Crowd(http, itertools.count(1), has_seeds=has_seeds)
            named = "seed" if has_seeds else "no seed"
            for n in range(1, most + 1):
                heard = [one for _ in range(rounds) for one in await crowd.at_once(n)]
                rows += rows_of(f"{n} at once, {named}", heard)
            heard = await crowd.one_after_another(most, np.random.default_rng(most))
            rows += rows_of(f"about {most} at a time, {named}", heard)
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m load_tests.bench.known_voice.listeners")
    parser.add_argument("--most", type=int, default=4, help="listeners at once")
    parser.add_argument("--rounds", type=int, default=3, help="of listeners at once")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, service(Path(name)) as client:
        rows = asyncio.run(measured(str(client.base_url), options.most, options.rounds))
    return publish(rows, provenance("cpu"), options.json)


if __name__ == "__main__":
    sys.exit(main())
