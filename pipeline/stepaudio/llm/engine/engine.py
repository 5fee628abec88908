# pyright: basic
"""The token engine: streams of audio tokens, drawn together by one worker.

`scheduler` says who has a slot and what is next, `worker` does it.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import AsyncGenerator
from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.contracts import Int32Array, Sampling, TokenChunk
from pipeline.errors import (
    CapacityError,
    ConfigError,
    StageError,
    TextError,
    TimbreError,
)
from pipeline.stepaudio.llm.engine.prefix import PrefixCache, prefix_length
from pipeline.stepaudio.llm.engine.scheduler import Scheduler
from pipeline.stepaudio.llm.engine.slot import EngineRequest, whole_groups
from pipeline.stepaudio.llm.engine.worker import EngineWorker
from pipeline.stepaudio.llm.runner import Step1Runner
from pipeline.stepaudio.llm.sampling import (
    AudioVocabulary,
    DrawState,
    Sampler,
    require_valid,
)
from pipeline.stepaudio.llm.step1 import Step1ForCausalLM
from pipeline.stepaudio.tokens import GROUP_TOKENS

logger = logging.getLogger(__name__)

__all__ = ["AudioVocabulary", "Engine", "EngineGauges"]


@dataclass(frozen=True, slots=True)
class EngineGauges:
    """One consistent look at the engine.

    Slots, queue and bytes are of now; totals count since the start. queue_age_s: how long the first
    of those who wait for a slot has waited. A prefix hit is a prompt whose
    first turn was copied instead of computed. device_bytes: what the process holds of its GPU, 0 on
    a CPU. recording_s: how long recording CUDA graphs took at the start.
    """

    slots_total: int
    slots_active: int
    queued: int
    queue_age_s: float
    tokens_generated_total: int
    cancelled_total: int
    prefix_hits_total: int
    prefix_misses_total: int
    prefix_bytes: int
    weight_bytes: int
    cache_bytes: int
    device_bytes: int
    recording_s: float


class Engine:
    """A SpeechLM on Step1.

    A stream's tokens depend on prompt, sampling and seed alone, not on what else runs.
    """

    def __init__(  # noqa: PLR0913  # the engine's settings, by name
        self,
        model: Step1ForCausalLM,
        vocabulary: AudioVocabulary,
        *,
        slots: int,
        max_context_tokens: int,
        queue_size: int,
        queue_timeout_s: float,
        prefill_chunk_tokens: int = 256,
        chunk_tokens: int = 3 * GROUP_TOKENS,
        prefix_cache_bytes: int = 0,
        quantization: str = "none",
        takes_weights: bool = False,
        fused: bool | None = None,
    ) -> None:
        """Allocates the cache and starts the worker.

        slots: streams at once. max_context_tokens: prompt and answer together, at most the model's
        own limit. queue_size, queue_timeout_s: how many may wait for a slot, and how long.
        prefill_chunk_tokens: most prompt tokens between two steps; fewer while streams run, where
        a chunk's size changes no bit (see PrefillPace). chunk_tokens: tokens of a
        TokenChunk, whole groups. prefix_cache_bytes: how much of voices' prompt prefixes is kept.
        quantization, takes_weights, fused: see Step1Runner; fused draws too.
        Raises ConfigError, CheckpointError.
        """
        if chunk_tokens < GROUP_TOKENS or chunk_tokens % GROUP_TOKENS:
            raise ConfigError(
                f"chunk_tokens is {chunk_tokens}, allowed: multiples of {GROUP_TOKENS}"
            )
        if min(slots, prefill_chunk_tokens) < 1 or queue_size < 0 or queue_timeout_s < 0:
            raise ConfigError(
                "slots and prefill_chunk_tokens must be 1 or more,"
                " queue_size and queue_timeout_s 0 or more"
            )
        self._runner = Step1Runner(
            model,
            vocabulary,
            slots=slots,
            max_context_tokens=max_context_tokens,
            quantization=quantization,
            takes_weights=takes_weights,
            prefill_rows=prefill_chunk_tokens,
            fused=fused,
        )
        self._sampler = Sampler(vocabulary, self._runner.device, fused=fused)
        self._vocabulary = vocabulary
        self._queue_timeout_s = queue_timeout_s
        self._prefixes = PrefixCache(prefix_cache_bytes)
        self._scheduler = Scheduler(slots, queue_size, vocabulary.stop_id)
        self._worker = EngineWorker(
            self._scheduler,
            self._runner,
            self._sampler,
            vocabulary,
            self._prefixes,
            prefill_chunk_tokens,
            chunk_tokens,
        )

    @property
    def context_tokens(self) -> int:
        """Prompt and answer together."""
        return self._runner.context_tokens

    async def stream(
        self,
        prompt_ids: Int32Array,
        sampling: Sampling,
        voice: str = "",
        *,
        is_behind: bool = False,
        due_s: float | None = None,
    ) -> AsyncGenerator[TokenChunk]:
        """Draw audio tokens for int32 (n,) prompt ids.

        Chunks of whole groups; the last one may be empty. voice: what `forget` finds by its name.
        is_behind: while others draw, it draws a token now and then. due_s: monotonic clock; who is
        due first has the next slot, then those who do not say.

        Drawn to the end, however slowly they are read. A chunk holds `chunk_tokens`, a group at the
        start, fewer at the end. Without the grammar a partial group at the stop is dropped. Raises
        TextError (prompt too long), UnsupportedError (sampling), CapacityError (no slot in time),
        StageError. Closing the iterator or cancelling its task frees the slot at the next step.
        """
        request = self._submit(prompt_ids, sampling, voice, is_behind=is_behind, due_s=due_s)
        deadline = request.loop.call_later(self._queue_timeout_s, self._expire, request)
        try:
            while True:
                event = await request.events.get()
                if isinstance(event, TimbreError):
                    raise event
                yield event
                if event.last:
                    return
        finally:
            deadline.cancel()
            self._scheduler.release(request)

    def forget(self, voice: str) -> None:
        """Keep nothing of a voice: its prefixes go, and streams under way leave none.

        Safe from any thread.
        """
        self._prefixes.forget(voice)

    def prefix(self, prompt_ids: Int32Array) -> Int32Array:
        """The part of a prompt that requests in its voice share, int32 (n,); n may be 0."""
        return prompt_ids[: prefix_length(prompt_ids, self._vocabulary.stop_id)]

    def prefix_bytes(self, ids: Int32Array) -> int:
        """Of its keys and values."""
        return len(ids) * self._runner.token_bytes

    def wants_prefix(self, ids: Int32Array, voice: str) -> bool:
        """Whether it does not hold this one, and would."""
        return self._prefixes.wants(ids, self.prefix_bytes(ids), voice)

    def prefix_bits(self, ids: Int32Array, voice: str = "") -> NDArray[np.uint8] | None:
        """Keys and values of a prefix, if it is held: uint8 (prefix_bytes,).

        voice: as with `stream`. Safe from any thread.
        """
        held = self._prefixes.held(ids, voice)
        return None if held is None else held.flatten().view(torch.uint8).cpu().numpy()

    def give_prefix(self, ids: Int32Array, bits: NDArray[np.uint8], voice: str) -> None:
        """Hold what an engine like this one computed, unless its size is another.

        voice: as with `stream`. Safe from any thread.
        """
        try:
            saved = self._runner.unpacked(bits, len(ids))
        except torch.OutOfMemoryError as error:  # it can be computed
            logger.warning("no device memory left to hold a prefix", exc_info=error)
            return
        if saved is not None:
            self._prefixes.put(ids, saved, voice)

    def gauges(self) -> EngineGauges:
        """Safe from any thread."""
        return EngineGauges(
            **asdict(self._scheduler.occupancy()),
            prefix_hits_total=self._prefixes.hits_total,
            prefix_misses_total=self._prefixes.misses_total,
            prefix_bytes=self._prefixes.n_bytes,
            weight_bytes=self._runner.weight_bytes,
            cache_bytes=self._runner.cache_bytes,
            device_bytes=self._runner.device_bytes,
            recording_s=self._runner.recording_s,
        )

    def take_waits(self) -> list[float]:
        """Seconds that each request waited for its slot, of those that got one since the last call.

        Safe from any thread.
        """
        return self._scheduler.take_waits()

    def check_health(self) -> None:
        """Raises StageError when worker or device is gone, a model call hangs or keeps failing."""
        self._worker.check_health()

    def close(self) -> None:
        """Stop the worker; streams still open get StageUnavailableError. May be called twice."""
        self._scheduler.close()
        self._worker.join()

    def _submit(
        self,
        prompt_ids: Int32Array,
        sampling: Sampling,
        voice: str,
        *,
        is_behind: bool,
        due_s: float | None,
    ) -> EngineRequest:
        require_valid(sampling)
        prompt = np.array(prompt_ids, np.int32)
        limit = self.context_tokens - GROUP_TOKENS
        if not 0 < len(prompt) <= limit:
            raise TextError(
                f"the prompt (text, transcript and reference clip) has {len(prompt)} tokens,"
                f" allowed: 1 to {limit}",
                param="input",
            )
        if prompt.min() < 0 or prompt.max() >= self._runner.vocabulary_tokens:
            raise StageError("the prompt holds token ids that the model does not have")
        request = EngineRequest(
            prompt=prompt,
            draws=DrawState(sampling, self._vocabulary, prompt),
            budget_tokens=whole_groups(min(sampling.max_tokens, self.context_tokens - len(prompt))),
            loop=asyncio.get_running_loop(),
            events=asyncio.Queue(),
            submitted_s=time.monotonic(),
            voice=voice,
            is_behind=is_behind,
            due_s=math.inf if due_s is None else due_s,
        )
        self._scheduler.submit(request)
        return request

    def _expire(self, request: EngineRequest) -> None:
        if self._scheduler.gave_up(request):
            message = f"no slot became free within {self._queue_timeout_s:g} s"
            request.events.put_nowait(CapacityError(message))
