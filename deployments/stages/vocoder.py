"""The vocoder replica: pulls tokens from the LLM and turns them into audio.

Holds a stream's whole state in one frame.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from ray.serve.handle import DeploymentHandle

from deployments.admission.costs import ServiceCosts
from deployments.admission.demand import arrived, demand_of
from deployments.admission.gate import AdmissionGate, Permit, Places
from deployments.config.settings import Settings
from deployments.config.stage_settings import VocoderSettings
from deployments.config.stages import Kind
from deployments.liveness.signs import with_signs
from deployments.marks.search import MarkSearch
from deployments.scaling.policy import Work
from deployments.scaling.replica import ScaledReplica
from deployments.speech.on_the_way import sent_in_steps
from deployments.stages.clients import RemoteLM
from deployments.stages.limits import GIB, apply_device_limits, cap_bytes
from deployments.stages.vocoder_states import OwnedDecoder, StateLibrary
from deployments.stages.warm_up import decode_once, warm_up
from deployments.telemetry.admission import AdmissionGauges, RefusalCounts
from deployments.telemetry.gauges import StageGauge
from deployments.telemetry.load import StageLoad
from deployments.telemetry.logs import adopt_serve_logging
from deployments.telemetry.metrics import VOCODER_BYTES, VOCODER_STREAMS
from deployments.telemetry.tracing.tracer import Tracer
from deployments.telemetry.transfers import Hop, Stamped, Transfers, stamped
from pipeline.chain import SpeechChain
from pipeline.contracts import (
    GROUP_S,
    Int16Array,
    SpeechChunk,
    SpeechRequest,
    VocoderName,
    VoicePrompt,
)
from pipeline.errors import ConfigError, TooLargeError
from pipeline.marks.finding import Finding
from pipeline.serving.clip_names import clip_name
from pipeline.serving.tracing import UNTRACED
from pipeline.stepaudio.fingerprints import vocoder_fingerprint
from pipeline.stepaudio.layout import CheckpointLayout, resolve_model
from pipeline.stepaudio.tokens import GROUP_ROWS
from pipeline.stepaudio.vocoder.memory_plan import VocoderMemory
from pipeline.stepaudio.vocoder.schedule import chunk_schedule

QUIET_SHARE = 0.25  # of max_streams
CHANGE_SAMPLES = {"device", "chunk_rows", "steps", "prompt"}  # settings, beside `together`


class VocoderReplica(ScaledReplica):
    """Speaks requests: prompt → LLM's tokens → audio.

    Loads and warms the decoder before it is ready.
    """

    def __init__(self, settings: Settings, llms: Mapping[str, DeploymentHandle]) -> None:
        from pipeline.marks.marker import VERSION
        from pipeline.prompting import CheckpointPrompts
        from pipeline.stepaudio.vocoder.wave_decoder import StepWaveDecoder

        adopt_serve_logging()
        self._tracer = Tracer.of(settings.telemetry, "vocoder")
        stage = settings.vocoder
        apply_device_limits(stage, allow_tf32=True)
        layout = CheckpointLayout.at(resolve_model(settings.model))
        self._decoder = StepWaveDecoder(
            layout.vocoder,
            device=stage.device,
            threads=stage.threads,
            chunk_rows=stage.chunk_rows,
            steps=stage.steps,
            max_batch=stage.together,
            prompt_memory_bytes=stage.prompt_memory_mib * 2**20,
            device_bytes=cap_bytes(stage),
            graphs=stage.half,
            is_exact=stage.prompt == "exact",
            marks=settings.marks.enabled,
        )
        self._usual_tenant = settings.cache.namespace
        self._states = StateLibrary(settings.cache, self._decoder.state_fingerprint)
        memory = self._decoder.memory
        budget_bytes = stream_budget_bytes(stage, memory, settings.limits.max_clip_s)
        costs = self._costs = ServiceCosts()
        self._decoder.tell_times(costs.decoded)
        n_rows = stage.quiet_first_rows + sum(stage.chunk_rows) + GROUP_ROWS  # and lookahead
        warm_up(decode_once(self._decoder, n_rows, (None, stage.quiet_first_rows)))
        costs.begin()
        self._transfers = Transfers()
        self._prompts = CheckpointPrompts(layout.editx)
        how = {**stage.model_dump(include=CHANGE_SAMPLES), "together": stage.together}
        if settings.marks.enabled:
            how["mark"] = VERSION
        if self._decoder.is_half:
            how["half"] = True
        fingerprint = vocoder_fingerprint(layout, how)
        self._name = VocoderName(fingerprint, self._prompts.front_end)
        self._lms = {
            variant: RemoteLM(llm, settings.limits, self._transfers)
            for variant, llm in llms.items()
        }
        self._marks = MarkSearch(settings.marks)
        self._load = StageLoad(Kind.VOCODER)
        places = Places(stage.max_streams, budget_bytes, stage.queue_size)
        self._admission = AdmissionGate(settings.admission, places, costs, RefusalCounts())
        self._promises = AdmissionGauges(self._admission)
        self._budget_bytes = budget_bytes or 0
        self._stage = stage
        self._n_behind = 0  # streams that step aside
        self._queue_timeout_s = settings.llm.queue_timeout_s
        self._active = StageGauge(VOCODER_STREAMS, lambda: self._decoder.active_streams)
        self._cached = StageGauge(VOCODER_BYTES, lambda: self._decoder.cache_bytes)
        self.begin_telling("vocoder", settings.scaling.vocoder, settings.memory)

    async def speak(
        self, request: SpeechRequest, sent: Stamped[VoicePrompt]
    ) -> AsyncGenerator[Stamped[SpeechChunk]]:
        """Speech in chunks.

        Raises CapacityError at once for what could not be served in time, or later when no place,
        or not enough memory, becomes free, and TooLargeError for a stream that there is never
        enough memory for.
        """
        voice = self._transfers.received(Hop.ROUTER_VOCODER, sent)
        request = arrived(request)
        permit = permit_for(request, voice, self._decoder.memory, self._admission, self._stage)
        n_behind = 0
        trace = self._tracer.followed(request.terms.trace).began("vocoder")
        waiting = trace.began("queue", stage="vocoder")
        try:
            async with self._load.admitted(permit, self._queue_timeout_s):
                waiting.ended()
                n_behind = int(request.is_behind)
                self._n_behind += n_behind
                adapted = adapt_first_chunk(request, self._stage, self._decoder.active_streams)
                clip = clip_name(voice.clip_digest, request.terms.tenant, self._usual_tenant)
                due_s = permit.asked.llm_due_s
                lm = self._lms[request.variant]
                lm = lm.of(clip, is_behind=request.is_behind, due_s=due_s, trace=trace)
                shelf = self._states.shelf(voice, clip)
                is_marked = request.terms.is_marked
                decoder = OwnedDecoder(
                    self._decoder, clip, shelf, permit.listener, is_marked, trace
                )
                synthesizer = SpeechChain(self._prompts, lm, decoder, trace)
                async with aclosing(synthesizer.speak(adapted, voice)) as speech:
                    async for chunk in speech:
                        self._learn(chunk, permit)
                        self._publish()
                        if chunk.last:
                            trace.ended()
                            trace = UNTRACED
                        yield stamped(sent_in_steps(self._signed(chunk)))
        finally:
            trace.ended(sys.exception())
            self._n_behind -= n_behind
            self._publish()

    speak_aloud = with_signs(speak)

    def _publish(self) -> None:
        for gauge in (self._active, self._cached, self._promises):
            gauge.publish()

    def _learn(self, chunk: SpeechChunk, permit: Permit) -> None:
        """What the language model takes; of batches, which stand back in it, nothing."""
        if permit.asked.is_batch or not chunk.usage.output_tokens:
            return
        if permit.listener.pieces == 1 and not chunk.last:
            self._costs.led_in(chunk.times.llm_s)
        self._costs.drew(chunk.usage.output_tokens, chunk.times.llm_work_s)

    async def name(self) -> VocoderName:
        """What it is, for keys of speech."""
        return self._name

    async def find_mark(self, samples: Int16Array) -> Finding:
        """See deployments.marks.search.MarkFinder."""
        return await self._marks.find(samples)

    def _signed(self, chunk: SpeechChunk) -> SpeechChunk:
        drawn = chunk.drawn
        if drawn is None:
            return chunk
        made_by = drawn.made_by | {self._name.fingerprint}
        return replace(chunk, drawn=replace(drawn, made_by=made_by))

    @property
    def in_work(self) -> int:
        """Streams that are spoken or wait."""
        return self._load.running + self._load.waiting

    def work(self) -> Work:
        """See ScaledReplica."""
        busy = self._load.look()
        return Work(
            busy.running,
            self._stage.max_streams,
            busy.queue_age_s,
            busy.refused,
            self._admission.used_bytes if self._budget_bytes else 0,
            self._budget_bytes,
        )

    def check_parts(self) -> None:
        """Raises StageError when the decoder's worker or device is gone."""
        self._decoder.check_health()

    async def forget(self, clip_digest: str) -> None:
        """Called on every replica when a clip is removed; a tenant's by its name."""
        self._decoder.forget(clip_digest)
        await self._states.records.forget(clip_digest)

    async def status(self) -> dict[str, Any]:
        """Gauges of this replica."""
        return {
            "streams_active": self._decoder.active_streams,
            "streams_behind": self._n_behind,
            "waiting": self._load.waiting,
            "queue_age_s": self._admission.queue_age_s,
            "capacity": self._admission.capacity,
            "reserved": self._admission.reserved,
            "cache_bytes": self._decoder.cache_bytes,
            "admitted_bytes": self._admission.used_bytes,
            "states_found_total": self._states.records.found_total,
            "states_missed_total": self._states.records.missed_total,
        }


