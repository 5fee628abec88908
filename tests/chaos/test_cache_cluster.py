"""L2 on a real Ray cluster of three nodes: one computation, and everything that can die."""

from __future__ import annotations

import time

import pytest
import ray

from cache_store import cluster
from tests.cache_fleet import LEASE_S, STORE_BYTES, Fleet, start_cluster, stop_cluster

pytestmark = [
    pytest.mark.chaos,
    # Ray leaves sockets and pipes of the processes that it ends to the garbage collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def nodes():
    running = start_cluster()
    yield running
    stop_cluster(running)


@pytest.fixture
def make_fleet(nodes, tmp_path):
    made: list[Fleet] = []

    def make(count: int, **options) -> Fleet:
        made.append(Fleet(tmp_path, count, **options))
        return made[-1]

    yield make
    for fleet in made:
        fleet.close()


def test_64_requests_over_8_replicas_on_3_nodes_are_one_computation(make_fleet):
    fleet = make_fleet(8, l2_deadline_s=2.0)  # a cluster that has just started may take its time
    assert len(set(fleet.node_ids)) == 3
    replies = ray.get(fleet.request("clip", each=8), timeout=60)
    assert len(replies) == 64
    assert fleet.computed("clip") == 1
    assert {tier for tier, _, _ in replies} == {"miss", "l2"}
    again = ray.get(fleet.request("clip"))
    assert {tier for tier, _, _ in again} == {"l1"}


def test_a_computation_longer_than_the_lease_is_one(make_fleet):
    fleet = make_fleet(4, l2_deadline_s=2.0)
    ray.get(fleet.request("long", encode_s=2.5 * LEASE_S), timeout=60)
    assert fleet.computed("long") == 1


def test_a_hit_on_another_node_comes_from_the_object_store(make_fleet):
    fleet = make_fleet(2, places=("a", "b"), l3=False, l2_deadline_s=2.0)
    names = [str(i) for i in range(100)]
    for name in names:
        ray.get(fleet.request(name, encode_s=0, replicas=fleet.replicas[:1]))
    replies = [ray.get(fleet.request(n, replicas=fleet.replicas[1:]))[0] for n in names]
    assert {tier for tier, _, _ in replies} == {"l2"}


def test_what_a_dead_replica_made_is_still_there(make_fleet):
    fleet = make_fleet(2, places=("a", "b"), l3=False)
    ray.get(fleet.request("clip", replicas=fleet.replicas[:1]))
    ray.get(fleet.replicas[0].publish_alias.remote())
    while ray.get(fleet.replicas[1].index_stats.remote())[0]["entries"] < 2:
        time.sleep(0.05)
    ray.kill(fleet.replicas[0])
    time.sleep(1.5)
    assert ray.get(fleet.request("clip", replicas=fleet.replicas[1:]))[0][0] == "l2"
    assert ray.get(fleet.replicas[1].find_alias.remote()).duration_s == 2.5
    fleet.replicas.pop(0)


def test_an_encoder_killed_in_the_middle_is_replaced(make_fleet):
    fleet = make_fleet(5)
    ray.get(fleet.request("warm-up"))
    holder, *others = fleet.replicas
    encode_s = 0.3
    doomed = holder.request.remote("clip", 30)
    while not fleet.computed("clip"):
        time.sleep(0.01)
    time.sleep(0.1)
    waiting = fleet.request("clip", each=8, encode_s=encode_s, replicas=others)
    time.sleep(0.5)
    killed = time.time()
    ray.kill(holder)
    replies = ray.get(waiting, timeout=30)
    with pytest.raises(ray.exceptions.RayActorError):
        ray.get(doomed)
    assert fleet.computed("clip") == 2
    assert max(ended for _, _, ended in replies) - killed <= LEASE_S + encode_s + 0.2
    fleet.replicas.remove(holder)


@pytest.mark.parametrize("for_good", [False, True])
def test_the_index_killed_during_a_computation(make_fleet, for_good):
    fleet = make_fleet(6)
    ray.get(fleet.request("warm-up"))
    requests = fleet.request("clip", each=4, encode_s=1.0)
    while not fleet.computed("clip"):
        time.sleep(0.01)
    time.sleep(0.2)
    ray.kill(fleet.index(), no_restart=for_good)
    replies = ray.get(requests, timeout=60)
    assert len(replies) == 24
    assert fleet.computed("clip") <= 2
    time.sleep(3)
    ray.get(fleet.request("later"), timeout=60)
    assert not any(fleet.breakers())
    assert ray.get(fleet.replicas[0].index_stats.remote())[0]["entries"] >= 1


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
    fleet.replicas = [fleet.add(place) for place in ("head", "a", "b", "head")]
    ray.get([replica.start.remote() for replica in fleet.replicas])
    ray.get(fleet.request("before"))
    requests = fleet.request("clip", each=4, encode_s=1.0)
    while not fleet.computed("clip"):
        time.sleep(0.01)
    time.sleep(0.2)
    nodes.remove_node(doomed, allow_graceful=False)
    replies = ray.get(requests, timeout=60)
    assert len(replies) == 16
    assert fleet.computed("clip") <= 2
    during = ray.get(fleet.request("during"), timeout=60)
    assert len(during) == 4
    fleet.wait_for_index()
    ray.get(fleet.request("after"), timeout=60)
    assert fleet.computed("after") == 1


def test_the_budget_in_the_object_store_holds_without_spilling(make_fleet):
    fleet = make_fleet(1, l3=False, l2_bytes=10**9, l1_bytes=10**6)
    for i in range(400):
        ray.get(fleet.request(str(i), encode_s=0))
    time.sleep(0.5)
    stats = ray.get(fleet.replicas[0].index_stats.remote())[0]
    assert stats["max_bytes"] == int(0.3 * STORE_BYTES)  # a share of the node's store
    assert stats["bytes"] <= stats["max_bytes"]
    assert stats["evictions"] > 100


def test_shards_share_the_work(make_fleet):
    fleet = make_fleet(4, l2_shards=3, l2_deadline_s=2.0)
    for i in range(20):
        ray.get(fleet.request(str(i), encode_s=0))
    time.sleep(0.3)
    stats = ray.get(fleet.replicas[0].index_stats.remote())
    assert [s["entries"] > 0 for s in stats] == [True] * 3
    assert sum(s["entries"] for s in stats) == 20
    assert all(fleet.computed(str(i)) == 1 for i in range(20))


def test_a_whole_new_fleet_finds_everything(make_fleet):
    """Every replica and the index replaced: the same directory still has it."""
    first = make_fleet(3)
    ray.get(first.request("clip"))
    ray.get([replica.close.remote() for replica in first.replicas])
    first.close()
    first.replicas = []
    second = make_fleet(3)
    replies = ray.get(second.request("clip"))
    assert {tier for tier, _, _ in replies} <= {"l2", "l3"}
    assert second.computed("clip") == 0
