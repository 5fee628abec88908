"""The LLM replica: hosts the engine and the leases of its streams. Knows no audio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable
from contextlib import aclosing
from dataclasses import asdict
from typing import Any

from deployments.devices import claim_device
from deployments.settings import Settings
from deployments.stage_metrics import StageLoad, Stamped, stamped
from deployments.telemetry import StageGauge, adopt_serve_logging
from deployments.warm_up import draw_once, warm_up
from pipeline.contracts import Int32Array, Sampling, TokenChunk
from pipeline.errors import StageTimeoutError
from pipeline.stepaudio.credit import TokenCredit
from pipeline.stepaudio.layout import CheckpointLayout, resolve_model

LEASE_S = 10.0  # without a grant for so long, the consumer is dead: Ray tells no stream of it


class _Lease:
    """A stream's credit, and how long its consumer counts as alive."""

    def __init__(self, credit: TokenCredit) -> None:
        self.credit = credit
        self._deadline_s = asyncio.get_running_loop().time() + LEASE_S
        self._waiting: asyncio.Timeout | None = None

    def renew(self) -> None:
        """The consumer gave a sign of life."""
        self._deadline_s = asyncio.get_running_loop().time() + LEASE_S
        if self._waiting is not None:
            self._waiting.reschedule(self._deadline_s)

    async def hold(self, chunk: Awaitable[TokenChunk]) -> TokenChunk:
        """Wait for a chunk while the lease holds. Raises StageTimeoutError when it ends."""
        try:
            async with asyncio.timeout_at(self._deadline_s) as self._waiting:
                return await chunk
        except TimeoutError as error:
            raise StageTimeoutError("the consumer of a token stream went away") from error
        finally:
            self._waiting = None


class LLMReplica:
    """Draws audio tokens, continuous batching inside.

    Loads and warms the model before it is ready.
    """

    def __init__(self, settings: Settings) -> None:
        from pipeline.stepaudio.engine import load_engine

        adopt_serve_logging()
        share = settings.llm
        claim_device(share, allow_tf32=True)
        layout = CheckpointLayout.at(resolve_model(settings.model))
        self._engine = load_engine(layout, share)
        warm_up(draw_once(self._engine))
        self._leases: dict[str, _Lease] = {}
        self._active = StageGauge(
            "timbre_llm_streams", "Token streams open on this replica.", lambda: len(self._leases)
        )
        self._load = StageLoad("llm")

    async def stream(
        self, prompt_ids: Int32Array, sampling: Sampling, stream_id: str, credit_tokens: int
    ) -> AsyncGenerator[Stamped[TokenChunk]]:
        """Token chunks; pauses `credit_tokens` ahead of what `grant` last allowed."""
        lease = _Lease(TokenCredit(credit_tokens))
        self._leases[stream_id] = lease
        self._active.refresh()
        try:
            async with aclosing(self._engine.stream(prompt_ids, sampling, lease.credit)) as chunks:
                while True:
                    chunk = await lease.hold(anext(chunks))
                    self._show_load()
                    yield stamped(chunk)
                    if chunk.last:
                        return
        finally:
            del self._leases[stream_id]
            self._active.refresh()
            self._show_load()

    def _show_load(self) -> None:
        gauges = self._engine.gauges()
        self._load.show(gauges.slots_active, gauges.queued)

    async def grant(self, stream_id: str, total_tokens: int) -> bool:
        """Allow a stream to produce up to `total_tokens` in all.

        False when it does not run here.
        """
        lease = self._leases.get(stream_id)
        if lease is None:
            return False
        lease.credit.grant(total_tokens)
        lease.renew()
        return True

    async def status(self) -> dict[str, Any]:
        """Gauges of this replica."""
        return asdict(self._engine.gauges())

    async def check_health(self) -> None:
        """Called by Serve; an engine whose worker died makes the replica unhealthy."""
        self._engine.check_health()
