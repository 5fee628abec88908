"""Which replica a request of a voice prefers: one that holds its state, within an even load.

Serve's controller and whoever calls a stage load this module by value, so it imports nothing of
ours.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

from ray.serve.config import RequestRouterConfig
from ray.serve.request_router import FIFOMixin, PendingRequest, RequestRouter, RunningReplica

MOST_OF_MEAN = 1.1  # a hint never takes a replica's load further above that of all


def preferred(voice: str, loads: Mapping[str, int]) -> str | None:
    """The replica for one more request of a voice; None where there are no replicas.

    loads: requests in each replica, by its id. The voice's own order of replicas is the same for
    every caller, and one that comes or goes moves only the voices that it had (rendezvous hashing).
    The first of them is taken whose load, this request included, is neither above MOST_OF_MEAN of
    the mean nor above what an even share is in whole requests. One always is.
    """
    total = sum(loads.values()) + 1
    homes = sorted(loads, key=lambda replica: _weight(voice, replica), reverse=True)
    if not homes:
        return None
    most = max(-(-total // len(homes)), int(MOST_OF_MEAN * total / len(homes)))
    return next(replica for replica in homes if loads[replica] < most)


def _weight(voice: str, replica: str) -> bytes:
    return blake2b(f"{voice}\0{replica}".encode(), digest_size=8).digest()


class VoiceRouter(FIFOMixin, RequestRouter):
    """Asks the preferred replica first, then two at random of which the less loaded one is taken.

    The voice is the handle's `session_id`; calls without one, and what finds its replica full, go
    the second way alone, which is Serve's default. With FIFOMixin a replica found is handed to
    whoever waits longest: without, Serve looks for the request by an id that all calls of one
    parent share, and all but one of them are never found (docs/decisions/0010).
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._promised = Counter[str]()  # chosen, not sent: Serve counts what was sent

    async def choose_replicas(
        self,
        candidate_replicas: list[RunningReplica],
        pending_request: PendingRequest | None = None,
    ) -> list[list[RunningReplica]]:
        """See RequestRouter: groups of replicas, to be asked one group after the other."""
        two = random.sample(candidate_replicas, min(2, len(candidate_replicas)))
        if pending_request is None:
            return [two]
        pending_request.routing_context.should_backoff = True  # between rounds, when all are full
        voice = pending_request.metadata.session_id
        if not voice or len(candidate_replicas) == 1:
            return [two]
        replicas = {one.replica_id.unique_id: one for one in candidate_replicas}
        home = preferred(voice, await self._loads(replicas))
        if home is None:
            return [two]
        self._promise(home)
        return [[replicas[home]], two]

    def _promise(self, replica: str) -> None:
        """Until its caller, whom Serve wakes in the next turn of the loop, has sent its request.

        A burst of calls is routed within one turn, and would all go to the voice's first replica.
        """
        loop = asyncio.get_running_loop()
        self._promised[replica] += 1
        loop.call_soon(lambda: loop.call_soon(self._sent, replica))

    def _sent(self, replica: str) -> None:
        self._promised[replica] -= 1

    async def _loads(self, replicas: Mapping[str, RunningReplica]) -> dict[str, int]:
        """What is known of each; replicas not heard of lately are asked, those silent left out."""
        known = self.replica_queue_len_cache
        unheard = [one for one in replicas.values() if known.get(one.replica_id) is None]
        if unheard:
            await self._probe_queue_lens(unheard, 0)
        found = {name: known.get(one.replica_id) for name, one in replicas.items()}
        return {name: n + self._promised[name] for name, n in found.items() if n is not None}


def routing(*, by_voice: bool) -> RequestRouterConfig:
    """How Serve routes calls of a stage."""
    options: dict[str, Any] = {"request_router_class": VoiceRouter} if by_voice else {}
    return RequestRouterConfig(**options)
