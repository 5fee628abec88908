"""Interrupts sessions of a running service at random, and measures how soon its stages are free.

    python -m load_tests.sessions [--trials 60] [--url http://127.0.0.1:8000] [--json FILE]

A trial is a session that gets text in pieces and, at a random moment, an interruption:
input.cancel, a closed WebSocket, or a connection that is cut. From then on the stages' own gauges
(slots and queue of the LLM, streams and admitted memory of the vocoder) are asked again and again,
by a driver of the service's Ray cluster: the time told is that of the first answer that has all of
them at zero, asking included. How long asking alone takes stands beside it. In every third trial
the next utterance follows the interruption at once: its first audio is compared with that of one
alone. The service is to have nothing else to do, and to run on this machine (`timbre up`).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from deployments.local.ray_token import token_variables
from load_tests.bench.provenance import provenance
from load_tests.bench.report import Row, percentile, publish

TEXT = (
    "Hello there. You only need to hear a voice once to speak with it again, and then it is quick. "
    "So tell me, what would you like to hear next? There is time for a story, if you like one. "
)
NEXT_TEXT = "Sorry, go on."
PIECE_CHARS = (1, 12)
LONGEST_S = 3.0  # until the interruption
BAR_S = 0.1  # every stage free again, p99
NEXT_BAR = 1.25  # first audio of the next utterance, over that of one alone
GIVE_UP_S = 30.0
APPLICATION = "timbre"
GAUGES = {"LLM": ("slots_active", "queued"), "Vocoder": ("streams_active", "admitted_bytes")}
WAYS = ("cancel", "close", "cut")


@dataclass(slots=True)
class Found:
    """What the trials found. freed_s: by the way of the interruption."""

    freed_s: dict[str, list[float]] = field(default_factory=lambda: {way: [] for way in WAYS})
    alone_s: list[float] = field(default_factory=list[float])
    next_s: list[float] = field(default_factory=list[float])
    answered_s: list[float] = field(default_factory=list[float])
    asking_s: list[float] = field(default_factory=list[float])
    busy: Counter[str] = field(default_factory=Counter[str])


class Stages:
    """The gauges of the stages, over the service's Ray cluster."""

    def __init__(self, address: str) -> None:
        os.environ.update(token_variables(os.environ, Path("out")))
        import ray  # reads the variables when it is imported
        from ray import serve

        ray.init(
            address=address, namespace="serve", log_to_driver=False, logging_level=logging.ERROR
        )
        self._handles = {name: serve.get_deployment_handle(name, APPLICATION) for name in GAUGES}

    async def held(self) -> dict[str, float]:
        """What every stage holds, over all of its replicas."""
        return dict(zip(GAUGES, await asyncio.gather(*map(self._held, GAUGES)), strict=True))

    async def _held(self, stage: str) -> float:
        statuses = await self._handles[stage].broadcast("status").results_async(timeout_s=GIVE_UP_S)
        return sum(float(status[gauge]) for status in statuses for gauge in GAUGES[stage])

    async def freed_s(self, since_s: float) -> float:
        """Seconds from `since_s` until the answers that had them at zero."""
        async with asyncio.timeout(GIVE_UP_S):
            while any((await self.held()).values()):
                pass
        return time.perf_counter() - since_s


async def told(socket: ClientConnection, kind: str) -> Any:
    """The next message of a kind."""
    async with asyncio.timeout(GIVE_UP_S):
        async for message in socket:
            if isinstance(message, str) and (said := json.loads(message))["type"] == kind:
                return said
            if isinstance(message, bytes) and kind == "audio":
                return message
    raise ConnectionError(f"the session ended before {kind}")


async def say(socket: ClientConnection, kind: str, **fields: Any) -> None:
    await socket.send(json.dumps({"type": kind, **fields}))


async def opened(url: str, granularity: str = "sentence") -> ClientConnection:
    """A configured session."""
    socket = await connect(url, proxy=None, compression=None)
    how = {"response_format": "pcm", "split_granularity": granularity, "voice": "bruno"}
    await say(socket, "session.config", **how)
    return socket


async def first_audio_s(socket: ClientConnection, text: str) -> float:
    """Speak a text; seconds until its first audio."""
    began_s = time.perf_counter()
    await say(socket, "input.text", text=text)
    await say(socket, "input.done")
    await told(socket, "audio")
    heard_s = time.perf_counter() - began_s
    await told(socket, "session.done")
    return heard_s


