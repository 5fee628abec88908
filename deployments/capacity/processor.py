"""A device that several workers share: each gets its part of it while it has something to do."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from simpy import Environment, Event

DONE_S = 1e-9  # of work left: nothing


@dataclass(slots=True, eq=False)
class _Job:
    left_s: float
    weight: float
    who: str
    done: Event
    speed: float = 0.0


class Processor:
    """Processor sharing. One job never runs faster than alone.

    capacity: jobs that run at full speed beside each other: cores, or 1 of a GPU.
    """

    def __init__(self, env: Environment, capacity: float) -> None:
        self._env, self._capacity = env, capacity
        self._jobs: list[_Job] = []
        self._last_s = env.now
        self._turn = 0
        self.busy_s = defaultdict[str, float](float)
        """Seconds of the device by who used them."""

    def work(self, seconds: float, who: str, weight: float = 1.0) -> Event:
        """An event that comes when so many seconds of work are done. weight: of its part."""
        done = Event(self._env)
        if seconds <= DONE_S:
            return done.succeed()
        self._settle()
        self._jobs.append(_Job(seconds, weight, who, done))
        self._share()
        return done

    def _settle(self) -> None:
        """Count what was done since last time."""
        past_s = self._env.now - self._last_s
        self._last_s = self._env.now
        for job in self._jobs:
            done_s = past_s * job.speed
            job.left_s -= done_s
            self.busy_s[job.who] += done_s

    def _share(self) -> None:
        """Speeds from now on, and when the first job ends at them."""
        self._turn += 1
        if not self._jobs:
            return
        if len(self._jobs) <= self._capacity:
            for job in self._jobs:
                job.speed = 1.0
        else:
            self._divide()
        turn = self._turn
        first_s = min(job.left_s / job.speed for job in self._jobs)
        self._env.timeout(max(first_s, 0.0)).callbacks.append(lambda _: self._ended(turn))

    def _divide(self) -> None:
        """By weight; what is beyond full speed goes to the others."""
        left, jobs = self._capacity, sorted(self._jobs, key=lambda one: -one.weight)
        weights = sum(one.weight for one in jobs)
        for job in jobs:
            job.speed = min(left * job.weight / weights, 1.0)
            left, weights = left - job.speed, weights - job.weight

    def _ended(self, turn: int) -> None:
        if turn != self._turn:
            return  # others came since
        self._settle()
        over = [job for job in self._jobs if job.left_s <= DONE_S]
        self._jobs = [job for job in self._jobs if job.left_s > DONE_S]
        self._share()
        for job in over:
            job.done.succeed()
