"""Prompts for a checkpoint: its text front end, templates, passage length and sampling."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

from pipeline.chain import Script
from pipeline.contracts import RELEASED_WARPING, Mode, SpeechRequest, VoicePrompt, Warping
from pipeline.errors import CheckpointError, TextError
from pipeline.splitting.texts import tagged_passages
from pipeline.splitting.weights import expected_s
from pipeline.stepaudio.llm.prompt import PromptBuilder
from pipeline.stepaudio.llm.sampling import warping_limits
from pipeline.text.front_end import front_end
from pipeline.text.segment import passages
from pipeline.wording import TEXT_PARAM, TRANSCRIPT_PARAM, about, in_words

# Our keys in the LLM's config.json; the real checkpoint has none.
FRONT_END_KEY = "text_front_end"
PASSAGE_KEY = "longest_passage_s"
PASSAGE_S = 30.0  # longest passage of the real model


class CheckpointPrompts:
    """A chain.PromptWriter for an LLM directory.

    Reads `config.json`, `tokenizer.model` and, if present, `generation_config.json`.
    """

    def __init__(self, lm_dir: Path) -> None:
        """Raises CheckpointError or ConfigError when tokenizer or front end cannot be used.

        front_end: its name, None for plain text.
        """
        config = _read_object(lm_dir / "config.json")
        name = cast("str | None", config.get(FRONT_END_KEY))
        self._builder = PromptBuilder(lm_dir / "tokenizer.model")
        self.front_end = name
        self._front_end = front_end(name)
        self._holds_words = name is None
        self._passage_s = _passage_s(lm_dir / "config.json", config)
        self._warping = read_warping(lm_dir / "generation_config.json")

    def scripts(self, request: SpeechRequest, voice: VoicePrompt) -> Iterator[Script]:
        """See chain.PromptWriter. A clone's text is split into passages, an edit's is not."""
        said = in_words(request, self._front_end.words)
        if self._holds_words:  # finds a fault at the text's end before anything is spoken
            self._builder.check(said)
        transcript = about(TRANSCRIPT_PARAM, self._front_end.prompt, said.transcript)
        for text in self._written(self._passages(said, voice)):
            yield self._script(replace(said, text=text, transcript=transcript), voice)

    def _passages(self, said: SpeechRequest, voice: VoicePrompt) -> list[str]:
        if said.mode is not Mode.CLONE:
            return [said.text]
        split = tagged_passages if self._holds_words else passages
        return split(said.text, expected_s(said.transcript, voice), self._passage_s)

    def _written(self, texts: Sequence[str]) -> Iterator[str]:
        """Each text as the prompt holds it; passages without speech are skipped.

        Raises TextError when no passage holds speech.
        """
        fault: TextError | None = None
        is_empty = True
        for text in texts:
            try:
                written = about(TEXT_PARAM, self._front_end.prompt, text)
            except TextError as error:
                fault = error
                continue
            is_empty = False
            yield written
        if is_empty and fault is not None:
            raise fault

    def _script(self, spoken: SpeechRequest, voice: VoicePrompt) -> Script:
        return Script(
            prompt_ids=self._builder.build(spoken, voice),
            sampling=spoken.sampling.over(self._warping),
            least_tokens=self._builder.least_tokens(spoken, voice),
            most_tokens=self._builder.most_tokens(spoken, voice),
        )


def read_warping(path: Path) -> Warping:
    """A checkpoint's sampling defaults: `generation_config.json`, else those of the released code.

    Raises CheckpointError for a file that cannot be read, or values outside their ranges.
    """
    config = _read_object(path) if path.is_file() else {}

    def number(name: str, released: float) -> float:
        value = config.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float | None):
            raise CheckpointError(f"{path}: {name} is {value!r}, a number is needed")
        return released if value is None else value

    warping = Warping(
        temperature=number("temperature", RELEASED_WARPING.temperature),
        top_p=number("top_p", RELEASED_WARPING.top_p),
        top_k=int(number("top_k", RELEASED_WARPING.top_k)),
    )
    for name, value, is_allowed, allowed in warping_limits(warping):
        if not is_allowed:
            raise CheckpointError(f"{path}: {name} is {value}, allowed: {allowed}")
    return warping


def _passage_s(path: Path, config: dict[str, object]) -> float:
    value = config.get(PASSAGE_KEY, PASSAGE_S)
    if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
        raise CheckpointError(f"{path}: {PASSAGE_KEY} is {value!r}, seconds above 0 are needed")
    return float(value)


def _read_object(path: Path) -> dict[str, object]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} holds no JSON object")
    return cast("dict[str, object]", value)
