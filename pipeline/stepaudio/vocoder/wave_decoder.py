# pyright: basic
"""The vocoder as a stage: audio tokens in, 24 kHz audio out, whole or streamed.

All model work runs on one worker thread per decoder; a stream's state is its `Decoding`'s alone.
What many streams may share is in `prompt_memory`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.contracts import AudioChunk, Float32Array, Stream, TokenChunk, VoicePrompt
from pipeline.errors import ConfigError
from pipeline.marks.marker import Marker
from pipeline.serving.listener import Listener
from pipeline.serving.tracing import UNTRACED, Trace
from pipeline.stepaudio.niceness import give_way
from pipeline.stepaudio.recording import CudaRecorder, Recorder
from pipeline.stepaudio.triton_kernels import has_kernels
from pipeline.stepaudio.vocoder.decode_worker import DecodeWorker, Job, Timed
from pipeline.stepaudio.vocoder.decoding import Decoding, guarded
from pipeline.stepaudio.vocoder.flow.flow import DEFAULT_SEED, DEFAULT_STEPS
from pipeline.stepaudio.vocoder.memory_plan import EncoderRoom, RecordRoom, VocoderMemory
from pipeline.stepaudio.vocoder.model import SILENCE, PromptTensors, VocoderModel
from pipeline.stepaudio.vocoder.prompt_memory import (
    OwnedMemory,
    PromptMemory,
    state_key,
    voice_key,
)
from pipeline.stepaudio.vocoder.schedule import CHUNK_ROWS, MIN_FIRST_ROWS, chunk_schedule
from pipeline.stepaudio.vocoder.slab import SlabPool
from pipeline.stepaudio.vocoder.stream import Utterance
from pipeline.stepaudio.vocoder.voice_state import (
    StateShelf,
    VoiceState,
    state_fingerprint,
)

RECENT_FRAMES = 96  # the estimator sees the prompt and the last 1.92 s before a chunk
RECORDED_ON = "cuda"  # where to launch a kernel takes longer than it runs
SLAB_BYTES = 2**27  # finished streams' caches are kept for the next ones up to this
SLAB_SHARE = 0.75  # on a device with a cap: of what streams may take, the rest is the encoder's


class StepWaveDecoder:
    """Implements `contracts.WaveDecoder` with flow and HiFT.

    vocoder_dir: holds cosyvoice.yaml, flow.pt and hift.pt.
    threads: of torch on the worker; None leaves them as they are.
    chunk_rows: rows of the first chunks; the last entry repeats.
    steps: Euler steps.
    seed: of flow and source noise, the same for every request: equal tokens and voice give equal
    bytes.
    recent_frames: how far back the estimator looks beyond the prompt; None keeps everything, and
    memory grows with the utterance.
    max_batch: chunks of different streams computed together, at most. Above 1 a stream's last bits
    depend on what runs beside it; 1 keeps the same request the same bytes.
    prompt_memory_bytes: what may be kept of voices between streams; 0 keeps nothing.
    device_bytes: the decoder's cap on its device, None where it has none.
    is_exact: run a voice's prompt with the answer behind it, and on a CPU in the plain form: the
    released code's arithmetic. Else the prompt is run on its own, so that its state can be kept.
    graphs: on CUDA, replay encoder, Euler steps and HiFT from recorded graphs, steps in float16.
    marks: what streams make is marked, see pipeline.marks.
    `memory` says what streams take of the device.
    Raises CheckpointError for files that do not fit, ConfigError for impossible settings, or for
    marks without their package.
    """

    def __init__(  # noqa: PLR0913 - settings, by keyword
        self,
        vocoder_dir: Path,
        device: str | torch.device = "cpu",
        *,
        threads: int | None = None,
        chunk_rows: Sequence[int] = CHUNK_ROWS,
        steps: int = DEFAULT_STEPS,
        seed: int = DEFAULT_SEED,
        recent_frames: int | None = RECENT_FRAMES,
        max_batch: int = 1,
        prompt_memory_bytes: int = 0,
        device_bytes: int | None = None,
        graphs: bool = True,
        is_exact: bool = False,
        marks: bool = False,
    ) -> None:
        if not chunk_rows or min(chunk_rows) < 1 or steps < 1 or (threads or 1) < 1:
            raise ConfigError(
                f"chunk_rows {list(chunk_rows)}, steps {steps} and threads {threads} "
                "must all be positive"
            )
        if recent_frames is not None and recent_frames < 0:
            raise ConfigError(f"recent_frames is {recent_frames}, must not be negative")
        if max_batch < 1 or prompt_memory_bytes < 0:
            raise ConfigError(
                f"max_batch is {max_batch}, must be positive; prompt_memory_bytes is "
                f"{prompt_memory_bytes}, must not be negative"
            )
        self._model = VocoderModel.load(
            Path(vocoder_dir), torch.device(device), steps, seed, is_exact=is_exact
        )
        vectors, where = torch.backends.cpu.get_cpu_capability(), str(self._model.device)
        self._makers = (torch.__version__, vectors, where, threads, steps, seed)
        self._vocoder_dir = Path(vocoder_dir)
        self._prompt_memory = PromptMemory(prompt_memory_bytes)
        self._marker = Marker.load(str(device)) if marks else None
        self._marker_bytes = 0 if self._marker is None else self._marker.weight_bytes
        self._chunk_rows = tuple(chunk_rows)
        self._recent_frames, self._max_batch = recent_frames, max_batch
        self._prompt_memory_bytes = prompt_memory_bytes
        is_recorded = graphs and self._model.device.type == RECORDED_ON
        is_recorded = is_recorded and recent_frames is not None and has_kernels(self._model.device)
        self.memory = self._planned(self._record_room() if is_recorded else None)
        if device_bytes is not None and device_bytes <= self.memory.shared_bytes:
            is_recorded = False  # no stream will fit: whoever reads `memory` can say so
        self._device_bytes = device_bytes
        self._slabs = self._new_slabs()
        if is_recorded:
            self.record_steps(CudaRecorder())
        self._streams: set[Decoding] = set()  # changes on the event loop only
        self._worker = DecodeWorker[Float32Array](
            _next_chunks, max_batch, partial(_begin_thread, threads, self._model.device)
        )
        if is_recorded:
            self._worker.submit(Job(partial(guarded, self._record_common))).result()

    def record_steps(self, record: Recorder) -> None:
        """From now on encoder, Euler steps and HiFT are replayed from records.

        No stream may be open. Look-back must be bounded: a past that grows without end has no slab
        to be read from. Raises ImportError without Triton.
        """
        room = self._record_room()
        self._model.record_steps(record, room)
        n_ahead = self._model.flow.lookahead_rows
        encoder_room = EncoderRoom.of(self._chunk_rows, n_ahead, self._max_batch)
        self._model.record_encoder(record, encoder_room)
        self._model.fuse_hift()
        frames = {n for chunks in self._common_chunks() for n in chunks}
        self._model.record_hift(record, frames, self._max_batch)
        self.memory = self._planned(room)
        self._slabs = self._new_slabs()

    def _new_slabs(self) -> SlabPool:
        free_bytes = SLAB_BYTES
        if self._device_bytes is not None:
            free_bytes = int(SLAB_SHARE * (self._device_bytes - self.memory.shared_bytes))
        return SlabPool(self.memory.slab, self._model.device, free_bytes)

    def _record_room(self) -> RecordRoom:
        per_row = self._model.config.encoder.up_stride
        return RecordRoom.of(per_row, self._chunk_rows, self._max_batch)

    def _planned(self, room: RecordRoom | None) -> VocoderMemory:
        return VocoderMemory.of(
            self._model.config,
            len(self._model.schedule.step_sizes),
            self._recent_frames,
            self._chunk_rows,
            max_batch=self._max_batch,
            kept_bytes=self._model.weight_bytes + self._prompt_memory_bytes + self._marker_bytes,
            room=room,
        )

    def _record_common(self) -> Float32Array:
        assert self._model.records is not None
        assert self._model.hift_records is not None
        usual, quick = self._common_chunks()
        self._model.records.record_common(sorted(set(usual)), self._max_batch)
        assert self._model.encoder_records is not None
        self._model.encoder_records.record_common(sorted(set(self._chunk_rows)), self._max_batch)
        self._model.hift_records.record_common(usual, self._max_batch)
        self._model.hift_records.record_common(quick, 1)
        return SILENCE

    def _common_chunks(self) -> tuple[list[int], list[int]]:
        """Frames of a stream's chunks: as scheduled, and with the smallest first one."""
        schedules = (self._chunk_rows, chunk_schedule(self._chunk_rows, MIN_FIRST_ROWS))
        per_row = self._model.config.encoder.up_stride
        usual, quick = ([rows * per_row for rows in schedule] for schedule in schedules)
        return usual, quick

    @property
    def state_fingerprint(self) -> str:
        """Hex digest of all but the voice that decides a state's bits: a kept one needs the same.

        Weights, configs and settings, and what adds up sums: torch, its threads, the CPU's vectors,
        whether in float16. Reads the flow's weights.
        """
        makers = (*self._makers, "float16") if self.is_half else self._makers
        return state_fingerprint(self._vocoder_dir, makers)

    @property
    def is_half(self) -> bool:
        """Whether the flow's estimator multiplies in float16: other bits than without."""
        return self._model.records is not None

    @property
    def active_streams(self) -> int:
        """Streams that hold state now."""
        return len(self._streams)

    @property
    def cache_bytes(self) -> int:
        """Bytes of estimator caches held now, those kept for the next streams included."""
        return self._slabs.held_bytes

    def tell_times(self, timed: Timed) -> None:
        """Have `timed` told what chunks take, on the worker's thread."""
        self._worker.timed = timed

    def check_health(self) -> None:
        """Raises StageError when worker or device is gone, or a model call hangs."""
        self._worker.check_health()

    def forget(self, owner: str) -> None:
        """Keep nothing of a voice for later streams. Safe from any thread."""
        self._prompt_memory.forget(owner)

    def close(self) -> None:
        """Stop the worker once its current job is done; what waits is dropped."""
        self._worker.close()

    def decode(self, ids: NDArray[np.integer], voice: VoicePrompt) -> Float32Array:
        """A whole utterance at once: audio tokens (5k,) → float32 (k * 2880,).

        Blocks: call it off the event loop.
        Raises StageError for broken tokens or a failing model, AudioError for an unusable voice.
        """
        return self.decode_batch([(ids, voice)])[0]

    def decode_batch(
        self, utterances: Sequence[tuple[NDArray[np.integer], VoicePrompt]]
    ) -> list[Float32Array]:
        """Whole utterances of any lengths at once; see `decode`.

        Equal to one at a time within rounding.
        """
        audio: list[Float32Array] = []

        def work() -> Float32Array:
            audio.extend(self._model.decode(utterances, self._state_of))
            return SILENCE

        self._worker.submit(Job(partial(guarded, work))).result()
        return audio

    def _state_of(self, voice: VoicePrompt, prompt: PromptTensors) -> VoiceState:
        """Runs on the worker. Kept under no owner: nobody could ask to forget it."""
        n_bytes = self._slabs.shape.kept_bytes(prompt.mel.shape[1])
        make = partial(self._model.voice_state, prompt)
        if not self._prompt_memory.may_keep(n_bytes):
            return make()
        return self._prompt_memory.get_or_make(state_key(voice_key(voice)), make)

    def stream(
        self,
        tokens: AsyncIterator[TokenChunk],
        voice: VoicePrompt,
        first_chunk_rows: int | None = None,
        owner: str = "",
        shelf: StateShelf | None = None,
        listener: Listener | None = None,
        *,
        is_marked: bool = True,
        trace: Trace = UNTRACED,
    ) -> Stream[AudioChunk]:
        """Audio as soon as its tokens are there; see `contracts.WaveDecoder`.

        owner: for `forget`. shelf: where the voice's state is looked for before it is made.
        listener: says when more is wanted, and hears what is handed out. is_marked: as the decoder
        marks streams; False leaves this one as it is made. trace: what the spans of flow, HiFT and
        mark lie below; on a GPU, the flow's end where its last kernel is launched.
        A chunk is cut when its rows and the lookahead after it are there, whether or not more
        follow: borders depend on token counts and `first_chunk_rows` alone. Errors of `tokens` pass
        through. Ends with `tokens` closed and no state left.
        Raises StageError for broken tokens or a failing model, AudioError for an unusable voice.
        """
        begin = partial(self._begun, voice, first_chunk_rows, owner, listener, is_marked, trace)
        return Decoding(self._worker, begin, tokens, shelf, self._streams)

    def _begun(
        self,
        voice: VoicePrompt,
        first_chunk_rows: int | None,
        owner: str,
        listener: Listener | None,
        is_marked: bool,
        trace: Trace,
    ) -> Utterance:
        schedule = chunk_schedule(self._chunk_rows, first_chunk_rows)
        shared = (self.memory, OwnedMemory(self._prompt_memory, owner), self._slabs)
        mark = self._marker.begin() if self._marker is not None and is_marked else None
        with self._worker.health.watching():
            utterance = Utterance(self._model, voice, schedule, *shared, listener, mark)
        utterance.trace = trace
        if self._model.records is None:  # else all steps are made in the same places
            utterance.give_way = self._worker.give_way
        return utterance


def _begin_thread(threads: int | None, device: torch.device) -> None:
    """Runs on the worker itself: OpenMP keeps its thread count per thread."""
    give_way(device)
    if threads is not None:
        torch.set_num_threads(threads)


def _next_chunks(members: Sequence[object]) -> list[Float32Array]:
    utterances = cast("Sequence[Utterance]", members)
    return guarded(lambda: Utterance.next_chunks(utterances))
