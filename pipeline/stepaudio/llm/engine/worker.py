# pyright: basic
"""The one thread that owns the model: it prefills bounded chunks, steps every slot, hands out.

A request joins and leaves between steps; a call that fails is its own request's failure.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence

import numpy as np
import torch

from pipeline.contracts import TokenChunk
from pipeline.errors import StageError, StageUnavailableError
from pipeline.stepaudio.health import StageHealth
from pipeline.stepaudio.llm.engine.pace import PrefillPace
from pipeline.stepaudio.llm.engine.prefix import PrefixCache
from pipeline.stepaudio.llm.engine.scheduler import Scheduler, Work
from pipeline.stepaudio.llm.engine.slot import Slot, whole_groups
from pipeline.stepaudio.llm.runner import Step1Runner
from pipeline.stepaudio.llm.sampling import AudioVocabulary, DrawRow, Sampler
from pipeline.stepaudio.niceness import give_way

logger = logging.getLogger(__name__)

_MAX_FAILURES = 3  # failed model calls in a row before the engine calls itself unhealthy
_MOST_CHUNKS = 8  # of prefill between two steps
_MAX_CALL_S = 60.0  # a model call longer than this is a hang
_JOIN_S = 10.0  # wait for the thread at close


class EngineWorker:
    """Runs what the scheduler gives it, until that is closed."""

    def __init__(  # the engine's parts
        self,
        scheduler: Scheduler,
        runner: Step1Runner,
        sampler: Sampler,
        vocabulary: AudioVocabulary,
        prefixes: PrefixCache,
        prefill_chunk_tokens: int,
        chunk_tokens: int,
    ) -> None:
        """prefill_chunk_tokens, chunk_tokens: see Engine. Starts the thread."""
        self._scheduler, self._runner, self._sampler = scheduler, runner, sampler
        self._vocabulary, self._prefixes = vocabulary, prefixes
        self._prefill_chunk_tokens, self._chunk_tokens = prefill_chunk_tokens, chunk_tokens
        self._pace = PrefillPace(prefill_chunk_tokens)
        self._health = StageHealth("language model")
        self._failures_in_a_row = 0
        self._call_started_s: float | None = None
        self._thread = threading.Thread(target=self._work, name="llm-engine", daemon=True)
        self._thread.start()

    def check_health(self) -> None:
        """Raises StageError when thread or device is gone, a model call hangs or keeps failing."""
        self._health.check()
        started = self._call_started_s
        if self._scheduler.is_closed or not self._thread.is_alive():
            raise StageUnavailableError("the language model's worker is not running")
        if started is not None and time.monotonic() - started > _MAX_CALL_S:
            raise StageError(f"the language model has not finished a step for {_MAX_CALL_S:.0f} s")
        if self._failures_in_a_row >= _MAX_FAILURES:
            raise StageError(f"the language model failed {self._failures_in_a_row} times in a row")

    def join(self) -> None:
        """Wait for the thread, which ends when the scheduler is closed."""
        self._thread.join(_JOIN_S)

    def _work(self) -> None:
        reason = "the language model was shut down"
        give_way(self._runner.device)
        try:
            while (work := self._scheduler.next_work()) is not None:
                self._join(work)
                self._step(work.ready)
        except Exception:  # nobody else would see it, and every caller would hang
            logger.exception("the language model's worker died")
            reason = "the language model's worker died"
        self._scheduler.end(StageUnavailableError(reason))

    def _join(self, work: Work) -> None:
        """A chunk of prefill, of the oldest; as many as there are slots that join, if all can wait.

        Else the last of a crowd would wait for a step behind each chunk of those before it.
        """
        now_s = time.monotonic()
        can_wait = all(slot.can_wait(now_s) for slot in work.ready)
        for _ in range(min(len(work.joining), _MOST_CHUNKS if can_wait else 1)):
            left = [s for s in work.joining if s.is_prefilling and self._scheduler.holds(s)]
            if not left:
                return
            self._prefill(left[0], has_waiting=bool(work.ready))

    def _prefill(self, slot: Slot, *, has_waiting: bool) -> None:
        """The prefix if it is kept, and one chunk of the prompt but its last token.

        That one the first step runs. Chunks start at fixed places, unless their bits do not depend
        on it: then a chunk is as long as streams that run can wait.
        """
        prompt = slot.request.prompt
        try:
            self._call_started_s = started_s = time.monotonic()
            if slot.length == 0 < slot.prefix_tokens:
                kept = self._prefixes.get(prompt[: slot.prefix_tokens], slot.request.voice)
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
        if not ready:
            return
        rows = [slot.request.draws.row() for slot in ready]
        try:
            choices = self._draw(ready, rows)
        except Exception as error:  # noqa: BLE001  # as above
            if len(ready) == 1:
                self._fail(ready[0], error)
                return
            choices = self._draw_apart(ready, rows)
        stop = self._vocabulary.stop
        self._scheduler.count(sum(c is not None and 0 <= c != stop for c in choices))
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
        """Run one token of each slot, draw the next. → choices; −1 where logits are not finite.

        A slot of the window that does not take part writes at its next free place.
        """
        window = self._runner.window(ready[0].index, ready[-1].index)
        tokens, positions = [0] * len(window), self._scheduler.lengths(window)
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
        last = is_stop or len(slot.produced) >= request.budget_tokens
        if last or slot.is_due(self._chunk_tokens):
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
            self._scheduler.free(slot)
        self._scheduler.send(slot.request, TokenChunk(ids, last, slot.work_s))

    def _fail(self, slot: Slot, error: Exception) -> None:
        logger.error("a language model call failed", exc_info=error)
        self._failures_in_a_row += 1
        self._health.saw(error)
        self._scheduler.free(slot)
        failure = StageError("the language model failed", detail=f"{type(error).__name__}: {error}")
        failure.__cause__ = error
        self._scheduler.send(slot.request, failure)
        self._runner.clear(slot.index)  # its numbers may not be finite, and masked keys must be
