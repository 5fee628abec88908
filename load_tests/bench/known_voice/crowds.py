"""Crowds of listeners of known voices: who is let in, what he hears, what the others are told.

    python -m load_tests.bench.known_voice.crowds [--url URL] [--rounds 2] [--over 5] [--json FILE]

One service of this tree as it ships for a CPU, finished speech off, or the one at URL, which must
not keep any. So many ask at the same time; then requests come at several rates, whatever becomes of
them (open loops), which shows the most that is served without a pause; then `--over` times as many
come as were let in at that; then one at a time again.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np

from load_tests.bench.known_voice.listeners import PCM_BYTES_S, TEXTS
from load_tests.bench.known_voice.services import REQUEST_TIMEOUT_S, service
from load_tests.bench.provenance import provenance
from load_tests.bench.report import Row, percentile, publish
from pipeline.continuity import PlaybackMeter
from pipeline.voice_list import load_voices

CROWDS = (1, 3, 4, 8, 16)
REFUSED = frozenset({429, 503})
REFUSAL_BAR_S, RECOVERY_BAR_S, GOODPUT_BAR = 0.1, 10.0, 0.9
AGAIN = 1.5  # times the first audio of a quiet service: it has recovered
MOST_RETRY_S = 120
RATES_HZ = (0.3, 0.6, 1.2)  # on the way to the most
EVERY_S = 0.5  # after the overload


@dataclass(frozen=True, slots=True)
class Ended:
    """What became of a request. first_s: until first audio, or the refusal."""

    status: int
    first_s: float
    audio_s: float = 0.0
    underruns: int = 0
    dry_s: float = 0.0
    retry_after_s: int | None = None

    @property
    def is_heard(self) -> bool:
        return self.status == httpx.codes.OK

    @property
    def is_usable(self) -> bool:
        """A refusal says when to come again."""
        return self.retry_after_s is not None and 0 < self.retry_after_s <= MOST_RETRY_S

    @property
    def good_s(self) -> float:
        return self.audio_s if self.is_heard and not self.underruns else 0.0


class Listeners:
    """Each asks for the next text in the next voice, and plays what comes."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http
        self._voices = itertools.cycle(itertools.islice(load_voices(), len(TEXTS)))
        self._texts = itertools.cycle(TEXTS)

    async def one(self) -> Ended:
        body = {
            "input": next(self._texts),
            "voice": next(self._voices),
            "response_format": "pcm",
        }
        asked_s = time.perf_counter()
        meter = PlaybackMeter(asked_s)
        async with self._http.stream("POST", "/v1/audio/speech", json=body) as reply:
            if reply.status_code != httpx.codes.OK:
                await reply.aread()
                after = reply.headers.get("retry-after")
                taken_s = time.perf_counter() - asked_s
                again_s = None if after is None else int(after)
                return Ended(reply.status_code, taken_s, retry_after_s=again_s)
            async for piece in reply.aiter_raw():
                meter.sent(len(piece) / PCM_BYTES_S, time.perf_counter())
        heard = meter.continuity()
        return Ended(
            reply.status_code,
            heard.ttfa_s or 0.0,
            heard.audio_s,
            heard.underruns,
            heard.underrun_s,
        )

    async def at_once(self, n: int) -> list[Ended]:
        return list(await asyncio.gather(*(self.one() for _ in range(n))))

    async def whatever(self, rate_hz: float, length_s: float) -> list[Ended]:
        """An open loop: requests come at random times, however many are answered."""
        times = np.random.default_rng(5)
        until_s, asked = time.monotonic() + length_s, list[asyncio.Task[Ended]]()
        due_s = time.monotonic()
        while due_s < until_s:
            await asyncio.sleep(max(due_s - time.monotonic(), 0.0))
            asked.append(asyncio.create_task(self.one()))
            due_s += float(times.exponential(1 / rate_hz))
        return list(await asyncio.gather(*asked))


