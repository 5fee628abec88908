"""The application with a tokenizer that keeps memory for ever: of clips that are long."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from ray.serve import Application

from deployments import app
from deployments.config.settings import Settings
from deployments.stages.tokenizer import TokenizerReplica
from deployments.telemetry.transfers import Stamped
from pipeline.contracts import ReferenceClip, VoicePrompt

LONG_S = 8.0
LEAK_BYTES = 2**30
MOST_GIB = 1.2  # it starts with a quarter of that


class LeakyTokenizer(TokenizerReplica):
    """Grows by a GiB with each long clip."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._kept: list[np.ndarray] = []

    async def encode(self, clip: ReferenceClip) -> Stamped[VoicePrompt]:
        """See TokenizerReplica."""
        if len(clip.samples) > LONG_S * clip.sample_rate_hz:
            self._kept.append(np.ones(LEAK_BYTES, np.uint8))
        return await super().encode(clip)


def build_app(args: Mapping[str, Any]) -> Application:
    """See deployments.app; in a process of its own."""
    app.TokenizerReplica = LeakyTokenizer
    return app.build_app(args)
