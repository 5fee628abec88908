# pyright: basic
"""One stream of the vocoder: waiting rows, caches of flow and HiFT, and the next work to do.

Methods that compute are called on the decoder's worker thread.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.contracts import OUTPUT_SAMPLE_RATE_HZ, Float32Array, VoicePrompt
from pipeline.marks.marker import StreamMark
from pipeline.serving.listener import Listener
from pipeline.serving.tracing import UNTRACED, now_ns
from pipeline.stepaudio.vocoder.decode_worker import Job
from pipeline.stepaudio.vocoder.flow.batch import StreamChunk, inference_chunks
from pipeline.stepaudio.vocoder.flow.flow import FlowCache, StepCaches
from pipeline.stepaudio.vocoder.hift.stream import HiftState, decode_chunk
from pipeline.stepaudio.vocoder.hift_records import HiftRecords
from pipeline.stepaudio.vocoder.memory_plan import VocoderMemory
from pipeline.stepaudio.vocoder.model import SILENCE, VocoderModel, to_audio
from pipeline.stepaudio.vocoder.prompt_memory import OwnedMemory, state_key, voice_key
from pipeline.stepaudio.vocoder.slab import SlabPool, copied_into, detached, empty_caches, gathered
from pipeline.stepaudio.vocoder.voice_state import StateArrays, VoiceState, rounded


class _StoppedError(Exception):
    """The stream's consumer is gone; unwinds the worker between two Euler steps."""


