"""The recogniser replica: hosts a FunASR model. Routers call it for clips without a transcript."""

from __future__ import annotations

import asyncio
from typing import Any

from deployments.config.settings import Settings
from deployments.config.stages import Kind
from deployments.scaling.policy import Work
from deployments.scaling.replica import ScaledReplica
from deployments.stages.limits import apply_device_limits
from deployments.stages.room import Room
from deployments.stages.warm_up import recognise_once, warm_up
from deployments.telemetry.load import StageLoad
from deployments.telemetry.logs import adopt_serve_logging
from pipeline.contracts import ReferenceClip
from pipeline.stepaudio.asr.directory import recogniser_directory


class AsrReplica(ScaledReplica):
    """Tells what is said in reference clips. Loads its model before it is ready."""

    def __init__(self, settings: Settings) -> None:
        from pipeline.stepaudio.asr.recogniser import Recogniser

        adopt_serve_logging()
        stage = settings.asr
        apply_device_limits(stage, allow_tf32=False)
        directory = recogniser_directory(settings.model, stage.model)
        self._recogniser = Recogniser(directory, stage.device, stage.threads)
        warm_up(recognise_once(self._recogniser))
        self._load = StageLoad(Kind.ASR)
        self._room = Room("recogniser", stage.max_clips)
        self._turn = asyncio.Semaphore(1)
        self._clips = 0
        self.begin_telling("asr", settings.scaling.asr, settings.memory)

    async def fingerprint(self) -> str:
        """The recogniser's fingerprint, part of every kept transcript's key."""
        return self._recogniser.fingerprint

    async def transcribe(self, clip: ReferenceClip) -> str:
        """See transcription.Transcriber. Raises CapacityError in a full replica."""
        with self._room.taken():
            self._clips += 1
            async with self._load.admitted(self._turn):
                return await self._recogniser.transcribe(clip)

    @property
    def in_work(self) -> int:
        """Clips that are heard or wait."""
        return self._load.running + self._load.waiting

    def work(self) -> Work:
        """See ScaledReplica."""
        busy = self._load.look()
        return Work(busy.running, 1, busy.queue_age_s, busy.refused)

    def check_parts(self) -> None:
        """Raises StageError when the recogniser's thread or device are gone."""
        self._recogniser.check_health()

    async def status(self) -> dict[str, Any]:
        """Gauges of this replica."""
        return {"clips": self._clips, "fingerprint": self._recogniser.fingerprint}
