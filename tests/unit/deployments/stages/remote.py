"""What the tests of the stages' clients share: limits, a clip, a request, and replicas."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import numpy as np
import ray.exceptions

from deployments.config.settings import Limits
from deployments.telemetry.transfers import Stamped, stamped
from pipeline.contracts import (
    ReferenceClip,
    Sampling,
    SpeechRequest,
    TokenChunk,
)

LIMITS = Limits(
    encode_timeout_s=5, first_audio_timeout_s=7, chunk_timeout_s=3, silence_timeout_s=2.5
)
CLIP = ReferenceClip(np.zeros(100, np.float32), 16_000, "0" * 64)
REQUEST = SpeechRequest("Hello.", "Hi.")


class Uncounted:
    """Transfers that only unwrap."""

    def received(self, hop: str, record: Stamped) -> object:
        del hop
        return record.value


def gone() -> Exception:
    return ray.exceptions.ActorDiedError()


class Healthy:
    """A replica that is well."""

    def check_parts(self) -> None: ...


class LLM(Healthy):
    """Yields groups as fast as they are taken."""

    def __init__(self, n_groups: int) -> None:
        self.n_groups, self.clip_digest = n_groups, ""

    async def stream_aloud(
        self, prompt_ids: np.ndarray, sampling: Sampling, clip_digest: str, *terms: object
    ) -> AsyncGenerator[Stamped[TokenChunk]]:
        del prompt_ids, sampling, terms
        self.clip_digest = clip_digest
        for index in range(self.n_groups):
            yield stamped(TokenChunk(np.zeros(5, np.int32), last=index == self.n_groups - 1))