class Utterance:
    """One stream's state: rows that wait, caches of flow and HiFT.

    give_way: called between the steps of a chunk, does what is more urgent; None where they cannot
    be left. Methods that compute run on the worker.
    """

    def __init__(
        self,
        model: VocoderModel,
        voice: VoicePrompt,
        chunk_rows: tuple[int, ...],
        plan: VocoderMemory,
        memory: OwnedMemory,
        slabs: SlabPool,
        listener: Listener | None = None,
        mark: StreamMark | None = None,
    ) -> None:
        """listener: says when more is wanted; None for one who plays what comes.

        mark: what its audio is marked with, if it is.
        """
        self.stopped = threading.Event()
        self.trace = UNTRACED
        self.give_way: Callable[[], bool] | None = None
        self._listener = listener or Listener(time.monotonic())
        self._model = model
        self._mark = mark
        self._memory = memory
        self._slabs = slabs
        self._slab: Tensor | None = None
        self._voice_key = voice_key(voice)
        self._prompt = memory.get_or_make(self._voice_key, lambda: model.prompt_tensors(voice))
        self._chunk_rows = list(chunk_rows)
        self._recent_frames = plan.recent_frames
        self._slab_frames = plan.slab_frames(self._prompt.rows.shape[1], chunk_rows)
        self._waiting = self._prompt.rows[:, :0]
        self._is_prepared = False
        self._state: VoiceState | None = None
        self._flow_cache: FlowCache | None = None
        self._hift_state: HiftState | None = None

    @property
    def wanted_s(self) -> float:
        """Monotonic clock, when more is wanted of it."""
        return self._listener.wanted_s(time.monotonic())

    @property
    def n_waiting_rows(self) -> int:
        """Rows that are no sound yet."""
        return self._waiting.shape[1]

    def heard(self, samples: Float32Array) -> None:
        """`samples` are handed out now."""
        self._listener.heard(len(samples) / OUTPUT_SAMPLE_RATE_HZ, time.monotonic())

    def add(self, ids: NDArray[np.integer]) -> None:
        """Queue audio tokens of whole groups."""
        self._waiting = torch.cat((self._waiting, self._model.rows(ids)), dim=1)

    def early_work(self) -> Job[Float32Array] | None:
        """What can be computed before there is any row: the prompt, where it is run on its own."""
        return None if self._model.is_exact else Job(self._prepare)

    @property
    def needs_state(self) -> bool:
        """Whether the voice has a state that would be kept, and is not yet."""
        n_frames = self._prompt.mel.shape[1]
        return (
            not self._model.is_exact
            and n_frames > 0
            and self._memory.may_keep(self._slabs.shape.kept_bytes(n_frames))
            and state_key(self._voice_key) not in self._memory
        )

    def give_state(self, arrays: StateArrays) -> Job[Float32Array]:
        """The voice's state as it was kept elsewhere. What is no such state is made anew."""

        def work() -> Float32Array:
            model, n_frames = self._model, self._prompt.mel.shape[1]
            state = model.state_shape.state(arrays, n_frames, model.device)
            if state is not None:
                self._memory.get_or_make(state_key(self._voice_key), lambda: state)
            return SILENCE

        return Job(work)

    def kept_state(self) -> StateArrays | None:
        """The voice's state, if this process keeps it; `early_work` is done."""
        if self._state is None or state_key(self._voice_key) not in self._memory:
            return None
        return StateArrays.of(self._state)

    @property
    def has_work(self) -> bool:
        """Whether the rows that wait are enough for `next_work`."""
        n_rows = 0 if self._wants_prompt else self._chunk_rows[0]
        return self.n_waiting_rows >= n_rows + self._model.flow.lookahead_rows

    @property
    def _wants_prompt(self) -> bool:
        return self._model.is_exact and not self._is_prepared

    def next_work(self) -> Job[Float32Array]:
        """What can be computed with the rows that wait, once `early_work` is done."""
        if self._wants_prompt:
            return Job(self._prepare)
        kind = None if self._flow_cache is None else self._chunk_rows[0]
        return Job(self._next_chunk, kind, self, rows=self._chunk_rows[0])

    def finish(self) -> Float32Array:
        """Everything that is left; empty when no token ever came."""
        if not self._waiting.shape[1]:
            return SILENCE
        if not self._is_prepared:
            self._prepare()
        return self._decode(self._waiting, None)

    def release(self) -> None:
        """Give the slab back; the stream is over and the worker has let go of it."""
        self._flow_cache = self._state = None
        if self._slab is not None:
            self._slabs.give(self._slab)
            self._slab = None

    def _prepare(self) -> Float32Array:
        """Run the prompt through the flow; makes no sound.

        A voice without whole token groups has nothing to run.
        """
        if self._prompt.rows.shape[1]:
            exact, began_ns = self._model.is_exact, now_ns()
            self._flow_cache = self._answered_cache() if exact else self._own_cache()
            self.trace.noted("voice state", began_ns)
        self._is_prepared = True
        return SILENCE

    def _own_cache(self) -> FlowCache:
        """The flow's caches behind the prompt alone: what is kept of this voice, else made."""
        self._on_step()
        if self._recent_frames is not None:
            self._slab = self._slabs.take(self._slab_frames)
        n_frames = self._prompt.mel.shape[1]
        model, prompt_tensors, shape = self._model, self._prompt, self._slabs.shape
        if self._memory.may_keep(shape.kept_bytes(n_frames)):
            key = state_key(self._voice_key)
            make = partial(model.voice_state, prompt_tensors, self._on_step)
            self._state = self._memory.get_or_make(key, make)
            return self._state.placed(self._slab)
        slab = model.new_slab(n_frames) if self._slab is None else self._slab
        return rounded(model.prompt_cache(prompt_tensors, slab, self._on_step))

    def _answered_cache(self) -> FlowCache:
        """The flow's first caches, with the answer's first rows seen by the prompt's last ones.

        A copy of what is kept of this voice and these rows, else made in place.
        """
        ahead = self._waiting[:, : self._model.flow.lookahead_rows]
        if self._recent_frames is None:  # it grows without end: no slab holds it
            return self._set_up(ahead, None)
        self._slab = self._slabs.take(self._slab_frames)
        prompt_bytes = self._prompt.mel.shape[1] * self._slabs.shape.frame_bytes
        empty = empty_caches(self._slab, self._model.config.estimator.hidden_size)
        if not self._memory.may_keep(prompt_bytes):
            return self._set_up(ahead, empty)
        key = (self._voice_key, ahead.cpu().numpy().tobytes())
        into = None if self._model.records is None else empty  # they know caches in slabs alone
        kept = self._memory.get_or_make(key, lambda: detached(self._set_up(ahead, into)))
        return copied_into(self._slab, kept)

    def _set_up(self, ahead: Tensor, into: StepCaches | None) -> FlowCache:
        prompt_tensors, model = self._prompt, self._model
        cache = model.flow.setup_cache(
            prompt_tensors.rows,
            ahead,
            prompt_tensors.mel,
            prompt_tensors.embedding,
            model.schedule,
            self._on_step,
            into,
        )
        return self._recordable(cache)

    def _recordable(self, cache: FlowCache) -> FlowCache:
        """Also after a pass too large to be recorded, what follows it is."""
        return cache if self._model.records is None else gathered(self._slab, cache)

    def _next_chunk(self) -> Float32Array:
        return self._decode(*self._cut())

    def _cut(self) -> tuple[Tensor, Tensor]:
        """The next chunk's rows, which wait no longer, and those ahead of it, which do."""
        n_rows = self._chunk_rows.pop(0) if len(self._chunk_rows) > 1 else self._chunk_rows[0]
        rows, self._waiting = self._waiting[:, :n_rows], self._waiting[:, n_rows:]
        return rows, self._waiting[:, : self._model.flow.lookahead_rows]

    @staticmethod
    def next_chunks(utterances: Sequence[Utterance]) -> list[Float32Array]:
        """`_next_chunk` of several streams that are past their prompts and at equal sizes.

        Work on a stream whose consumer left goes on until every consumer has.
        """
        first = utterances[0]
        chunks = [u._chunk() for u in utterances]

        def on_step() -> None:
            if all(u.stopped.is_set() for u in utterances):
                raise _StoppedError
            first._let_others()

        began_ns = now_ns()
        results = inference_chunks(
            first._model.flow, chunks, first._model.schedule, first._recent_frames, on_step
        )
        for utterance in utterances:
            utterance.trace.noted("flow", began_ns, together=len(utterances))
        records = first._model.hift_records
        if records is not None and records.takes(results[0][0], last=False):
            return _replayed(records, utterances, results)
        pairs = zip(utterances, results, strict=True)
        return [u._emit(mel, cache, last=False) for u, (mel, cache) in pairs]

    def _chunk(self) -> StreamChunk:
        assert self._flow_cache is not None, "streams share a batch only after their prompts"
        return StreamChunk(*self._cut(), self._prompt.embedding, self._flow_cache)

    def _decode(self, rows: Tensor, ahead: Tensor | None) -> Float32Array:
        model, began_ns = self._model, now_ns()
        mel, cache = model.flow.inference_chunk(
            rows,
            ahead,
            self._prompt.embedding,
            self._flow_cache,
            model.schedule,
            self._recent_frames,
            self._on_chunk_step,
        )
        self.trace.noted("flow", began_ns, rows=rows.shape[1])
        self._on_step()
        return self._emit(mel, cache, last=ahead is None)

    def _emit(self, mel: Tensor, cache: FlowCache, *, last: bool) -> Float32Array:
        """The chunk's mel as sound; keeps what the next chunk needs."""
        records = self._model.hift_records
        if records is not None and records.takes(mel, last=last):
            return _replayed(records, [self], [(mel, cache)], last=last)[0]
        began_ns = now_ns()
        samples, state = decode_chunk(
            self._model.hift, mel, self._state_before(mel), self._model.seed, last=last
        )
        self._go_on(cache, state)
        audio = to_audio(samples)
        self.trace.noted("hift", began_ns)
        return self._marked(audio)

    def _marked(self, samples: Float32Array) -> Float32Array:
        """As it leaves. On the worker, at once: it is final, and a queue would make it wait."""
        if self._mark is None:
            return samples
        began_ns = now_ns()
        marked = self._mark.process(samples)
        self.trace.noted("mark", began_ns)
        return marked

    def _state_before(self, mel: Tensor) -> HiftState:
        return self._hift_state or HiftState.start(mel)

    def _go_on(self, cache: FlowCache, state: HiftState) -> None:
        self._flow_cache, self._hift_state = self._recordable(cache), state

    def _on_step(self) -> None:
        if self.stopped.is_set():
            raise _StoppedError

    def _on_chunk_step(self) -> None:
        self._on_step()
        self._let_others()

    def _let_others(self) -> None:
        began_ns = now_ns()
        if self.give_way is not None and self.give_way():
            self.trace.waited("turn", began_ns)


def _replayed(
    records: HiftRecords,
    utterances: Sequence[Utterance],
    results: Sequence[tuple[Tensor, FlowCache]],
    *,
    last: bool = False,
) -> list[Float32Array]:
    """`Utterance._emit` of several streams in one replay."""
    mels = [mel for mel, _ in results]
    states = [u._state_before(mel) for u, mel in zip(utterances, mels, strict=True)]
    began_ns = now_ns()
    heard = records(mels, states, last=last)
    for utterance, (_, cache), (_, state) in zip(utterances, results, heard, strict=True):
        utterance._go_on(cache, state)
    pairs = zip(utterances, heard, strict=True)
    sounds = [(utterance, to_audio(samples)) for utterance, (samples, _) in pairs]
    for utterance in utterances:
        utterance.trace.noted("hift", began_ns, together=len(utterances))
    return [utterance._marked(samples) for utterance, samples in sounds]
