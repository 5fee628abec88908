"""A fleet of replicas with caches on a real Ray cluster, for chaos tests and the benchmark."""

from __future__ import annotations

import asyncio
import os
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError

from cache_store import cluster
from cache_store.aliases import Alias
from cache_store.cache import VoiceCache
from cache_store.errors import StoreError
from cache_store.keys import AliasKey, ClipKey
from cache_store.opening import open_cache
from cache_store.settings import CacheSettings
from tests.cache_helpers import SCHEMA, make_key, make_record, same
from tests.waiting import wait_until

ALIAS_KEY = AliasKey("shared", "ab" * 32, "cd" * 32)
STORE_BYTES = 100 * 2**20  # object store of each node
CLOSE_S = 30.0  # a process that needs longer for it is not used again


def start_cluster():
    """A cluster of a head and nodes a and b; each has a resource named after it."""
    from ray.cluster_utils import Cluster

    root = str(Path(__file__).parents[1])
    os.environ["PYTHONPATH"] = f"{root}:{os.environ.get('PYTHONPATH', '')}"
    # A dead node is noticed in seconds. Ray reads exactly these names.
    os.environ |= {
        "RAY_health_check_period_ms": "500",
        "RAY_health_check_failure_threshold": "3",
        "RAY_worker_niceness": "0",  # Ray's 15 leaves workers nothing beside other work
    }
    head = {"num_cpus": 4, "object_store_memory": STORE_BYTES, "resources": {"head": 100}}
    running = Cluster(initialize_head=True, head_node_args={**head, "include_dashboard": False})
    for name in ("a", "b"):
        running.add_node(num_cpus=4, object_store_memory=STORE_BYTES, resources={name: 100})
    ray.init(address=running.address, log_to_driver=False)
    return running


def stop_cluster(running) -> None:
    ray.shutdown()
    running.shutdown()


class Replica:
    """What an ingress replica does: one cache, many concurrent requests.

    Its process may serve another fleet afterwards, with another cache.
    """

    cache: VoiceCache

    async def start(self, settings: CacheSettings, tally) -> str:
        """→ the node that it is on."""
        self.cache = open_cache(settings, SCHEMA)
        self.tally = tally
        await self.cache.start()
        return ray.get_runtime_context().get_node_id()

    async def request(self, name: str, encode_s: float = 0.15) -> tuple[str, float, float]:
        """Tier, seconds, and the wall clock at the end."""

        async def encode():
            await self.tally.add.remote(name)
            await asyncio.sleep(encode_s)
            return make_record(seconds=10)

        started = time.monotonic()
        result = await self.cache.get_or_compute(make_key(name), encode)
        took_s, ended_unix_s = time.monotonic() - started, time.time()
        assert same(result.record, make_record(seconds=10))
        return result.tier, took_s, ended_unix_s

    async def find_alias(self) -> object:
        return await self.cache.find_alias(ALIAS_KEY)

    async def publish_alias(self) -> None:
        self.cache.publish_alias(ALIAS_KEY, Alias("ef" * 32, 2.5))

    async def forget(self, name: str) -> None:
        await self.cache.forget(ClipKey("shared", make_key(name).clip_digest))

    async def stats(self) -> dict:
        return self.cache.stats().as_dict()

    async def index_stats(self) -> list[dict]:
        assert self.cache._shared is not None
        return await self.cache._shared.index_stats()

    async def close(self) -> None:
        """Also where nothing is open any more."""
        cache: VoiceCache | None = vars(self).pop("cache", None)
        if cache is not None:
            await cache.close()


