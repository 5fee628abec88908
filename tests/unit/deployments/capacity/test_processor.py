"""A shared device against Erlang's formula, and what weights do."""

from __future__ import annotations

import math
from collections.abc import Generator

import numpy as np
import pytest
from simpy import Environment, Event

from deployments.capacity.processor import Processor

pytestmark = pytest.mark.unit


def erlang_c(servers: int, offered: float) -> float:
    """The share of those who wait, of an M/M/c queue."""
    terms = [offered**k / math.factorial(k) for k in range(servers)]
    last = offered**servers / math.factorial(servers) * servers / (servers - offered)
    return last / (sum(terms) + last)


def mean_stay_s(servers: int, rate_hz: float, work_s: float, n: int) -> float:
    """Of n jobs with exponential work that come at random."""
    env, dice = Environment(), np.random.default_rng(4)
    device, stays_s = Processor(env, servers), list[float]()
    gaps_s, works_s = dice.exponential(1 / rate_hz, n), dice.exponential(work_s, n)

    def job(at_s: float, seconds: float) -> Generator[Event, object, None]:
        yield env.timeout(at_s)
        yield device.work(seconds, "job")
        stays_s.append(env.now - at_s)

    for at_s, seconds in zip(np.cumsum(gaps_s), works_s, strict=True):
        env.process(job(float(at_s), float(seconds)))
    env.run()
    assert device.busy_s["job"] == pytest.approx(works_s.sum())
    return sum(stays_s) / n


@pytest.mark.parametrize(("servers", "load"), [(1, 0.5), (2, 0.7), (4, 0.8)])
def test_many_jobs_stay_as_long_as_erlang_says(servers: int, load: float):
    """Shared or in turn, an M/M/c queue holds as many on average."""
    work_s, rate_hz = 0.5, servers * load / 0.5
    waits_s = erlang_c(servers, servers * load) * work_s / (servers * (1 - load))
    assert mean_stay_s(servers, rate_hz, work_s, 10_000) == pytest.approx(work_s + waits_s, rel=0.1)


def test_a_job_has_its_part_by_weight_and_never_more_than_alone():
    env = Environment()
    device = Processor(env, 2.0)
    ended = dict[str, float]()

    def job(name: str, weight: float) -> Generator[Event, object, None]:
        yield device.work(1.0, name, weight)
        ended[name] = env.now

    for name, weight in (("front", 3.0), ("vocoder", 1.0), ("llm", 1.0)):
        env.process(job(name, weight))
    env.run()
    assert ended == pytest.approx({"front": 1.0, "vocoder": 1.5, "llm": 1.5})
