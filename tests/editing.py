"""A synthesizer for edits without models: the real chain, on prompts that depend on everything."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from dataclasses import replace

import numpy as np

from pipeline.chain import Script, SpeechChain
from pipeline.contracts import (
    NO_LIMIT_TOKENS,
    Int32Array,
    Sampling,
    SpeechChunk,
    SpeechRequest,
    TokenChunk,
    VoicePrompt,
    Warping,
)
from tests.fakes import FakeDecoder, FakeLM, FakeNames


class WholePrompts:
    """A prompt is a digest of the request's words and values, and of the codes that are edited."""

    front_end = None

    def scripts(self, request: SpeechRequest, voice: VoicePrompt) -> Iterator[Script]:
        said = (request.mode, request.info, request.text, request.transcript)
        whole = hashlib.sha256(repr(said).encode())
        whole.update(voice.vq02.tobytes() + voice.vq06.tobytes())
        ids = np.frombuffer(whole.digest(), np.uint8).astype(np.int32)
        yield Script(ids, request.sampling.over(Warping()), 5, NO_LIMIT_TOKENS)


class SignedLM(FakeLM):
    """Says what it is, and draws another number of groups for another seed."""

    def __init__(self, names: FakeNames) -> None:
        super().__init__()
        self._names = names
        self.n_answers = 0

    async def stream(
        self, prompt_ids: Int32Array, sampling: Sampling
    ) -> AsyncGenerator[TokenChunk]:
        self.n_answers += 1
        self._n_chunks = 3 + int(prompt_ids.sum()) % 4
        made_by = await self._names.lm("base")
        weighted = prompt_ids * np.arange(1, len(prompt_ids) + 1, dtype=np.int32)
        async for chunk in super().stream(weighted, sampling):
            yield replace(chunk, made_by=made_by)


class EditingSpeaker:
    """A synthesizer. requests: what it was asked. speakers: in the voice of which clip, by digest.

    lm: which says how many answers it drew.
    """

    def __init__(self, names: FakeNames) -> None:
        self.requests: list[SpeechRequest] = []
        self.speakers: list[str] = []
        self.lm = SignedLM(names)
        self._names = names
        self._chain = SpeechChain(WholePrompts(), self.lm, FakeDecoder())

    async def speak(
        self, request: SpeechRequest, voice: VoicePrompt
    ) -> AsyncGenerator[SpeechChunk]:
        self.requests.append(request)
        self.speakers.append(voice.clip_digest)
        async with aclosing(self._chain.speak(request, voice)) as speech:
            async for chunk in speech:
                drawn = chunk.drawn
                if drawn is not None:
                    made_by = drawn.made_by | {self._names.names["vocoder"]}
                    drawn = replace(drawn, made_by=made_by)
                yield replace(chunk, drawn=drawn)
