"""Runs each stage once before its replica is ready, so no request waits for lazy loading."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing

import numpy as np

from pipeline.contracts import (
    Int32Array,
    ReferenceClip,
    Sampling,
    SpeechLM,
    TokenChunk,
    VoiceEncoder,
    VoicePrompt,
    WaveDecoder,
)
from pipeline.transcription import Transcriber

CLIP_S = 3.0
CLIP_RATE_HZ = 24_000
PROMPT_TOKENS = 256
GROUPS = 16  # more than the first chunk of the vocoder's schedule
TIMEOUT_S = 300.0


def warm_up(work: Coroutine[None, None, None]) -> None:
    """Run `work` on an event loop of its own, for use in a replica's constructor."""
    with ThreadPoolExecutor(1, "warm-up") as pool:
        pool.submit(asyncio.run, work).result(TIMEOUT_S)


async def encode_once(encoder: VoiceEncoder) -> None:
    """Encode a clip of noise."""
    await encoder.encode(_noise())


async def recognise_once(transcriber: Transcriber) -> None:
    """Hear out a clip of noise."""
    await transcriber.transcribe(_noise())


def _noise() -> ReferenceClip:
    noise = np.random.default_rng(0).standard_normal(int(CLIP_S * CLIP_RATE_HZ))
    return ReferenceClip((noise * 0.1).astype(np.float32), CLIP_RATE_HZ, "0" * 64)


async def draw_once(lm: SpeechLM) -> None:
    """Draw a few groups after a prompt of the first token."""
    prompt: Int32Array = np.ones(PROMPT_TOKENS, np.int32)
    async with aclosing(lm.stream(prompt, Sampling(max_tokens=10))) as chunks:
        async for _ in chunks:
            pass


async def decode_once(decoder: WaveDecoder) -> None:
    """Decode some groups of silence-like tokens in a made-up voice."""
    voice = VoicePrompt(
        vq02=np.zeros(2 * GROUPS, np.int16),
        vq06=np.zeros(3 * GROUPS, np.int16),
        prompt_mel=np.zeros((6 * GROUPS, 80), np.float32),
        speaker_embedding=np.ones(192, np.float32),
        duration_s=0.12 * GROUPS,
        fingerprint="0" * 64,
    )

    async def tokens() -> AsyncGenerator[TokenChunk]:
        group = np.array([0, 0, 1024, 1024, 1024], np.int32)
        yield TokenChunk(np.tile(group, GROUPS), last=False)
        yield TokenChunk(np.zeros(0, np.int32), last=True)

    async with aclosing(decoder.stream(tokens(), voice)) as audio:
        async for _ in audio:
            pass
