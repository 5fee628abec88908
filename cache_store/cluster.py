"""L2: the cluster's memory, through detached index actors that put and own the objects.

An object dies with the process that put it: the index actor puts it, so it outlives replicas.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import sys
import uuid
from collections.abc import Coroutine, Mapping
from typing import Any, cast

import numpy as np

from cache_store.background import spawn
from cache_store.breaker import Breaker, BreakerPolicy
from cache_store.claims import Claim, Heard, Told
from cache_store.errors import StoreError, StoreTimeout
from cache_store.index import PARTS, SMALL_BYTES, Header, Held, Index, Origin
from cache_store.keys import ClipKey, EntryKey
from cache_store.settings import CacheSettings

logger = logging.getLogger(__name__)

RAY_NAMESPACE = "timbre-cache"
STORE_SHARE = 0.3  # of a node's object store; beyond its capacity Ray spills to disk
START_DEADLINE_S = 30.0
PROBE_DEADLINE_S = 2.0
BACKGROUND_BYTES = 32 * 2**20  # entries on their way to the index; more are not offered
LARGE_BYTES = 2**20  # an entry that keeps several processes busy for milliseconds on its way
LATER_S = 0.5  # until such a one is offered: whoever read it is to be heard first
FORGET_DEADLINE_S = 2.0  # no request waits for it
INTERFACE = 3  # raise when the index's methods change: index actors outlive releases
CONCURRENCY = 4000  # concurrent calls of one index


class IndexActor(Index):
    """The index as it runs in Ray: entries go into the object store, owned by this process."""

    def __init__(self, max_bytes: int) -> None:
        super().__init__(min(max_bytes, _store_budget_bytes()), self._put)

    async def _put(self, data: Any) -> Held:
        if data.nbytes <= SMALL_BYTES:
            return Held(None, np.array(data))
        ref = _ray().put(np.asarray(data))
        # The view pins the object in memory: an entry within the budget is never spilled.
        return Held(ref, await ref)


class RayLease:
    """A lease that renews itself until it ends."""

    def __init__(self, tier: ClusterTier, digest: str, fence: int, origin: Origin) -> None:
        self._tier = tier
        self._digest = digest
        self._fence = fence
        self._origin = origin
        self._renewal = tier.spawn(self._renew())

    def publish(self, entry: bytes) -> None:
        self._renewal.cancel()
        self._tier.spawn(self._tier.send(self._digest, entry, self._origin))

    def release(self, failure: bytes = b"") -> None:
        self._renewal.cancel()
        word = (self._tier.holder, self._fence, failure, self._origin)
        self._tier.spawn(self._tier.tell("release", self._digest, *word))

    async def _renew(self) -> None:
        ttl_s = self._tier.lease_s
        while True:
            await asyncio.sleep(ttl_s / 3)
            try:
                fence = await self._tier.call(
                    "renew", self._digest, self._tier.holder, self._fence, ttl_s, self._origin
                )
            except StoreError as error:
                logger.info("could not renew a lease, trying again: %s", error)
                continue
            if fence is None:
                return  # another holder took over (both may finish), or the entry was removed
            self._fence = fence


class ClusterTier:
    """L2 as a tier, and the coordinator of computations. Use from one event loop."""

    name = "l2"
    is_durable = False

    def __init__(self, settings: CacheSettings, policy: BreakerPolicy | None = None) -> None:
        self.holder = uuid.uuid4().hex
        self.lease_s = settings.lease_s
        self._settings = settings
        self._deadline_s = settings.l2_deadline_s
        self._handles: dict[int, Any] = {}
        self._connecting = asyncio.Lock()
        self._breaker = Breaker("the cluster's cache index", self._probe, policy)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._background_bytes = 0
        self._dropped = 0
        self._removals = 0
        self._incarnations: dict[int, str] = {}
        self._restarts = 0

    async def start(self) -> None:
        """Wait until every shard answers: requests would time out on a starting one."""
        shards = range(self._settings.l2_shards)
        try:
            async with asyncio.timeout(START_DEADLINE_S):
                await asyncio.gather(*(self._invoke(s, START_DEADLINE_S, "stats") for s in shards))
        except (StoreError, TimeoutError) as error:
            logger.warning("no cluster-wide cache index, going on without it: %s", error)

    async def get(self, key: EntryKey) -> bytes | None:
        header, parts = await self._ask(key.digest, 0.0, "find", key.digest)
        return await self._entry(header, parts) if header.kind == "hit" else None

    async def claim(self, key: EntryKey, wait_s: float) -> Claim:
        origin = self._origin(key.owner)
        args = (key.digest, self.holder, self.lease_s, wait_s, key.owner)
        header, parts = await self._ask(key.digest, wait_s, "claim", *args)
        match header.kind:
            case "hit":
                return Claim(entry=await self._entry(header, parts))
            case "lease":
                return Claim(lease=RayLease(self, key.digest, header.fence, origin))
            case "failure":
                return Claim(failure=header.failure)
            case _:
                return Claim(is_busy=True)

    async def add(
        self, key: EntryKey, start: int, data: bytes, note: bytes, *, is_whole: bool
    ) -> Told | None:
        array = np.frombuffer(data, np.uint8)
        header = await self.call("add", key.digest, self.holder, start, array, note, is_whole)
        return None if header.kind == "absent" else Told(header.total_bytes, header.is_heard)

    async def follow(self, key: EntryKey, start: int, wait_s: float) -> Heard:
        header, parts = await self._ask(key.digest, wait_s, "follow", key.digest, start, wait_s)
        data = b"".join(parts)
        is_whole = header.is_whole and start + len(data) >= header.total_bytes
        return Heard(data, header.note, is_whole, is_live=header.kind != "absent")

    def offer(self, key: EntryKey, entry: bytes) -> None:
        later_s = LATER_S if len(entry) >= LARGE_BYTES else 0.0
        self.spawn(self.send(key.digest, entry, self._origin(key.owner), later_s))

    async def put(self, key: EntryKey, entry: bytes) -> None:
        origin = self._origin(key.owner)
        await self.call("publish", key.digest, np.frombuffer(entry, np.uint8), origin)

    async def drop(self, key: EntryKey) -> None:
        await self.call("drop", key.digest)

    def reject(self, key: EntryKey, entry: bytes) -> None:
        self.spawn(self.tell("drop", key.digest))

    async def forget(self, clip: ClipKey) -> None:
        """Not guarded by the breaker: a removal asks an unhealthy index too."""
        self._removals += 1
        origin = self._origin(clip.owner)
        shards = range(self._settings.l2_shards)
        await asyncio.gather(
            *(self._invoke(shard, FORGET_DEADLINE_S, "forget", origin) for shard in shards)
        )

    async def close(self, deadline_s: float) -> None:
        if self._tasks:
            _, late = await asyncio.wait(set(self._tasks), timeout=deadline_s)
            for task in late:
                task.cancel()
        await self._breaker.close()

    def stats(self) -> Mapping[str, float]:
        return {
            "breaker": int(self._breaker.state),
            "breaker_openings": self._breaker.openings,
            "dropped": self._dropped,
            "restarts": self._restarts,
        }

    def unhealthy_tiers(self) -> Mapping[str, str]:
        return {"l2": self._breaker.reason} if self._breaker.state else {}

    async def index_stats(self) -> list[dict[str, Any]]:
        """Counters of each shard. Raises StoreError when one cannot be reached."""
        shards = range(self._settings.l2_shards)
        return [cast("dict[str, Any]", await self._invoke(s, 0.0, "stats")) for s in shards]

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run `work` in the background, independent of the request that started it."""
        task = spawn("work for the cluster's cache index", work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def send(self, digest: str, entry: bytes, origin: Origin, later_s: float = 0.0) -> None:
        """Publish an entry, after so long; on failure it is dropped and counted."""
        if self._background_bytes + len(entry) > BACKGROUND_BYTES:
            self._dropped += 1
            return
        is_alone = not self._background_bytes  # else what waits would leave no room for others
        self._background_bytes += len(entry)
        try:
            if later_s and is_alone:
                await asyncio.sleep(later_s)
            await self.call("publish", digest, np.frombuffer(entry, np.uint8), origin)
        except StoreError as error:
            self._dropped += 1
            logger.info("could not publish %s to the cluster: %s", digest, error)
        finally:
            self._background_bytes -= len(entry)

    async def tell(self, method: str, digest: str, *args: object) -> None:
        """Call and ignore the outcome."""
        try:
            await self.call(method, digest, *args)
        except StoreError as error:
            logger.info("%s of %s did not reach the cluster's index: %s", method, digest, error)

    async def call(self, method: str, digest: str, *args: object) -> Any:
        """Call the digest's shard. Raises StoreError."""
        async with self._breaker.guard():
            return await self._invoke(self._shard(digest), 0.0, method, digest, *args)

    def _origin(self, owner: str) -> Origin:
        return Origin(owner, self.holder, self._removals)

    async def _ask(
        self, digest: str, wait_s: float, method: str, *args: object
    ) -> tuple[Header, list[bytes]]:
        shard = self._shard(digest)
        async with self._breaker.guard():
            reply = await self._invoke(shard, wait_s, method, *args, parts=1 + PARTS)
        header = cast("Header", reply[0])
        known = self._incarnations.setdefault(shard, header.incarnation)
        if known != header.incarnation:
            self._incarnations[shard] = header.incarnation
            self._restarts += 1
        return header, reply[1:]

    async def _entry(self, header: Header, parts: list[bytes]) -> bytes:
        if not header.refs:
            return b"".join(parts)
        view = await self._await(header.refs[0], self._deadline_s)
        return cast("bytes", view.tobytes())  # a copy, so that memory budgets count it

    async def _invoke(
        self, shard: int, wait_s: float, method: str, *args: object, parts: int = 1
    ) -> Any:
        handle = self._handles.get(shard)
        if handle is None:
            handle = await self._connect(shard)
        bound = getattr(handle, method)
        if parts == 1:
            return await self._await(bound.remote(*args), self._deadline_s + wait_s, shard)
        refs = bound.options(num_returns=parts).remote(*args)
        return await self._await(asyncio.gather(*refs), self._deadline_s + wait_s, shard)

    async def _await(self, reply: Any, deadline_s: float, shard: int | None = None) -> Any:
        exceptions = _ray().exceptions
        try:
            async with asyncio.timeout(deadline_s):
                return await reply
        except TimeoutError as error:
            raise StoreTimeout(f"no answer within {deadline_s} s") from error
        except exceptions.ActorDiedError as error:
            if shard is not None:
                self._handles.pop(shard, None)  # the actor is dead: the next call makes another
            raise StoreError(str(error)) from error
        except exceptions.RayError as error:
            raise StoreError(str(error)) from error

    async def _connect(self, shard: int) -> Any:
        async with self._connecting:
            if shard not in self._handles:
                self._handles[shard] = await asyncio.to_thread(_get_index, self._settings, shard)
            return self._handles[shard]

    async def _probe(self) -> None:
        try:
            for shard in range(self._settings.l2_shards):
                async with asyncio.timeout(PROBE_DEADLINE_S):
                    await self._invoke(shard, PROBE_DEADLINE_S, "find", "probe", parts=1 + PARTS)
        except TimeoutError as error:
            raise StoreTimeout("the index does not answer") from error

    def _shard(self, digest: str) -> int:
        return int(digest[:8], 16) % self._settings.l2_shards


def _ray() -> Any:
    """Ray as Any; imported at first use."""
    return importlib.import_module("ray")


def is_connected() -> bool:
    """Whether this process belongs to a Ray cluster."""
    return "ray" in sys.modules and bool(_ray().is_initialized())


def kill_indexes(settings: CacheSettings) -> int:
    """End the index actors for good (they outlive Serve); the number found."""
    ray = _ray()
    killed = 0
    for shard in range(settings.l2_shards):
        try:
            handle = ray.get_actor(_actor_name(settings, shard), namespace=RAY_NAMESPACE)
        except ValueError:
            continue
        ray.kill(handle, no_restart=True)
        killed += 1
    return killed


def _get_index(settings: CacheSettings, shard: int) -> Any:
    """The shard's actor, created if missing. Blocks. Raises StoreError."""
    ray = _ray()
    options: dict[str, Any] = {
        "name": _actor_name(settings, shard),
        "namespace": RAY_NAMESPACE,
        "lifetime": "detached",
        "get_if_exists": True,
        "num_cpus": 0,
        "max_restarts": -1,
        "max_task_retries": 0,
        "max_concurrency": CONCURRENCY,
    }
    actor_class = ray.remote(IndexActor)
    try:
        return actor_class.options(**options).remote(settings.l2_bytes // settings.l2_shards)
    except (ray.exceptions.RayError, ValueError) as error:
        raise StoreError(f"cannot make the index actor: {error}") from error


def _actor_name(settings: CacheSettings, shard: int) -> str:
    return f"{settings.l2_name}-{shard}of{settings.l2_shards}-i{INTERFACE}"


def _store_budget_bytes() -> int:
    """Bytes of our entries that this node's object store may hold."""
    ray = _ray()
    node = ray.get_runtime_context().get_node_id()
    for info in ray.nodes():
        if info["NodeID"] == node:
            return int(STORE_SHARE * info["Resources"].get("object_store_memory", 0))
    return 0
