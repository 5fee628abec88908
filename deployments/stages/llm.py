"""The LLM replica: hosts the engine, whose streams it hands on."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import asdict, replace
from typing import Any

from deployments.config.settings import Settings
from deployments.config.stages import Kind
from deployments.liveness.signs import with_signs
from deployments.scaling.policy import Work
from deployments.scaling.replica import ScaledReplica
from deployments.stages.limits import apply_device_limits, cap_bytes
from deployments.stages.llm_prefixes import PrefixLibrary
from deployments.stages.warm_up import draw_once, warm_up
from deployments.telemetry.gauges import PartsGauge, StageGauge
from deployments.telemetry.load import LoadGauges, QueueSeconds
from deployments.telemetry.logs import adopt_serve_logging
from deployments.telemetry.metrics import LLM_BYTES, LLM_START, LLM_STREAMS
from deployments.telemetry.tracing.answers import AnswerSpans
from deployments.telemetry.tracing.tracer import Tracer
from deployments.telemetry.transfers import Stamped, stamped
from pipeline.contracts import Int32Array, Sampling, TokenChunk
from pipeline.errors import CapacityError, CheckpointError
from pipeline.stepaudio.fingerprints import lm_fingerprint, prefix_fingerprint
from pipeline.stepaudio.layout import CheckpointLayout, resolve_model

logger = logging.getLogger(__name__)

MIB = 2**20


class LLMReplica(ScaledReplica):
    """Draws audio tokens, continuous batching inside.

    Loads and warms the model before it is ready.
    """

    def __init__(self, settings: Settings, variant: str) -> None:
        from pipeline.stepaudio.llm.engine.loading import load_engine

        adopt_serve_logging()
        self._tracer = Tracer.of(settings.telemetry, "llm")
        model, stage = settings.llm_of(variant)
        apply_device_limits(stage, allow_tf32=True)
        started_s = time.monotonic()
        layout = CheckpointLayout.at(resolve_model(model))
        if model != settings.model:
            check_same_tokenizer(CheckpointLayout.at(resolve_model(settings.model)), layout)
        how = stage.model_dump(include={"device", "dtype", "quantization"})
        self._fingerprint = lm_fingerprint(layout, how)
        self._engine = load_engine(layout, stage)
        bits = how | stage.model_dump(include={"threads", "prefill_chunk_tokens"})
        self._prefixes = PrefixLibrary(
            settings.cache,
            self._engine,
            prefix_fingerprint(layout, bits),
            stage.max_prefix_record_bytes,
        )
        loaded_s = time.monotonic()
        warm_up(draw_once(self._engine))
        self._engine.take_waits()  # the warm-up is nobody's request
        self._limit_bytes = cap_bytes(stage) or 0
        self._open_streams = self._refused = 0
        self._active = StageGauge(LLM_STREAMS, lambda: self._open_streams)
        self._load = LoadGauges(Kind.LLM, self._running_and_waiting)
        self._queue = QueueSeconds(Kind.LLM)
        self._bytes = PartsGauge(LLM_BYTES, self._parts)
        self._start_s = {
            "load": loaded_s - started_s - self._engine.gauges().recording_s,
            "record": self._engine.gauges().recording_s,
            "warm_up": time.monotonic() - loaded_s,
        }
        self._start = PartsGauge(LLM_START, lambda: self._start_s)
        self._publish()
        self.begin_telling("llm", settings.scaling.llm, settings.memory)
        self._log_start(variant)

    async def stream(
        self,
        prompt_ids: Int32Array,
        sampling: Sampling,
        clip_digest: str,
        is_behind: bool = False,
        due_in_s: float | None = None,
        trace: str = "",
    ) -> AsyncGenerator[Stamped[TokenChunk]]:
        """Token chunks, drawn to the end as fast as the batch goes.

        clip_digest: of the voice whose prompt it is, with its tenant where that is not the usual
        one; `forget` finds by it what is kept of it.
        is_behind: while others draw, it draws a token now and then. due_in_s: seconds until the
        answer is wanted: who is due first has the next slot, who says nothing has it behind them.
        trace: see pipeline.serving.tracing.Sent.
        A reader that leaves cancels it; one whose process was killed is not missed. See
        docs/decisions/0001-answers-are-drawn-to-their-end.md.
        """
        self._open_streams += 1
        self._publish()
        spans = AnswerSpans(self._tracer.followed(trace))
        try:
            new = await self._prefixes.bring(prompt_ids, clip_digest)
            due_s = None if due_in_s is None else time.monotonic() + due_in_s
            stream = self._engine.stream(
                prompt_ids, sampling, clip_digest, is_behind=is_behind, due_s=due_s
            )
            async with aclosing(stream) as chunks:
                async for chunk in chunks:
                    spans.came(chunk)
                    if new is not None:
                        self._prefixes.offer(new)
                        new = None
                    yield stamped(self._signed(chunk))
        except CapacityError:
            self._refused += 1
            raise
        finally:
            spans.ended(sys.exception())
            self._open_streams -= 1
            self._publish()

    stream_aloud = with_signs(stream)

    def _signed(self, chunk: TokenChunk) -> TokenChunk:
        return replace(chunk, made_by=self._fingerprint) if chunk.last else chunk

    async def fingerprint(self) -> str:
        """The model's name by content, part of every key of speech."""
        return self._fingerprint

    async def forget(self, clip_digest: str) -> None:
        """Called on every replica when a clip is removed; a tenant's by its name."""
        self._engine.forget(clip_digest)
        await self._prefixes.records.forget(clip_digest)

    async def status(self) -> dict[str, Any]:
        """Gauges of this replica, its cap on the GPU, and what parts of its start took."""
        gauges = asdict(self._engine.gauges())
        return {**gauges, "limit_bytes": self._limit_bytes, "start_s": self._start_s}

    def _publish(self) -> None:
        for gauge in (self._active, self._bytes, self._load):
            gauge.publish()
        for wait_s in self._engine.take_waits():
            self._queue.observe(wait_s)

    def _running_and_waiting(self) -> tuple[int, int]:
        gauges = self._engine.gauges()
        return gauges.slots_active, gauges.queued

    def _parts(self) -> dict[str, float]:
        gauges = self._engine.gauges()
        parts: dict[str, float] = {
            "weights": gauges.weight_bytes,
            "cache": gauges.cache_bytes,
            "prefixes": gauges.prefix_bytes,
        }
        if self._limit_bytes:
            parts |= {"device": gauges.device_bytes, "limit": self._limit_bytes}
        return parts

    def _log_start(self, variant: str) -> None:
        sizes = ", ".join(f"{part} {n / MIB:.1f} MiB" for part, n in self._parts().items())
        times = ", ".join(f"{part} {s:.1f} s" for part, s in self._start_s.items())
        logger.info("language model %s is ready: %s; %s", variant, times, sizes)

    @property
    def in_work(self) -> int:
        """Streams open."""
        return self._open_streams

    def work(self) -> Work:
        """See ScaledReplica. A slot has the memory of its whole context, so bytes bound nothing."""
        gauges = self._engine.gauges()
        refused, self._refused = self._refused, 0
        return Work(gauges.slots_active, gauges.slots_total, gauges.queue_age_s, refused)

    def check_parts(self) -> None:
        """Raises StageError when the engine's worker died."""
        self._engine.check_health()


def check_same_tokenizer(base: CheckpointLayout, variant: CheckpointLayout) -> None:
    """Prompts are written with the base's text tokenizer, whichever variant reads them.

    Raises CheckpointError when the variant's is another.
    """
    if base.text_tokenizer.read_bytes() != variant.text_tokenizer.read_bytes():
        raise CheckpointError(
            f"{variant.text_tokenizer} differs from {base.text_tokenizer}: a variant of the "
            "language model must have the same text tokenizer"
        )