def rows_of(what: str, ended: Sequence[Ended]) -> list[Row]:
    """What was heard, and what was told to the rest."""
    heard = [one for one in ended if one.is_heard]
    refused = [one for one in ended if one.status in REFUSED]
    others = len(ended) - len(heard) - len(refused)
    rows = [
        Row(f"{what}: asked", len(ended), ""),
        Row(f"{what}: let in", len(heard), ""),
        Row(f"{what}: neither let in nor refused", others, "", 0.0),
        Row(f"{what}: underruns", sum(one.underruns for one in heard), "", 0.0),
        Row(f"{what}: seconds dry", sum(one.dry_s for one in heard), "s"),
    ]
    if heard:
        first_s = [one.first_s for one in heard]
        rows.append(Row(f"{what}: first audio, p50", statistics.median(first_s), "s"))
        rows.append(Row(f"{what}: first audio, latest", max(first_s), "s"))
    if refused:
        told_s = [one.first_s for one in refused]
        unusable = sum(not one.is_usable for one in refused)
        rows.append(Row(f"{what}: refused, p50", statistics.median(told_s), "s"))
        rows.append(Row(f"{what}: refused, p95", percentile(told_s, 0.95), "s"))
        rows.append(Row(f"{what}: refused, latest", max(told_s), "s", REFUSAL_BAR_S))
        rows.append(Row(f"{what}: without a usable Retry-After", unusable, "", 0.0))
    return rows


def goodput(ended: Sequence[Ended], took_s: float) -> float:
    """Seconds of audio a second that were heard without a pause."""
    return sum(one.good_s for one in ended) / took_s


async def recovery_s(listeners: Listeners, quiet_s: float) -> float:
    """Until first audio comes as it does when nobody else asks."""
    begun_s = time.monotonic()
    while True:
        at_s = time.monotonic() - begun_s
        one = await listeners.one()
        if one.is_heard and not one.underruns and one.first_s <= AGAIN * quiet_s:
            return at_s
        await asyncio.sleep(EVERY_S)


async def measured(url: str, rounds: int, over: float, length_s: float) -> list[Row]:
    rows: list[Row] = []
    async with _listeners(url) as listeners:
        for _ in TEXTS:
            await listeners.one()  # from now on its voice is known
        quiet_s = percentile([(await listeners.one()).first_s for _ in TEXTS], 0.8)
        for n in CROWDS:
            ended = [one for _ in range(rounds) for one in await listeners.at_once(n)]
            rows += rows_of(f"{n} at once", ended)
        most, served_hz = 0.0, RATES_HZ[0]
        for rate_hz in RATES_HZ:
            begun_s = time.monotonic()
            ended = await listeners.whatever(rate_hz, length_s / 2)
            took_s = time.monotonic() - begun_s
            found = goodput(ended, took_s)
            if found > most:
                most, served_hz = found, sum(one.is_heard for one in ended) / took_s
            rows += rows_of(f"{rate_hz:g} a second", ended)
            rows.append(Row(f"{rate_hz:g} a second: goodput", found, "s/s"))
        if not most:
            raise SystemExit("nobody was served without a pause: there is nothing to compare with")
        begun_s = time.monotonic()
        ended = await listeners.whatever(over * served_hz, length_s)
        took_s = time.monotonic() - begun_s
        back_s = await recovery_s(listeners, quiet_s)
        rows += rows_of(f"x {over:g}", ended)
        found = goodput(ended, took_s)
        rows += [
            Row(f"x {over:g}: asked a second", over * served_hz, "1/s"),
            Row(f"x {over:g}: goodput", found, "s/s"),
            Row(f"x {over:g}: goodput over the most", found / most, "", GOODPUT_BAR, "higher"),
            Row(f"x {over:g}: recovered after", back_s, "s", RECOVERY_BAR_S),
        ]
    return rows


@asynccontextmanager
async def _listeners(url: str) -> AsyncGenerator[Listeners]:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=32)
    async with httpx.AsyncClient(
        base_url=url, timeout=REQUEST_TIMEOUT_S, trust_env=False, limits=limits
    ) as http:
        yield Listeners(http)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m load_tests.bench.known_voice.crowds")
    parser.add_argument("--url", help="of a service that runs already")
    parser.add_argument("--rounds", type=int, default=2, help="of each crowd")
    parser.add_argument("--over", type=float, default=5.0, help="times too much")
    parser.add_argument("--seconds", type=float, default=60.0, help="of the overload")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        started = nullcontext() if options.url else service(Path(name))
        with started as client:
            url = options.url if client is None else str(client.base_url)
            rows = asyncio.run(measured(url, options.rounds, options.over, options.seconds))
    return publish(rows, provenance("cpu"), options.json)


if __name__ == "__main__":
    sys.exit(main())
