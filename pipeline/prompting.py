"""Prompts for a checkpoint: its text front end, templates, passage length and sampling."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from pipeline.chain import Script
from pipeline.contracts import RELEASED_WARPING, Mode, SpeechRequest, VoicePrompt, Warping
from pipeline.errors import CheckpointError, TextError
from pipeline.splitting.texts import leading_tags
from pipeline.splitting.weights import expected_s
from pipeline.stepaudio.llm.prompt import PromptBuilder
from pipeline.stepaudio.llm.sampling import warping_limits
from pipeline.text.front_end import front_end
from pipeline.text.pauses import in_parts
from pipeline.text.segment import passages
from pipeline.wording import TEXT_PARAM, TRANSCRIPT_PARAM, about, in_words

# Our keys in the LLM's config.json; the real checkpoint has none.
FRONT_END_KEY = "text_front_end"
PASSAGE_KEY = "longest_passage_s"
PASSAGE_S = 30.0  # longest passage of the real model


@dataclass(frozen=True, slots=True)
class _Passage:
    """What one answer says, and the silence around it; see Script."""

    text: str
    before_s: float = 0.0
    after_s: float = 0.0


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
        for part in self._written(self._passages(said, voice)):
            spoken = replace(said, text=part.text, transcript=transcript)
            yield self._script(spoken, voice, part)

    def _passages(self, said: SpeechRequest, voice: VoicePrompt) -> list[_Passage]:
        if said.mode is not Mode.CLONE:
            return [_Passage(said.text)]
        tags = leading_tags(said.text) if self._holds_words else ""
        paused = in_parts(said.text[len(tags) :])
        cost = expected_s(said.transcript, voice)
        found: list[_Passage] = []
        for part in paused.parts:
            before_s = part.before_s
            for text in passages(part.text, cost, self._passage_s):
                found.append(_Passage(tags + text, before_s))
                before_s = 0.0
        found[-1] = replace(found[-1], after_s=paused.after_s)
        return found

    def _written(self, parts: Sequence[_Passage]) -> Iterator[_Passage]:
        """Each text as the prompt holds it; of passages without speech the silence alone is left.

        Raises TextError when no passage holds speech.
        """
        fault: TextError | None = None
        is_empty, due_s = True, 0.0
        for part in parts:
            try:
                written = about(TEXT_PARAM, self._front_end.prompt, part.text)
            except TextError as error:
                fault, due_s = error, due_s + part.before_s
                continue
            yield replace(part, text=written, before_s=due_s + part.before_s)
            is_empty, due_s = False, 0.0
        if is_empty and fault is not None:
            raise fault

    def _script(self, spoken: SpeechRequest, voice: VoicePrompt, part: _Passage) -> Script:
        return Script(
            prompt_ids=self._builder.build(spoken, voice),
            sampling=spoken.sampling.over(self._warping),
            least_tokens=self._builder.least_tokens(spoken, voice),
            most_tokens=self._builder.most_tokens(spoken, voice),
            before_s=part.before_s,
            after_s=part.after_s,
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