class Tally:
    """Counts the computations of the whole cluster, by name, and holds those it is told to."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.gates: dict[str, asyncio.Event] = {}

    async def clear(self) -> None:
        self.counts, self.gates = {}, {}

    async def add(self, name: str) -> None:
        self.counts[name] = self.counts.get(name, 0) + 1
        if name in self.gates:
            await self.gates[name].wait()

    async def hold(self, name: str) -> None:
        self.gates[name] = asyncio.Event()

    async def let_go(self, name: str) -> None:
        self.gates[name].set()

    async def count(self, name: str) -> int:
        return self.counts.get(name, 0)


class Pool:
    """Processes of replicas on the nodes of a cluster: fleets use them one after another.

    One takes a second of a core to start, and a fleet has up to eight.
    """

    def __init__(self) -> None:
        self._free: defaultdict[str, list[Any]] = defaultdict(list)
        self._tally: Any = None

    def tally(self) -> Any:
        """The one tally, empty."""
        if self._tally is None:
            self._tally = ray.remote(num_cpus=0, resources={"head": 0.01})(Tally).remote()
        ray.get(self._tally.clear.remote())
        return self._tally

    def take(self, place: str) -> Any:
        if self._free[place]:
            return self._free[place].pop()
        options = {"num_cpus": 0, "resources": {place: 0.01}, "max_concurrency": 100}
        actor: Any = ray.remote(**options)(Replica)
        return actor.remote()

    def take_back(self, taken: list[tuple[str, Any]]) -> None:
        """Of those that are alive and can close their caches."""
        closing = [(place, replica, replica.close.remote()) for place, replica in taken]
        for place, replica, closed in closing:
            try:
                ray.get(closed, timeout=CLOSE_S)
            except RayActorError:
                continue
            except GetTimeoutError:
                ray.kill(replica)
            else:
                self._free[place].append(replica)

    def close(self) -> None:
        for replicas in self._free.values():
            for replica in replicas:
                ray.kill(replica)
        self._free.clear()


class Fleet:
    """Replicas over the nodes, with an index and an L3 directory of their own.

    pool: whose processes they are; without one their own, which end with the fleet.
    """

    def __init__(
        self,
        tmp_path,
        count: int,
        places=("head", "a", "b"),
        l3=True,
        pool: Pool | None = None,
        **changes,
    ) -> None:
        self.settings = CacheSettings(
            url=str(tmp_path / "l3") if l3 else "none",
            l2="on",
            l2_name=tmp_path.name[:40].lower(),
            **changes,
        )
        self._pool, self._is_sole = pool or Pool(), pool is None
        self._taken: list[tuple[str, Any]] = []
        self.tally: Any = self._pool.tally()
        self.places = places
        self.replicas: list[Any] = []
        self.node_ids = self.start([places[i % len(places)] for i in range(count)])

    def start(self, places: Sequence[str]) -> list[str]:
        """Start replicas there; → their nodes."""
        taken = [(place, self._pool.take(place)) for place in places]
        self._taken += taken
        self.replicas += [replica for _, replica in taken]
        return ray.get([one.start.remote(self.settings, self.tally) for _, one in taken])

    def request(self, name: str, each: int = 1, encode_s: float = 0.15, replicas=None) -> list:
        chosen = self.replicas if replicas is None else replicas
        return [r.request.remote(name, encode_s) for _ in range(each) for r in chosen]

    def computed(self, name: str) -> int:
        return ray.get(self.tally.count.remote(name))

    def hold(self, name: str) -> None:
        """Let no computation of `name` end before `let_go`."""
        ray.get(self.tally.hold.remote(name))

    def let_go(self, name: str) -> None:
        ray.get(self.tally.let_go.remote(name))

    def waited(self) -> int:
        """Requests that so far waited for another replica's computation."""
        return sum(one["waited"] for one in ray.get([r.stats.remote() for r in self.replicas]))

    def index_stats(self) -> list[dict]:
        """What each shard counts, as the first replica reads it."""
        return ray.get(self.replicas[0].index_stats.remote())

    def breakers(self) -> list[int]:
        stats = ray.get([replica.stats.remote() for replica in self.replicas])
        return [one["tiers"]["l2"]["breaker"] for one in stats]

    def wait_for_index(self) -> None:
        """Until every replica reaches the index."""

        def is_there() -> bool:
            try:
                ray.get([replica.index_stats.remote() for replica in self.replicas])
            except StoreError:
                return False
            return not any(self.breakers())

        wait_until(is_there)

    def index(self):
        name = cluster._actor_name(self.settings, 0)
        return ray.get_actor(name, namespace=cluster.RAY_NAMESPACE)

    def kill(self) -> None:
        """Every replica's process: nobody uses it again."""
        for _, replica in self._taken:
            ray.kill(replica)
        self._taken, self.replicas = [], []

    def close(self) -> None:
        self._pool.take_back(self._taken)
        self._taken = []
        cluster.kill_indexes(self.settings)
        if self._is_sole:
            self._pool.close()
