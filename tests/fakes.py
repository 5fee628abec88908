"""The three stages without torch or Ray: small, deterministic, and honest about their contracts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator

import numpy as np

from pipeline.contracts import (
    NO_LIMIT_TOKENS,
    AudioChunk,
    Int32Array,
    ReferenceClip,
    Sampling,
    SpeechRequest,
    TokenChunk,
    VoicePrompt,
    Warping,
)
from pipeline.synthesis import ResolvedVoice, Script, SpeechChunk

SAMPLES_PER_GROUP = 2880  # 120 ms at 24 kHz


def voice_prompt(n_groups: int = 4, seed: int = 0) -> VoicePrompt:
    """A plausible prompt of `n_groups` groups."""
    rng = np.random.default_rng(seed)
    return VoicePrompt(
        vq02=rng.integers(0, 1024, 2 * n_groups).astype(np.int16),
        vq06=rng.integers(0, 4096, 3 * n_groups).astype(np.int16),
        prompt_mel=rng.standard_normal((6 * n_groups, 80)).astype(np.float32),
        speaker_embedding=rng.standard_normal(192).astype(np.float32),
        duration_s=0.12 * n_groups,
        fingerprint="f" * 64,
    )


class FakeEncoder:
    """Counts encodes; the prompt depends on the clip's digest."""

    def __init__(self) -> None:
        self.encodes = 0

    @property
    def fingerprint(self) -> str:
        return "f" * 64

    async def encode(self, clip: ReferenceClip) -> VoicePrompt:
        self.encodes += 1
        return voice_prompt(seed=int(clip.digest[:8], 16))


class FakeVoices:
    """Resolves every upload to the same prompt."""

    def __init__(self, tier: str = "l1", warnings: tuple[str, ...] = ()) -> None:
        self.tier = tier
        self.warnings = warnings

    async def resolve(self, upload: bytes) -> ResolvedVoice:
        digest = upload.hex().ljust(64, "0")
        return ResolvedVoice(voice_prompt(), digest, self.tier, self.warnings)


class FakePrompts:
    """A prompt is the speaker's and the passage's code points; a passage ends at a full stop."""

    def scripts(self, request: SpeechRequest, voice: VoicePrompt) -> Iterator[Script]:
        del voice
        for passage in request.text.split(".") if "." in request.text else [request.text]:
            if passage:
                ids = np.array([ord(c) for c in request.speaker + passage], np.int32)
                yield Script(ids, request.sampling.over(Warping()), 10, NO_LIMIT_TOKENS)


class FakeLM:
    """`n_chunks` chunks of one group each, derived from prompt and seed; counts open streams."""

    def __init__(
        self, n_chunks: int = 3, *, fail_at: int | None = None, delay_s: float = 0.0
    ) -> None:
        self.open_streams = 0
        self._n_chunks = n_chunks
        self._fail_at = fail_at
        self._delay_s = delay_s

    async def stream(
        self, prompt_ids: Int32Array, sampling: Sampling
    ) -> AsyncGenerator[TokenChunk]:
        rng = np.random.default_rng([int(prompt_ids.sum()), sampling.seed])
        self.open_streams += 1
        try:
            for index in range(self._n_chunks):
                await asyncio.sleep(self._delay_s)
                if index == self._fail_at:
                    raise RuntimeError("the fake LM was told to fail")
                ids = np.concatenate([rng.integers(0, 1024, 2), rng.integers(1024, 5120, 3)])
                yield TokenChunk(ids.astype(np.int32), last=index == self._n_chunks - 1)
        finally:
            self.open_streams -= 1


class FakeDecoder:
    """Every group becomes 120 ms whose level follows its tokens; counts open streams."""

    def __init__(self) -> None:
        self.open_streams = 0

    async def stream(
        self,
        tokens: AsyncIterator[TokenChunk],
        voice: VoicePrompt,
        first_chunk_rows: int | None = None,
    ) -> AsyncGenerator[AudioChunk]:
        del voice, first_chunk_rows
        self.open_streams += 1
        try:
            async for chunk in tokens:
                levels = np.repeat(chunk.ids[::5] / 5120.0, SAMPLES_PER_GROUP).astype(np.float32)
                yield AudioChunk(levels, chunk.last)
        finally:
            self.open_streams -= 1


class FakeSpeaker:
    """Two chunks of a steady level for every request, which it keeps. go: lets the second out."""

    def __init__(self) -> None:
        self.requests: list[SpeechRequest] = []
        self.go = asyncio.Event()
        self.go.set()

    async def speak(
        self, request: SpeechRequest, voice: VoicePrompt
    ) -> AsyncGenerator[SpeechChunk]:
        del voice
        self.requests.append(request)
        samples = np.full(SAMPLES_PER_GROUP, 0.25, np.float32)
        yield SpeechChunk(samples, last=False, llm_s=0.0, vocoder_s=0.0)
        await self.go.wait()
        yield SpeechChunk(samples, last=True, llm_s=0.0, vocoder_s=0.0)
