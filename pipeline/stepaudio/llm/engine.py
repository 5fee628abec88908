# pyright: basic
"""The token engine: slots, continuous batching, admission, cancellation.

Knows no HTTP, Ray or voice.

One worker thread owns the model. It prefills one bounded chunk, steps every slot that may go on,
and starts over; a request joins and leaves between steps. Everything shared with callers changes
under one condition, `_changed`.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from pipeline.contracts import Int32Array, Sampling, TokenChunk
from pipeline.errors import (
    CapacityError,
    ConfigError,
    StageError,
    StageUnavailableError,
    TextError,
    TimbreError,
)
from pipeline.stepaudio.health import StageHealth
from pipeline.stepaudio.llm.credit import TokenCredit
from pipeline.stepaudio.llm.pace import PrefillPace
from pipeline.stepaudio.llm.prefix import PrefixCache, prefix_length
from pipeline.stepaudio.llm.runner import Step1Runner
from pipeline.stepaudio.llm.sampling import (
    AudioVocabulary,
    DrawRow,
    DrawState,
    Sampler,
    require_valid,
)
from pipeline.stepaudio.llm.slot import EngineRequest, Slot, whole_groups
from pipeline.stepaudio.llm.step1 import Step1ForCausalLM
from pipeline.stepaudio.tokens import GROUP_TOKENS

__all__ = ["AudioVocabulary", "Engine", "EngineGauges", "TokenCredit"]

logger = logging.getLogger(__name__)

_MAX_FAILURES = 3  # failed model calls in a row before the engine calls itself unhealthy
_MAX_WAITS = 4096  # kept until somebody takes them
_MOST_CHUNKS = 8  # of prefill between two steps
_MAX_CALL_S = 60.0  # a model call longer than this is a hang
_JOIN_S = 10.0  # wait for the worker at close


@dataclass(frozen=True, slots=True)
class EngineGauges:
    """One consistent look at the engine.

    Slots, queue and bytes are of now; totals count since the start. A prefix hit is a prompt whose
    first turn was copied instead of computed. device_bytes: what the process holds of its GPU, 0 on
    a CPU. recording_s: how long recording CUDA graphs took at the start.
    """

    slots_total: int
    slots_active: int
    queued: int
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
        self._queue_size, self._queue_timeout_s = queue_size, queue_timeout_s
        self._prefill_chunk_tokens, self._chunk_tokens = prefill_chunk_tokens, chunk_tokens
        self._pace = PrefillPace(prefill_chunk_tokens)
        self._prefixes = PrefixCache(prefix_cache_bytes)
        self._changed = threading.Condition()
        self._waiting: deque[EngineRequest] = deque()
        self._slots: list[Slot | None] = [None] * slots
        self._admitted_total = self._tokens_generated_total = self._cancelled_total = 0
        self._failures_in_a_row = 0
        self._health = StageHealth("language model")
        self._waits_s: deque[float] = deque(maxlen=_MAX_WAITS)
        self._call_started_s: float | None = None
        self._closed = False
        self._worker = threading.Thread(target=self._work, name="llm-engine", daemon=True)
        self._worker.start()

    @property
    def context_tokens(self) -> int:
        """Prompt and answer together."""
        return self._runner.context_tokens

    async def stream(
        self,
        prompt_ids: Int32Array,
        sampling: Sampling,
        credit: TokenCredit | None = None,
        voice: str = "",
    ) -> AsyncGenerator[TokenChunk]:
        """Draw audio tokens for int32 (n,) prompt ids.

        Chunks of whole groups; the last one may be empty. voice: what `forget` finds by its name.

        A chunk holds `chunk_tokens`, a group at the start, fewer at the end and where the credit
        ends. Without the grammar a partial group at the stop is dropped. Raises TextError (prompt
        too long), UnsupportedError (sampling), CapacityError (no slot in time), StageError. Closing
        the iterator or cancelling its task frees the slot at the next step.
        """
        request = self._submit(prompt_ids, sampling, credit, voice)
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
            self._release(request)

    def forget(self, voice: str) -> None:
        """Keep nothing of a voice: its prefixes go, and streams under way leave none.

        Safe from any thread.
        """
        self._prefixes.forget(voice)

    def gauges(self) -> EngineGauges:
        """Safe from any thread."""
        with self._changed:
            return EngineGauges(
                slots_total=len(self._slots),
                slots_active=len(self._slots) - self._slots.count(None),
                queued=len(self._waiting),
                tokens_generated_total=self._tokens_generated_total,
                cancelled_total=self._cancelled_total,
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
        with self._changed:
            waits_s = list(self._waits_s)
            self._waits_s.clear()
        return waits_s

    def check_health(self) -> None:
        """Raises StageError when worker or device is gone, a model call hangs or keeps failing."""
        self._health.check()
        started = self._call_started_s
        if self._closed or not self._worker.is_alive():
            raise StageUnavailableError("the language model's worker is not running")
        if started is not None and time.monotonic() - started > _MAX_CALL_S:
            raise StageError(f"the language model has not finished a step for {_MAX_CALL_S:.0f} s")
        if self._failures_in_a_row >= _MAX_FAILURES:
            raise StageError(f"the language model failed {self._failures_in_a_row} times in a row")

    def close(self) -> None:
        """Stop the worker; streams still open get StageUnavailableError. May be called twice."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._worker.join(_JOIN_S)

    # Called by streams, on their event loops.

    def _submit(
        self, prompt_ids: Int32Array, sampling: Sampling, credit: TokenCredit | None, voice: str
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
            credit=credit,
            loop=asyncio.get_running_loop(),
            events=asyncio.Queue(),
            submitted_s=time.monotonic(),
            voice=voice,
        )
        if credit is not None:
            credit.on_grant(self._wake)
        with self._changed:
            if self._closed:
                raise StageUnavailableError("the language model is shutting down")
            if len(self._waiting) >= self._queue_size + self._slots.count(None):
                raise CapacityError(
                    f"all {len(self._slots)} slots are busy and {len(self._waiting)} requests"
                    f" wait, allowed: {self._queue_size}"
                )
            self._waiting.append(request)
            self._changed.notify()
        return request

    def _expire(self, request: EngineRequest) -> None:
        with self._changed:
            if request not in self._waiting:
                return
            self._waiting.remove(request)
            request.finished = True
        message = f"no slot became free within {self._queue_timeout_s:g} s"
        request.events.put_nowait(CapacityError(message))

    def _release(self, request: EngineRequest) -> None:
        """The caller is gone; a request that is not finished counts as cancelled."""
        with self._changed:
            if request.finished or request.cancelled:
                return
            request.cancelled = True
            self._cancelled_total += 1
            if request in self._waiting:
                self._waiting.remove(request)
            self._changed.notify()

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify()

    # The worker.

    def _work(self) -> None:
        reason = "the language model was shut down"
        try:
            while (work := self._next_work()) is not None:
                joining, ready = work
                self._join(joining, ready)
                if ready:
                    self._step(ready)
        except (
            Exception
        ):  # the thread's border: nobody else would see it, and every caller would hang
            logger.exception("the language model's worker died")
            reason = "the language model's worker died"
        with self._changed:
            self._closed = True
            requests = [*self._waiting, *(slot.request for slot in self._slots if slot)]
            self._waiting.clear()
            self._slots[:] = [None] * len(self._slots)
        for request in requests:
            self._send(request, StageUnavailableError(reason))

    def _next_work(self) -> tuple[list[Slot], list[Slot]] | None:
        """Wait for work → (slots to prefill, the oldest first; slots to step); None at close.

        Reaps the cancelled, admits the waiting.
        """
        with self._changed:
            while not self._closed:
                self._reap_and_admit()
                active = [slot for slot in self._slots if slot]
                joining = [slot for slot in active if slot.is_prefilling]
                joining.sort(key=lambda slot: slot.ticket)
                ready = [slot for slot in active if not slot.is_prefilling and not slot.is_paused]
                if joining or ready:
                    return joining, ready
                self._changed.wait()
        return None

    def _reap_and_admit(self) -> None:
        for index, held in enumerate(self._slots):
            if held and held.request.cancelled:
                self._slots[index] = None
            if self._slots[index] is None and self._waiting:
                request = self._waiting.popleft()
                self._admitted_total += 1
                self._waits_s.append(time.monotonic() - request.submitted_s)
                prefix = prefix_length(request.prompt, self._vocabulary.stop_id)
                slot = Slot(index, self._admitted_total, request, prefix)
                slot.token = int(request.prompt[-1])
                self._slots[index] = slot

    def _join(self, joining: list[Slot], ready: list[Slot]) -> None:
        """A chunk of prefill, of the oldest; as many as there are slots that join, if all can wait.

        Else the last of a crowd would wait for a step behind each chunk of those before it.
        """
        now_s = time.monotonic()
        can_wait = all(slot.can_wait(now_s) for slot in ready)
        for _ in range(min(len(joining), _MOST_CHUNKS if can_wait else 1)):
            slot = next((s for s in joining if s.is_prefilling and self._holds(s)), None)
            if slot is None:
                return
            self._prefill(slot, has_waiting=bool(ready))

    def _holds(self, slot: Slot) -> bool:
        """Whether it has not failed, and its caller is there."""
        return self._slots[slot.index] is slot and not slot.request.cancelled

    def _prefill(self, slot: Slot, *, has_waiting: bool) -> None:
        """The prefix if it is kept, and one chunk of the prompt but its last token.

        That one the first step runs. Chunks start at fixed places, unless their bits do not depend
        on it: then a chunk is as long as streams that run can wait.
        """
        prompt = slot.request.prompt
        try:
            self._call_started_s = started_s = time.monotonic()
            if slot.length == 0 < slot.prefix_tokens:
                kept = self._prefixes.get(prompt[: slot.prefix_tokens])
                if kept is not None:
                    self._runner.restore(slot.index, kept)
                    slot.length = slot.prefix_tokens
            if slot.is_prefilling:
                end = slot.next_border(self._prefill_chunk_tokens)
                if self._runner.has_free_borders:
                    most = min(self._pace.tokens(has_waiting=has_waiting), end - slot.length)
                    end = slot.length + self._runner.chunk_tokens(most)
                self._runner.prefill(slot.index, prompt[slot.length : end], slot.length)
                self._pace.chunk_took(end - slot.length, time.monotonic() - started_s)
                slot.length = end
        except Exception as error:  # noqa: BLE001  # whatever it raises is this caller's
            self._fail(slot, error)
        finally:
            self._call_started_s = None

    def _step(self, ready: list[Slot]) -> None:
        """One token for each ready slot.

        A failing step is taken again slot by slot to find whose fault it is.
        """
        rows = [slot.request.draws.row() for slot in ready]
        try:
            choices = self._draw(ready, rows)
        except Exception as error:  # noqa: BLE001  # as above
            if len(ready) == 1:
                self._fail(ready[0], error)
                return
            choices = self._draw_apart(ready, rows)
        for slot, choice in zip(ready, choices, strict=True):
            if choice is not None:
                self._advance(slot, choice)

    def _draw_apart(self, ready: list[Slot], rows: list[DrawRow]) -> list[int | None]:
        """Each slot alone, exact since rows are independent; None where it failed again."""
        choices: list[int | None] = []
        for slot, row in zip(ready, rows, strict=True):
            try:
                choices += self._draw([slot], [row])
            except Exception as error:  # noqa: BLE001  # as above
                self._fail(slot, error)
                choices.append(None)
        return choices

    def _draw(self, ready: Sequence[Slot], rows: Sequence[DrawRow]) -> list[int]:
        """Run one token of each slot, draw the next. → choices; −1 where logits are not finite."""
        window = self._runner.window(ready[0].index, ready[-1].index)
        tokens, positions = [0] * len(window), [0] * len(window)
        for index in window:  # a slot that does not take part writes at its next free place
            slot = self._slots[index]
            positions[index - window.start] = slot.length if slot else 0
        places = [slot.index - window.start for slot in ready]
        for place, slot in zip(places, ready, strict=True):
            tokens[place] = slot.token
        self._call_started_s = started_s = time.monotonic()
        try:
            logits = self._runner.step(window, tokens, positions, max(s.length for s in ready))
            choices = self._sampler.draw(logits, rows, places)
            self._pace.step_took(time.monotonic() - started_s)
        finally:
            self._call_started_s = None
        return choices

    def _advance(self, slot: Slot, choice: int) -> None:
        """Take a drawn choice in; hand out a chunk when one is due; free the slot at the end."""
        request = slot.request
        if choice < 0:
            self._fail(slot, ArithmeticError("the logits are not finite"))
            return
        self._failures_in_a_row = 0
        if not slot.produced:
            self._keep_prefix(slot)
        slot.length += 1
        is_stop = choice == self._vocabulary.stop
        if not is_stop:
            slot.produced.append(choice)
            slot.token = self._vocabulary.model_id(choice)
            request.draws.accept(choice)
            with self._changed:
                self._tokens_generated_total += 1
        n_produced = len(slot.produced)
        last = is_stop or n_produced >= request.budget_tokens
        if (
            last
            or slot.is_due(self._chunk_tokens)
            or (slot.is_paused and whole_groups(n_produced) > slot.emitted_tokens)
        ):
            self._emit(slot, last=last)

    def _keep_prefix(self, slot: Slot) -> None:
        """Keep the prefix of a slot that drew its first token: its numbers proved finite."""
        n, prompt, voice = slot.prefix_tokens, slot.request.prompt, slot.request.voice
        if not n or not self._prefixes.wants(prompt[:n], n * self._runner.token_bytes, voice):
            return
        try:
            self._prefixes.put(prompt[:n], self._runner.saved(slot.index, n), voice)
        except torch.OutOfMemoryError as error:  # the stream itself is well
            logger.warning("no device memory left to keep a prefix", exc_info=error)

    def _emit(self, slot: Slot, *, last: bool) -> None:
        end = whole_groups(len(slot.produced))
        ids = np.array(slot.produced[slot.emitted_tokens : end], np.int32)
        slot.emitted_tokens = end
        if slot.begun_s is None:
            slot.begun_s = time.monotonic()
        if last:
            self._free(slot)
        self._send(slot.request, TokenChunk(ids, last, slot.work_s))

    def _fail(self, slot: Slot, error: Exception) -> None:
        logger.error("a language model call failed", exc_info=error)
        self._failures_in_a_row += 1
        self._health.saw(error)
        self._free(slot)
        failure = StageError("the language model failed", detail=f"{type(error).__name__}: {error}")
        failure.__cause__ = error
        self._send(slot.request, failure)
        self._runner.clear(slot.index)  # its numbers may not be finite, and masked keys must be

    def _free(self, slot: Slot) -> None:
        with self._changed:
            slot.request.finished = True
            self._slots[slot.index] = None

    def _send(self, request: EngineRequest, event: TokenChunk | TimbreError) -> None:
        try:
            request.loop.call_soon_threadsafe(request.events.put_nowait, event)
        except RuntimeError:  # the caller's event loop is closed: nobody is left to hear
            with self._changed:
                request.cancelled = True
