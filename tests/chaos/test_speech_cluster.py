"""Speech in a cluster of three nodes: one computation, every listener from its start; deaths."""

from __future__ import annotations

import os
import signal
import time

import pytest
import ray
from ray.exceptions import RayActorError

from tests.speech_fleet import CHUNK_S, CHUNKS, Listened, SpeechFleet
from tests.waiting import wait_until

pytestmark = [
    pytest.mark.chaos,
    # Ray leaves sockets and pipes of the processes that it ends to the garbage collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def fleet(nodes, tmp_path_factory: pytest.TempPathFactory):
    made = SpeechFleet(tmp_path_factory.mktemp("speech"), 3)
    yield made
    made.close()


def is_whole(one: Listened) -> bool:
    return one.heard.audio_s == pytest.approx(CHUNKS * CHUNK_S)


def test_64_equal_requests_over_three_nodes_are_one_computation(fleet: SpeechFleet) -> None:
    assert len(fleet.nodes) == 3
    listened = ray.get(fleet.listen(1, 64))
    assert len(fleet.makers(1)) == 1
    assert len({one.digest for one in listened}) == 1
    assert all(is_whole(one) and one.heard.is_ok for one in listened)
    assert sorted({one.source for one in listened}) == ["joined", "none"]
    late = ray.get(fleet.listen(1, 3))
    assert {one.source for one in late} <= {"l1", "l2"}
    assert {one.digest for one in late} == {listened[0].digest}


def test_a_maker_that_is_killed_is_followed_by_one_listener(fleet: SpeechFleet) -> None:
    listening = fleet.listen(2, 24)
    wait_until(lambda: bool(fleet.makers(2)))
    time.sleep(1.0)  # into the answer, which takes 2.4 s to make
    (maker,) = fleet.makers(2)
    os.kill(maker, signal.SIGKILL)
    survivors: list[Listened] = []
    for reference in listening:
        try:
            survivors.append(ray.get(reference))
        except RayActorError:
            continue
    assert len(survivors) == 16
    assert len(fleet.makers(2)) == 2
    assert len({one.digest for one in survivors}) == 1
    assert all(is_whole(one) for one in survivors)