def permit_for(
    request: SpeechRequest,
    voice: VoicePrompt,
    memory: VocoderMemory,
    admission: AdmissionGate,
    stage: VocoderSettings,
) -> Permit:
    """A place for a request's stream.

    Raises TooLargeError for one that never fits; `param` is the first chunk where that is why.
    """
    prompt_rows = voice.n_groups * GROUP_ROWS
    size_bytes = memory.stream_bytes(prompt_rows, request.first_chunk_rows)
    chunk_rows = chunk_schedule(stage.chunk_rows, request.first_chunk_rows)
    try:
        return admission.permit(request.terms, demand_of(request, voice, size_bytes, chunk_rows))
    except TooLargeError as error:
        if admission.can_hold(memory.stream_bytes(prompt_rows)):
            raise error.about("initial_codec_chunk_frames") from error
        raise


def stream_budget_bytes(
    stage: VocoderSettings, memory: VocoderMemory, max_clip_s: float
) -> int | None:
    """What the streams of a replica may take together; None on a CPU, which has no cap.

    Raises ConfigError when the cap cannot hold one stream in the voice of the longest clip.
    """
    device_bytes = cap_bytes(stage)
    if device_bytes is None:
        return None
    budget_bytes = device_bytes - memory.shared_bytes
    longest_bytes = memory.stream_bytes(int(max_clip_s / GROUP_S) * GROUP_ROWS)
    if longest_bytes > budget_bytes:
        raise ConfigError(
            f"vocoder.gpu_memory_gib is {device_bytes / GIB:g}: {memory.shared_bytes / GIB:.1f} "
            f"go to weights, kept prompts and workspace, and a stream in the voice of a "
            f"{max_clip_s:g} s clip takes {longest_bytes / GIB:.1f}; raise it or lower "
            "limits.max_clip_s, vocoder.prompt_memory_mib or vocoder.max_batch"
        )
    return budget_bytes


def adapt_first_chunk(
    request: SpeechRequest, settings: VocoderSettings, active_streams: int
) -> SpeechRequest:
    """`request` with a smaller first chunk while the replica has little to do.

    Only where the caller may not compare replies: otherwise borders, and with them the last bits,
    would depend on load.
    """
    if not request.is_adaptive or active_streams > settings.max_streams * QUIET_SHARE:
        return request
    return replace(request, first_chunk_rows=settings.quiet_first_rows)
