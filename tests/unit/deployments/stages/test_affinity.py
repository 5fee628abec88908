"""The choice of a replica for a voice, and the router that makes it, without a cluster."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from ray.serve._private.common import (
    DeploymentHandleSource,
    DeploymentID,
    ReplicaID,
    RequestMetadata,
)
from ray.serve.config import RequestRouterConfig
from ray.serve.request_router import PendingRequest

from deployments.stages.affinity import MOST_OF_MEAN, VoiceRouter, preferred, routing

pytestmark = pytest.mark.unit
DEPLOYMENT = DeploymentID("Vocoder", "timbre")


def zipf_voices(n_voices: int, seed: int) -> Iterator[str]:
    draw = np.random.default_rng(seed)
    weights = 1 / np.arange(1, n_voices + 1)
    for voice in draw.choice(n_voices, 2000, p=weights / weights.sum()):
        yield f"voice {voice}"


def names(n: int) -> list[str]:
    return [f"replica {i}" for i in range(n)]


@pytest.mark.parametrize("n_replicas", [1, 2, 3, 7])
@pytest.mark.parametrize("at_once", [1, 4, 60, 500])
def test_no_hint_takes_a_load_above_a_tenth_over_the_mean(n_replicas, at_once):
    draw, voices = np.random.default_rng(at_once), zipf_voices(50, n_replicas)
    loads = dict.fromkeys(names(n_replicas), 0)
    running = list[str]()
    for voice in voices:
        while len(running) >= at_once or (running and draw.random() < 0.4):
            loads[running.pop(draw.integers(len(running)))] -= 1
        chosen = preferred(voice, loads)
        assert chosen is not None
        loads[chosen] += 1
        running.append(chosen)
        mean = sum(loads.values()) / n_replicas
        assert loads[chosen] <= max(MOST_OF_MEAN * mean, -(-sum(loads.values()) // n_replicas))


def test_a_single_hot_voice_takes_a_tenth_more_than_the_mean_at_most():
    loads = dict.fromkeys(names(4), 0)
    for _ in range(1000):
        loads[preferred("hot", loads) or ""] += 1
    assert max(loads.values()) <= MOST_OF_MEAN * 250


def test_while_nothing_else_runs_a_voice_has_one_replica_whoever_asks():
    chosen = {preferred("one", dict.fromkeys(order, 0)) for order in (names(5), names(5)[::-1])}
    assert len(chosen) == 1


def test_voices_have_replicas_of_their_own():
    homes = Counter(preferred(f"voice {i}", dict.fromkeys(names(4), 0)) for i in range(400))
    assert sorted(filter(None, homes)) == names(4)
    assert min(homes.values()) > 70


def test_a_replica_that_goes_moves_its_own_voices_only():
    before = {f"voice {i}": preferred(f"voice {i}", dict.fromkeys(names(4), 0)) for i in range(200)}
    left = dict.fromkeys(names(4)[1:], 0)
    moved = {voice for voice, home in before.items() if preferred(voice, left) != home}
    assert moved == {voice for voice, home in before.items() if home == "replica 0"}


def test_a_new_replica_takes_its_share_and_nothing_else_moves():
    before = {f"voice {i}": preferred(f"voice {i}", dict.fromkeys(names(3), 0)) for i in range(200)}
    after = {voice: preferred(voice, dict.fromkeys(names(4), 0)) for voice in before}
    assert {after[voice] for voice in before if after[voice] != before[voice]} == {"replica 3"}


def test_without_replicas_there_is_none():
    assert preferred("one", {}) is None


def test_a_busy_home_sends_a_voice_to_its_second_one():
    idle = dict.fromkeys(names(3), 0)
    first = preferred("one", idle)
    assert first is not None
    second = preferred("one", {**idle, first: 1})
    assert second not in {first, None}
    without_first = {name: load for name, load in idle.items() if name != first}
    assert second == preferred("one", without_first)


class FakeReplica:
    """See RunningReplica."""

    def __init__(self, name: str, load: int = 0, most: int = 100) -> None:
        self.replica_id = ReplicaID(name, DEPLOYMENT)
        self.max_ongoing_requests = most
        self.load = load
        self.asked = 0
        self.taken = list[str]()

    async def get_queue_len(self, *, deadline_s: float) -> int:
        """See RunningReplica."""
        del deadline_s
        self.asked += 1
        await asyncio.sleep(0)
        return self.load


class Caller:
    """What Serve does around a router for each call."""

    def __init__(self, *replicas: FakeReplica) -> None:
        self.router = VoiceRouter(
            DEPLOYMENT, DeploymentHandleSource.REPLICA, use_replica_queue_len_cache=True
        )
        self.router.update_replicas(list[Any](replicas))

    async def call(self, voice: str, parent: str = "parent") -> FakeReplica:
        metadata = RequestMetadata(
            request_id=parent, internal_request_id=parent, call_method="speak", session_id=voice
        )
        asked = PendingRequest(args=[], kwargs={}, metadata=metadata)
        chosen: Any = await self.router._choose_replica_for_request(asked)
        self.router.on_send_request(chosen.replica_id)
        chosen.load += 1
        chosen.taken.append(voice)
        return chosen

    def ended(self, replica: FakeReplica) -> None:
        replica.load -= 1
        self.router.decrement_queue_len_cache(replica.replica_id)


async def test_calls_of_a_voice_one_after_the_other_go_to_one_replica():
    caller = Caller(*(FakeReplica(name) for name in names(4)))
    for voice in ("one", "two", "three"):
        chosen = set[str]()
        for _ in range(10):
            replica = await caller.call(voice)
            chosen.add(replica.replica_id.unique_id)
            caller.ended(replica)
        assert len(chosen) == 1


async def test_many_calls_of_one_parent_in_one_voice_are_all_answered():
    replicas = [FakeReplica(name) for name in names(2)]
    caller = Caller(*replicas)
    async with asyncio.timeout(10):
        await asyncio.gather(*(caller.call("hot") for _ in range(64)))
    loads = [replica.load for replica in replicas]
    assert sum(loads) == 64
    assert max(loads) <= MOST_OF_MEAN * 32


async def test_calls_without_a_voice_ask_no_more_than_they_did():
    replicas = [FakeReplica(name) for name in names(2)]
    caller = Caller(*replicas)
    await asyncio.gather(*(caller.call("") for _ in range(40)))
    assert {replica.load for replica in replicas} <= set(range(10, 31))


async def test_a_replica_that_died_is_not_chosen_and_its_voices_find_another():
    replicas = [FakeReplica(name) for name in names(3)]
    caller = Caller(*replicas)
    home = await caller.call("one")
    caller.router.on_replica_actor_died(home.replica_id)
    assert (await caller.call("one")) is not home


async def test_a_full_home_keeps_nobody_waiting():
    replicas = [FakeReplica(name, load=4, most=4) for name in names(2)]
    replicas[1].load = 3
    caller = Caller(*replicas)
    async with asyncio.timeout(10):
        for voice in ("one", "two", "three"):
            taken = await caller.call(voice)
            assert taken is replicas[1]
            caller.ended(taken)


def test_the_switch_decides_the_router():
    assert routing(by_voice=False).is_default_request_router()
    config = routing(by_voice=True)
    assert config.request_router_class == "deployments.stages.affinity.VoiceRouter"
    assert config.get_request_router_class().__name__ == "VoiceRouter"
    assert isinstance(config, RequestRouterConfig)


@pytest.mark.slow
def test_what_serve_is_given_needs_no_module_of_ours():
    """Whoever calls a stage, and Serve's controller, load it from bytes."""
    pickled = routing(by_voice=True).get_serialized_request_router_cls()
    code = (
        "import sys, pickle\n"
        "sys.modules.update(dict.fromkeys(('deployments', 'pipeline', 'cache_store')))\n"
        "made = pickle.loads(bytes.fromhex(sys.stdin.read()))\n"
        "sys.exit(made.__name__ != 'VoiceRouter')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=(pickled or b"").hex(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
