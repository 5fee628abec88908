"""L2 on a real Ray cluster of three nodes: one computation, and everything that can die."""

from __future__ import annotations

import itertools

import pytest
import ray

from cache_store import cluster
from cache_store.errors import StoreError
from tests.cache_fleet import STORE_BYTES, Fleet, Pool
from tests.waiting import wait_until

pytestmark = [
    pytest.mark.chaos,
    # Ray leaves sockets and pipes of the processes that it ends to the garbage collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
# What no test here is about: a busy machine may take its time.
PATIENCE = {
    "l2_deadline_s": 10.0,
    "l3_read_deadline_s": 10.0,
    "l3_write_deadline_s": 60.0,
    "flush_deadline_s": 60.0,
    "lease_s": 10.0,
    "claim_wait_s": 120.0,
}


@pytest.fixture(scope="module")
def pool(nodes):
    made = Pool()
    yield made
    made.close()


@pytest.fixture
def make_fleet(pool, tmp_path):
    made: list[Fleet] = []

    def make(count: int, **options) -> Fleet:
        fleet = Fleet(tmp_path, count, pool=pool, **{**PATIENCE, **options})
        made.append(fleet)
        if count:
            fleet.wait_for_index()
        return fleet

    yield make
    for fleet in reversed(made):
        fleet.close()


def test_64_requests_over_8_replicas_on_3_nodes_are_one_computation(make_fleet):
    fleet = make_fleet(8)
    assert len(set(fleet.node_ids)) == 3
    replies = ray.get(fleet.request("clip", each=8))
    assert len(replies) == 64
    assert fleet.computed("clip") == 1
    assert {tier for tier, _, _ in replies} == {"miss", "l2"}
    again = ray.get(fleet.request("clip"))
    assert {tier for tier, _, _ in again} == {"l1"}


def test_a_computation_longer_than_the_lease_is_one(make_fleet):
    lease_s = 6.0  # a stall of the holder may last two thirds of it
    fleet = make_fleet(4, lease_s=lease_s)
    ray.get(fleet.request("long", encode_s=1.5 * lease_s))
    assert fleet.computed("long") == 1


def test_a_hit_on_another_node_comes_from_the_object_store(make_fleet):
    fleet = make_fleet(2, places=("a", "b"), l3=False)
    names = [str(i) for i in range(100)]
    for name in names:
        ray.get(fleet.request(name, encode_s=0, replicas=fleet.replicas[:1]))
    wait_until(lambda: fleet.index_stats()[0]["entries"] == len(names))
    replies = [ray.get(fleet.request(n, replicas=fleet.replicas[1:]))[0] for n in names]
    assert {tier for tier, _, _ in replies} == {"l2"}


def test_what_a_dead_replica_made_is_still_there(make_fleet):
    fleet = make_fleet(2, places=("a", "b"), l3=False)
    ray.get(fleet.request("clip", replicas=fleet.replicas[:1]))
    ray.get(fleet.replicas[0].publish_alias.remote())
    wait_until(lambda: fleet.index_stats()[0]["entries"] == 2)
    doomed = fleet.replicas.pop(0)
    ray.kill(doomed)
    wait_until(lambda: is_dead(doomed))
    assert ray.get(fleet.request("clip"))[0][0] == "l2"
    assert ray.get(fleet.replicas[0].find_alias.remote()).duration_s == 2.5


def test_a_clip_forgotten_while_one_replica_computes_and_others_wait_is_gone(make_fleet):
    fleet = make_fleet(3, l2_shards=2)
    ray.get(fleet.request("other"))
    fleet.hold("clip")
    holder, *others = fleet.replicas
    requests = fleet.request("clip", replicas=[holder])
    wait_until(lambda: fleet.computed("clip") == 1)
    requests += fleet.request("clip", replicas=others)
    wait_until(lambda: fleet.waited() >= len(others))
    ray.get([replica.forget.remote("clip") for replica in fleet.replicas])
    fleet.let_go("clip")
    assert "miss" in {tier for tier, _, _ in ray.get(requests)}
    before = fleet.computed("clip")
    assert ray.get(fleet.request("clip", replicas=others[:1]))[0][0] == "miss"
    assert fleet.computed("clip") == before + 1
    assert {tier for tier, _, _ in ray.get(fleet.request("other"))} == {"l1"}


def is_dead(replica) -> bool:
    """A kill takes a moment: calls that reach the process before it are still answered."""
    try:
        ray.get(replica.find_alias.remote())
    except ray.exceptions.RayActorError:
        return True
    return False


def test_an_encoder_killed_in_the_middle_is_replaced(make_fleet):
    """After its lease, long before those who wait give up."""
    fleet = make_fleet(5, lease_s=6.0)
    holder, *others = fleet.replicas
    fleet.hold("clip")
    doomed = holder.request.remote("clip")
    wait_until(lambda: fleet.computed("clip") == 1)
    waiting = fleet.request("clip", each=8, replicas=others)
    wait_until(lambda: fleet.waited() == len(others))
    ray.kill(holder)
    fleet.replicas.remove(holder)
    wait_until(lambda: fleet.computed("clip") == 2, give_up_s=PATIENCE["claim_wait_s"] / 2)
    fleet.let_go("clip")
    replies = ray.get(waiting)
    with pytest.raises(ray.exceptions.RayActorError):
        ray.get(doomed)
    assert len(replies) == 32
    assert fleet.computed("clip") == 2
    assert fleet.index_stats()[0]["expired"] == 1


def compute_while(fleet: Fleet, harm, *, ends_first: bool) -> None:
    """All replicas ask for a clip, one computes; `harm` comes when the others wait for it.

    ends_first: the computation ends without waiting for the index to return.
    """
    ray.get(fleet.request("warm-up"))
    before = fleet.waited()
    fleet.hold("clip")
    requests = fleet.request("clip", each=4)
    wait_until(lambda: fleet.waited() - before == len(fleet.replicas) - 1)
    assert fleet.computed("clip") == 1
    harm()
    if not ends_first:
        fleet.wait_for_index()
    fleet.let_go("clip")
    replies = ray.get(requests)
    assert len(replies) == 4 * len(fleet.replicas)
    assert fleet.computed("clip") <= 2


@pytest.mark.parametrize("ends_first", [False, True])
@pytest.mark.parametrize("for_good", [False, True])
def test_the_index_killed_during_a_computation(make_fleet, for_good, ends_first):
    fleet = make_fleet(6)
    index, before = fleet.index(), fleet.index_stats()[0]["incarnation"]

    def is_gone() -> bool:
        try:
            return fleet.index_stats()[0]["incarnation"] != before
        except StoreError:
            return True

    def kill() -> None:
        ray.kill(index, no_restart=for_good)
        wait_until(is_gone)

    compute_while(fleet, kill, ends_first=ends_first)
    fleet.wait_for_index()
    ray.get(fleet.request("later"))
    assert fleet.computed("later") == 1
    wait_until(lambda: fleet.index_stats()[0]["entries"] >= 1)


def test_the_indexs_node_dies(nodes, make_fleet):
    doomed = nodes.add_node(num_cpus=1, object_store_memory=STORE_BYTES, resources={"doomed": 1})
    fleet = make_fleet(0)
    pin = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(doomed.node_id, soft=True)
    actor = ray.remote(cluster.IndexActor).options(
        name=cluster._actor_name(fleet.settings, 0),
        namespace=cluster.RAY_NAMESPACE,
        lifetime="detached",
        num_cpus=0,
        max_restarts=-1,
        max_concurrency=1000,
        scheduling_strategy=pin,
    )
    index = actor.remote(fleet.settings.l2_bytes)
    ray.get(index.stats.remote())
    fleet.start(["head", "a", "b", "head"])
    fleet.wait_for_index()

    def remove_node() -> None:
        nodes.remove_node(doomed, allow_graceful=False)

    compute_while(fleet, remove_node, ends_first=True)
    assert len(ray.get(fleet.request("during"))) == 4
    fleet.wait_for_index()
    ray.get(fleet.request("after"))
    assert fleet.computed("after") == 1


def test_the_budget_in_the_object_store_holds_without_spilling(make_fleet):
    fleet = make_fleet(1, l3=False, l2_bytes=10**9, l1_bytes=10**6)
    names = (str(i) for i in itertools.count())

    def has_evicted() -> bool:
        for name in itertools.islice(names, 50):
            ray.get(fleet.request(name, encode_s=0))
        stats = fleet.index_stats()[0]
        assert stats["max_bytes"] == int(0.3 * STORE_BYTES)  # a share of the node's store
        assert stats["bytes"] <= stats["max_bytes"]
        return stats["evictions"] > 100

    wait_until(has_evicted)


def test_shards_share_the_work(make_fleet):
    fleet = make_fleet(4, l2_shards=3)
    for i in range(20):
        ray.get(fleet.request(str(i), encode_s=0))
    wait_until(lambda: sum(s["entries"] for s in fleet.index_stats()) == 20)
    assert [s["entries"] > 0 for s in fleet.index_stats()] == [True] * 3
    assert all(fleet.computed(str(i)) == 1 for i in range(20))


def test_a_whole_new_fleet_finds_everything(make_fleet):
    """Every replica and the index replaced: the same directory still has it."""
    first = make_fleet(3)
    ray.get(first.request("clip"))
    ray.get([replica.close.remote() for replica in first.replicas])
    first.kill()
    first.close()
    second = make_fleet(3)
    replies = ray.get(second.request("clip"))
    assert {tier for tier, _, _ in replies} <= {"l2", "l3"}
    assert second.computed("clip") == 0
