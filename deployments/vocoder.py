"""The vocoder replica: pulls tokens from the LLM and turns them into audio.

Holds a stream's whole state in one frame.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from ray.serve.handle import DeploymentHandle

from deployments.devices import claim_device
from deployments.remote import RemoteLM
from deployments.settings import Settings, VocoderSettings
from deployments.stage_metrics import StageLoad, Stamped, Transfers, stamped
from deployments.telemetry import StageGauge, adopt_serve_logging
from deployments.warm_up import decode_once, warm_up
from pipeline.contracts import SpeechRequest, VoicePrompt
from pipeline.stepaudio.layout import CheckpointLayout, resolve_model
from pipeline.synthesis import ChainedSpeaker, SpeechChunk

QUIET_SHARE = 0.25  # of max_streams


class VocoderReplica:
    """Speaks requests: prompt → LLM's tokens → audio.

    Loads and warms the decoder before it is ready.
    """

    def __init__(self, settings: Settings, llm: DeploymentHandle) -> None:
        from pipeline.prompting import CheckpointPrompts
        from pipeline.stepaudio.wave_decoder import StepWaveDecoder

        adopt_serve_logging()
        share = settings.vocoder
        claim_device(share, allow_tf32=True)
        layout = CheckpointLayout.at(resolve_model(settings.model))
        self._decoder = StepWaveDecoder(
            layout.vocoder,
            device=share.device,
            threads=share.threads,
            chunk_rows=share.chunk_rows,
            steps=share.steps,
            max_batch=share.together,
            prompt_memory_bytes=share.prompt_memory_mib * 2**20,
        )
        warm_up(decode_once(self._decoder))
        self._transfers = Transfers()
        lm = RemoteLM(llm, settings.llm.credit_tokens, settings.limits, self._transfers)
        self._speaker = ChainedSpeaker(CheckpointPrompts(layout.editx), lm, self._decoder)
        self._load = StageLoad("vocoder")
        self._admission = asyncio.Semaphore(share.max_streams)
        self._share = share
        self._queue_timeout_s = settings.llm.queue_timeout_s
        self._active = StageGauge(
            "timbre_vocoder_streams",
            "Audio streams open on this replica.",
            lambda: self._decoder.active_streams,
        )

    async def speak(
        self, request: SpeechRequest, sent: Stamped[VoicePrompt]
    ) -> AsyncGenerator[Stamped[SpeechChunk]]:
        """Speech in chunks. Raises CapacityError when no stream becomes free in time."""
        voice = self._transfers.received("router_vocoder", sent)
        try:
            async with self._load.turn(self._admission, self._queue_timeout_s):
                adapted = adapt_first_chunk(request, self._share, self._decoder.active_streams)
                async with aclosing(self._speaker.speak(adapted, voice)) as speech:
                    async for chunk in speech:
                        self._active.refresh()
                        yield stamped(chunk)
        finally:
            self._active.refresh()

    async def status(self) -> dict[str, Any]:
        """Gauges of this replica."""
        return {"streams_active": self._decoder.active_streams}


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
