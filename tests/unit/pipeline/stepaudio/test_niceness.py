"""Threads that compute and their priority."""

from __future__ import annotations

import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from pipeline.stepaudio.niceness import BEHIND, MOST, SWITCH_S, give_way

pytestmark = [
    pytest.mark.unit,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="priorities of threads"),
]


def niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


def after(device: str, times: int = 1) -> int:
    def run() -> int:
        for _ in range(times):
            give_way(torch.device(device))
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(niceness).result()

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(run).result()


def test_a_thread_that_computes_and_those_it_starts_are_behind_all_others() -> None:
    own = niceness()
    assert after("cpu") == min(own + BEHIND, MOST)
    assert niceness() == own


def test_who_feeds_a_gpu_is_not_and_waits_for_nobody_long() -> None:
    before_s = sys.getswitchinterval()
    try:
        assert after("cpu") > niceness()
        assert sys.getswitchinterval() == before_s
        assert after("cuda") == niceness()
        assert sys.getswitchinterval() == pytest.approx(SWITCH_S)
    finally:
        sys.setswitchinterval(before_s)


def test_there_is_a_last_place() -> None:
    assert after("cpu", times=9) == MOST
