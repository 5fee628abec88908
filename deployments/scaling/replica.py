"""What every replica tells Serve: how busy it is, and when it is to be replaced."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace

from deployments.config.scaling_settings import MemorySettings, StageScaling
from deployments.scaling.memory import MemoryState, MemoryWatch
from deployments.scaling.peers import memory_of_others, own_name
from deployments.scaling.policy import Aims, Work, told
from deployments.telemetry.processes import ProcessGauges, itself


class ScaledReplica(ABC):
    """A replica that Serve asks for its work and its health.

    Call `begin_telling` last in `__init__`, when all is loaded and warm.
    """

    def begin_telling(self, stage: str, scaling: StageScaling, memory: MemorySettings) -> None:
        """stage: its section in both of them.

        Raises ConfigError where the replica is beyond its bound of memory already.
        """
        self._aims = Aims(scaling.busy, scaling.queue_age_s, scaling.cache, scaling.spare)
        bound = getattr(memory, stage)
        self._memory = MemoryWatch(stage, bound, memory.patience_s, memory_of_others)
        self._process = ProcessGauges(itself("replica"))

    @property
    @abstractmethod
    def in_work(self) -> int:
        """Requests that it is at, or that wait in it."""

    @abstractmethod
    def work(self) -> Work:
        """What it does now, and what it refused since the last call."""

    @abstractmethod
    def check_parts(self) -> None:
        """Raises StageError when something that it needs is gone."""

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """Called by Serve: what `policy.by_work` decides by."""
        work = replace(self.work(), is_spent=float(self._memory.is_spent))
        return told(work, self._aims)

    async def memory_state(self) -> MemoryState:
        """Called by replicas of the same stage."""
        return self._memory.state(own_name())

    async def check_health(self) -> None:
        """Called by Serve; fails when a part is gone, and when another stands in for a spent one.

        A replica that fails is drained.
        """
        self.check_parts()
        await self._memory.check(is_idle=not self.in_work)
