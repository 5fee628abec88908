"""Libraries of speech in processes on a real Ray cluster, for chaos tests and the benchmark.

What they speak takes its time and no model: whoever computes is counted in the whole cluster.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import ray

from cache_store import cluster
from deployments.config.settings import load_settings
from deployments.speech.library import SpeechLibrary
from pipeline.continuity import Continuity, PlaybackMeter
from pipeline.contracts import (
    OUTPUT_SAMPLE_RATE_HZ,
    Drawn,
    Sampling,
    SpeechChunk,
    SpeechRequest,
    VoicePrompt,
    VoiceReference,
)
from tests.fakes import FakeNames, FakeVoices

CHUNKS, CHUNK_S = 16, 0.25  # four seconds of speech
PACE = 0.6  # seconds of work for a second of speech
PLACES = ("head", "a", "b")


@dataclass(frozen=True, slots=True)
class Listened:
    """What one listener had. heard: as it could be played. digest: of all samples."""

    source: str
    heard: Continuity
    digest: str


class PacedSpeaker:
    """Speaks noise that follows from the seed, at a steady pace, and tells that it began."""

    def __init__(self, names: FakeNames, tally: Any) -> None:
        self._names, self._tally = names, tally

    async def speak(
        self, request: SpeechRequest, voice: VoicePrompt
    ) -> AsyncGenerator[SpeechChunk]:
        del voice
        seed = request.sampling.seed
        await self._tally.add.remote(seed, os.getpid())
        rng = np.random.default_rng(seed)
        made_by = frozenset({self._names.names["vocoder"], await self._names.lm(request.variant)})
        for index in range(CHUNKS):
            await asyncio.sleep(PACE * CHUNK_S)
            noise = rng.uniform(-0.5, 0.5, int(CHUNK_S * OUTPUT_SAMPLE_RATE_HZ))
            is_last = index == CHUNKS - 1
            drawn = Drawn(np.zeros(5 * CHUNKS, np.int16), made_by) if is_last else None
            yield SpeechChunk(noise.astype(np.float32), is_last, drawn=drawn)


class Tally:
    """Counts computations of the whole cluster, by seed, with the process of each."""

    def __init__(self) -> None:
        self._makers: dict[int, list[int]] = {}

    async def add(self, seed: int, pid: int) -> None:
        self._makers.setdefault(seed, []).append(pid)

    async def makers(self, seed: int) -> list[int]:
        return self._makers.get(seed, [])


class SpeechReplica:
    """What a router does with speech: one library for its lifetime, many listeners at once."""

    def __init__(self, args: dict[str, Any], tally: Any) -> None:
        names = FakeNames()
        settings = load_settings(args)
        self._library = SpeechLibrary(settings, PacedSpeaker(names, tally), names)
        self._names = names

    async def start(self) -> tuple[str, int]:
        await self._library.start()
        await self._library._models.of("base")
        return ray.get_runtime_context().get_node_id(), os.getpid()

    async def listen(self, seed: int, reuse: str | None = None, after_s: float = 0.0) -> Listened:
        await asyncio.sleep(after_s)
        request = SpeechRequest("One two.", "Hi.", sampling=Sampling(seed=seed))
        meter, digest, source = PlaybackMeter(time.perf_counter()), hashlib.sha256(), ""
        one = self._library.request(FakeVoices(), reuse)  # type: ignore[arg-type]
        voice = await one.resolve(VoiceReference(None, "aria"))
        async with aclosing(one.speak(request, voice.prompt)) as speech:
            async for chunk in speech:
                meter.sent(len(chunk.samples) / OUTPUT_SAMPLE_RATE_HZ, time.perf_counter())
                digest.update(chunk.samples.tobytes())
                source = source or chunk.times.speech
        return Listened(source, meter.continuity(), digest.hexdigest())

    async def report(self) -> dict[str, Any]:
        return await self._library.report()

    async def close(self) -> None:
        await self._library.close()


class SpeechFleet:
    """Replicas over the nodes of a cluster that `tests.cache_fleet.start_cluster` made."""

    def __init__(self, directory: Path, count: int, **cache: Any) -> None:
        patient = {"l2_deadline_s": 5.0, "l3_read_deadline_s": 5.0}
        self.args = {
            "cache": {
                "url": str(directory / "voices"),
                "l2": "on",
                "l2_name": directory.name[:30].lower(),
                **patient,
                **cache,
            }
        }
        self.tally: Any = ray.remote(num_cpus=0, resources={"head": 0.01})(Tally).remote()
        self.replicas = [self._add(PLACES[i % len(PLACES)]) for i in range(count)]
        places = ray.get([replica.start.remote() for replica in self.replicas])
        self.nodes = {node for node, _ in places}
        self.pids = [pid for _, pid in places]

    def _add(self, place: str) -> Any:
        options = {"num_cpus": 0, "resources": {place: 0.01}, "max_concurrency": 200}
        replica: Any = ray.remote(**options)(SpeechReplica)
        return replica.remote(self.args, self.tally)

    def listen(self, seed: int, listeners: int, **how: Any) -> list[Any]:
        """References to what listeners have, spread over the replicas."""
        count = len(self.replicas)
        return [self.replicas[i % count].listen.remote(seed, **how) for i in range(listeners)]

    def makers(self, seed: int) -> list[int]:
        """Processes that computed it."""
        return ray.get(self.tally.makers.remote(seed))

    def close(self) -> None:
        settings = load_settings(self.args)
        cluster.kill_indexes(settings.speech_cache.opened_beside(settings.cache))
        for replica in self.replicas:
            ray.kill(replica)
