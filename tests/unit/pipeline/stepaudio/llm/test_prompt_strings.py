"""Instructions of edits, word by word; and a chained step's prompt, which holds earlier tokens."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.chain import Script, SpeechChain
from pipeline.contracts import (
    Drawn,
    Int32Array,
    Mode,
    Sampling,
    SpeechRequest,
    TokenChunk,
    VoicePrompt,
    Warping,
)
from pipeline.stepaudio.llm import prompt
from pipeline.stepaudio.llm.prompt import PromptBuilder, audio_token_string
from pipeline.stepaudio.parity.lm import request_of, voice_of
from pipeline.stepaudio.tokens import interleave
from tests.fakes import FakeDecoder, FakeLM, voice_prompt

pytestmark = pytest.mark.unit

CLEAN = (
    "Remove any {what} from the given audio while preserving the voice content clearly. Ensure "
    "that the speech quality remains intact with minimal distortion, and eliminate all {rest} from "
    "the audio.\n"
)
STRINGS = [
    (Mode.EMOTION, "happy", "",
     "Make the following audio more happy. The text corresponding to the audio is: hello world\n"),
    (Mode.EMOTION, "remove", "",
     "Remove any emotion in the following audio and the reference text is: hello world\n"),
    (Mode.STYLE, "whisper", "",
     "Make the following audio more whisper style. The text corresponding to the audio is: "
     "hello world\n"),
    (Mode.STYLE, "remove", "",
     "Remove any speaking styles in the following audio and the reference text is: hello world\n"),
    (Mode.SPEED, "more faster", "",
     "Make the following audio more more faster. The text corresponding to the audio is: "
     "hello world\n"),
    (Mode.DENOISE, "", "", CLEAN.format(what="noise", rest="noise")),
    (Mode.VAD, "", "", CLEAN.format(what="silent portions", rest="silence")),
    (Mode.PARALINGUISTIC, "", "hello [Sigh] world",
     "Add some non-verbal sounds to make the audio more natural, the new text is : "
     "hello [Sigh] world\n  The text corresponding to the audio is: hello world\n"),
]  # fmt: skip


@pytest.mark.parametrize(("mode", "info", "text", "said"), STRINGS)
def test_instructions_are_the_models_own(mode: Mode, info: str, text: str, said: str) -> None:
    request = SpeechRequest(text, "hello world", mode=mode, info=info)
    assert prompt._instruction(request) == said


def test_instructions_and_tokens_are_those_of_the_reference(shared_dir: Path) -> None:
    golden = json.loads((shared_dir / "golden" / "prompts.json").read_text("utf-8"))
    assert audio_token_string(voice_of(golden)) == golden["audio_token_string"]
    edits = [case for case in golden["cases"] if case["kind"] == "edit"]
    assert len(edits) == 8
    for case in edits:
        assert prompt._instruction(request_of(case)) == case["instruction"]


class BuilderPrompts:
    """The prompts of a builder, as they are."""

    front_end = None

    def __init__(self, builder: PromptBuilder) -> None:
        self._builder = builder
        self.ids: list[list[int]] = []

    def scripts(self, request: SpeechRequest, voice: VoicePrompt) -> Iterator[Script]:
        ids = self._builder.build(request, voice)
        self.ids.append(ids.tolist())
        yield Script(ids, request.sampling.over(Warping()), 5, 100)


class AnyLM(FakeLM):
    def stream(self, prompt_ids: Int32Array, sampling: Sampling) -> AsyncGenerator[TokenChunk]:
        del prompt_ids
        return super().stream(np.zeros(1, np.int32), sampling)


async def test_a_chained_steps_prompt_is_that_of_a_clip_with_those_tokens(shared_dir: Path) -> None:
    golden: dict[str, Any] = json.loads((shared_dir / "golden" / "prompts.json").read_text("utf-8"))
    prompts = BuilderPrompts(PromptBuilder(shared_dir / "golden" / golden["tokenizer"]))
    chain = SpeechChain(prompts, AnyLM(), FakeDecoder())
    theirs = voice_of(golden)
    earlier = Drawn(interleave(theirs.vq02, theirs.vq06).astype(np.int16), frozenset())
    for case in golden["cases"]:
        asked = request_of(case)
        request = SpeechRequest(
            asked.text, asked.transcript, asked.mode, asked.info, source=earlier
        )
        named = voice_of(golden, case.get("speaker"))
        voice = replace(voice_prompt(n_groups=9), clip_digest=named.clip_digest)
        async for _ in chain.speak(request, voice):
            pass
        assert prompts.ids[-1] == case["ids"]