async def typed(socket: ClientConnection, dice: random.Random) -> None:
    """Send text in pieces, as a language model writes it."""
    start = 0
    while start < len(TEXT):
        end = start + dice.randint(*PIECE_CHARS)
        await say(socket, "input.text", text=TEXT[start:end])
        start = end
    await say(socket, "input.done")


async def interrupted(url: str, stages: Stages, found: Found, dice: random.Random) -> None:
    """One interruption, timed until the stages are free."""
    way = dice.choice(WAYS)
    socket = await opened(url, dice.choice(("none", "sentence", "clause")))
    await typed(socket, dice)
    drain = asyncio.create_task(_read(socket))
    await asyncio.sleep(dice.uniform(0.0, LONGEST_S))
    held = await stages.held()
    found.busy["busy" if any(held.values()) else "idle"] += 1
    began_s = time.perf_counter()
    if way == "cancel":
        await say(socket, "input.cancel", played_ms=0)
    elif way == "cut":
        socket.transport.abort()
    closing = asyncio.create_task(socket.close()) if way == "close" else None
    found.freed_s[way].append(await stages.freed_s(began_s))
    if closing is not None:
        await closing
    drain.cancel()
    await asyncio.wait([drain])
    socket.transport.abort()


async def followed(url: str, found: Found, dice: random.Random) -> None:
    """First audio alone; then that of what follows an interruption at once."""
    socket = await opened(url)
    found.alone_s.append(await first_audio_s(socket, NEXT_TEXT))
    await typed(socket, dice)
    await asyncio.sleep(dice.uniform(0.2, LONGEST_S))
    began_s = time.perf_counter()
    await say(socket, "input.cancel", played_ms=0)
    await told(socket, "input.cancelled")
    found.answered_s.append(time.perf_counter() - began_s)
    found.next_s.append(await first_audio_s(socket, NEXT_TEXT))
    await socket.close()


async def _read(socket: ClientConnection) -> None:
    with suppress(ConnectionError):
        async for _ in socket:
            pass


async def measured(url: str, stages: Stages, trials: int, seed: int) -> Found:
    found, dice = Found(), random.Random(seed)  # noqa: S311 - chance, not secrets
    warm = await opened(url)
    await first_audio_s(warm, NEXT_TEXT)
    await warm.close()
    for number in range(trials):
        await stages.freed_s(time.perf_counter())
        asked_s = time.perf_counter()
        await stages.held()
        found.asking_s.append(time.perf_counter() - asked_s)
        if number % 3 == 2:
            await followed(url, found, dice)
        else:
            await interrupted(url, stages, found, dice)
    return found


def rows_of(found: Found) -> list[Row]:
    every = [value for way in WAYS for value in found.freed_s[way]]
    rows = [
        Row(f"{len(every)} interruptions: every stage free, p50", percentile(every, 0.5), "s"),
        Row("the same, p99", percentile(every, 0.99), "s", BAR_S),
        Row("asking the stages, p50 (part of the above)", percentile(found.asking_s, 0.5), "s"),
    ]
    rows += [
        Row(f"{len(values)} by {way}, worst", max(values), "s")
        for way in WAYS
        if (values := found.freed_s[way])
    ]
    rows += _next_rows(found.alone_s, found.next_s, found.answered_s)
    return rows


def _next_rows(
    alone_s: Sequence[float], next_s: Sequence[float], answered_s: Sequence[float]
) -> list[Row]:
    if not next_s:
        return []
    alone, following = percentile(alone_s, 0.5), percentile(next_s, 0.5)
    return [
        Row("input.cancel until input.cancelled, p99", percentile(answered_s, 0.99), "s"),
        Row(f"{len(next_s)} first audios alone, p50", alone, "s"),
        Row("of the utterance after an interruption, p50", following, "s"),
        Row("the two, one over the other", following / alone, "", NEXT_BAR),
    ]


def main(words: Sequence[str] | None = None) -> int:
    """Measure; 1 when a bar is missed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--address", default="auto", help="of the service's Ray cluster")
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args(words)
    url = asked.url.replace("http", "ws", 1).rstrip("/") + "/v1/audio/speech/stream"
    found = asyncio.run(measured(url, Stages(asked.address), asked.trials, asked.seed))
    about = {**provenance("cpu"), "seed": asked.seed, "found": dict(found.busy)}
    return publish(rows_of(found), about, asked.json)


if __name__ == "__main__":
    sys.exit(main())
