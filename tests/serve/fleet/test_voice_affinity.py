"""Requests routed by voice, over two routers and two vocoders."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.serve.service_client import ServiceClient
from tests.waiting import eventually

pytestmark = pytest.mark.serve

AT_ONCE = 12
QUIET_S = 1.0  # replicas report what they have to do once they are asked


def look_ups(client: ServiceClient) -> int:
    """How often a vocoder lacked a voice's state."""
    vocoders = client.ready()["stages"]["vocoder"]["replicas"]
    return sum(one["states_found_total"] + one["states_missed_total"] for one in vocoders)


def test_a_vocoder_looks_for_a_voice_once(many: ServiceClient) -> None:
    """Then it has its state. Whoever asks a replica for its name at that moment is load, too: a
    request may go to the other one, so which one answers is for the unit tests of the routing.
    """
    assert eventually(lambda: len(many.ready()["stages"]["vocoder"]["replicas"]) == 2)
    before = look_ups(many)
    for seed in range(6):
        assert many.speak(voice="hugo", seed=seed).status_code == 200
        time.sleep(QUIET_S)
    assert 1 <= look_ups(many) - before <= 2


def test_many_at_once_in_one_voice_are_all_answered(many: ServiceClient) -> None:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        replies = list(pool.map(lambda seed: many.speak(voice="hugo", seed=seed), range(AT_ONCE)))
    assert {reply.status_code for reply in replies} <= {200, 503}  # the LLM's queue is short here
    assert sum(reply.status_code == 200 for reply in replies) >= 9  # its slots, and one that waits
    assert eventually(lambda: many.busy() == (0, 0))
