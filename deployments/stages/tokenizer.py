"""The tokenizer replica: hosts the voice encoder. The router calls it on a cache miss only."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

from deployments.config.settings import Settings
from deployments.config.stages import Kind
from deployments.liveness.signs import with_signs
from deployments.scaling.policy import Work
from deployments.scaling.replica import ScaledReplica
from deployments.stages.limits import ARENA_PART, apply_device_limits, arena_limit_bytes
from deployments.stages.room import Room
from deployments.stages.warm_up import encode_once, warm_up
from deployments.telemetry.load import StageLoad
from deployments.telemetry.logs import adopt_serve_logging
from deployments.telemetry.metrics import ENCODES
from deployments.telemetry.tracing.tracer import Tracer
from deployments.telemetry.transfers import Stamped, stamped
from pipeline.contracts import ReferenceClip, VoicePrompt
from pipeline.stepaudio.layout import CheckpointLayout, resolve_model

CONCURRENT_BATCHES = 2  # per replica; each uses several threads


class TokenizerReplica(ScaledReplica):
    """Encodes reference clips. Loads the encoder before it is ready."""

    def __init__(self, settings: Settings) -> None:
        from pipeline.stepaudio.tokenizer.voice_encoder import StepVoiceEncoder

        adopt_serve_logging()
        self._tracer = Tracer.of(settings.telemetry, "tokenizer")
        stage = settings.tokenizer
        # no TF32: codes must be exact
        apply_device_limits(stage, allow_tf32=False, torch_part=1 - ARENA_PART)
        layout = CheckpointLayout.at(resolve_model(settings.model))
        self._encoder = StepVoiceEncoder(
            layout.tokenizer,
            layout.vocoder,
            device=stage.device,
            threads=stage.threads,
            arena_limit_bytes=arena_limit_bytes(stage),
            concurrent_batches=CONCURRENT_BATCHES,
            batch_s=stage.batch_s,
            tensorrt_cache=_directory(stage.tensorrt_cache),
        )
        warm_up(encode_once(self._encoder))
        self._load = StageLoad(Kind.TOKENIZER)
        self._room = Room("tokenizer", stage.max_clips)
        self._encodes = 0
        self._counter = ENCODES.open()
        self.begin_telling("tokenizer", settings.scaling.tokenizer, settings.memory)

    async def fingerprint(self) -> str:
        """The encoder's fingerprint, part of every cache key."""
        return self._encoder.fingerprint

    async def encode(self, clip: ReferenceClip, trace: str = "") -> Stamped[VoicePrompt]:
        """Raises AudioError for a clip that cannot be encoded, CapacityError in a full replica.

        At most `max_clips` are in the replica: the rest of `max_ongoing_requests` is for control
        calls. trace: see pipeline.serving.tracing.Sent.
        """
        spans = self._tracer.followed(trace)
        with self._room.taken():
            self._encodes += 1
            self._counter.inc()
            with spans.span("queue", stage="tokenizer"):
                voice = await self._load.waited(self._encoder.begin(clip))
            with self._load.counted(running=1), spans.span("encoder"):
                return stamped(await voice)

    @with_signs
    async def encode_aloud(
        self, clip: ReferenceClip, trace: str = ""
    ) -> AsyncGenerator[Stamped[VoicePrompt]]:
        """`encode`, with signs of life meanwhile."""
        yield await self.encode(clip, trace)

    @property
    def in_work(self) -> int:
        """Clips that are encoded or wait."""
        return self._load.running + self._load.waiting

    def work(self) -> Work:
        """See ScaledReplica."""
        busy = self._load.look()
        batches = min(busy.running, CONCURRENT_BATCHES)
        return Work(batches, CONCURRENT_BATCHES, busy.queue_age_s, busy.refused)

    def check_parts(self) -> None:
        """Raises StageError when the encoder's threads or device are gone."""
        self._encoder.check_health()

    async def status(self) -> dict[str, Any]:
        """Gauges of this replica."""
        return {"encodes": self._encodes, "fingerprint": self._encoder.fingerprint}


def _directory(name: str | None) -> Path | None:
    return None if name is None else Path(name).expanduser()
