"""The LLM replica: hosts the engine and the credit windows of its streams. Knows no audio."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import asdict
from typing import Any

from deployments.devices import claim_device
from deployments.settings import Settings
from deployments.telemetry import StageGauge, adopt_serve_logging
from pipeline.contracts import Int32Array, Sampling, TokenChunk
from pipeline.stepaudio.engine import TokenCredit, load_engine
from pipeline.stepaudio.layout import CheckpointLayout, resolve_model


class LLMReplica:
    """Draws audio tokens, continuous batching inside.

    Loads and warms the model before it is ready.
    """

    def __init__(self, settings: Settings) -> None:
        adopt_serve_logging()
        share = settings.llm
        claim_device(share, allow_tf32=True)
        layout = CheckpointLayout.at(resolve_model(settings.model))
        self._engine = load_engine(layout, share)
        self._credits: dict[str, TokenCredit] = {}
        self._active = StageGauge(
            "timbre_llm_streams", "Token streams open on this replica.", lambda: len(self._credits)
        )

    async def stream(
        self, prompt_ids: Int32Array, sampling: Sampling, stream_id: str, credit_tokens: int
    ) -> AsyncGenerator[TokenChunk]:
        """Token chunks; pauses `credit_tokens` ahead of what `grant` last allowed."""
        credit = TokenCredit(credit_tokens)
        self._credits[stream_id] = credit
        self._active.refresh()
        try:
            async with aclosing(self._engine.stream(prompt_ids, sampling, credit)) as chunks:
                async for chunk in chunks:
                    yield chunk
        finally:
            del self._credits[stream_id]
            self._active.refresh()

    async def grant(self, stream_id: str, total_tokens: int) -> bool:
        """Allow a stream to produce up to `total_tokens` in all.

        False when it does not run here.
        """
        credit = self._credits.get(stream_id)
        if credit is None:
            return False
        credit.grant(total_tokens)
        return True

    async def status(self) -> dict[str, Any]:
        """Gauges of this replica."""
        return asdict(self._engine.gauges())

    def check_health(self) -> None:
        """Called by Serve; an engine whose worker died makes the replica unhealthy."""
        self._engine.check_health()
