"""What the LLM is asked, for a given checkpoint.

Its text front end, its prompt and the bound of its answer.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from pipeline.contracts import Int32Array, Sampling, SpeechRequest, VoicePrompt
from pipeline.errors import CheckpointError
from pipeline.stepaudio.prompt import PromptBuilder
from pipeline.text.front_end import front_end

FRONT_END_KEY = "text_front_end"  # in the LLM's config.json; the real checkpoint has none


class CheckpointPrompts:
    """A synthesis.PromptWriter for an LLM directory (`config.json`, `tokenizer.model`)."""

    def __init__(self, lm_dir: Path) -> None:
        """Raises CheckpointError or ConfigError when tokenizer or front end cannot be used."""
        self._builder = PromptBuilder(lm_dir / "tokenizer.model")
        self._front_end = front_end(_front_end_name(lm_dir / "config.json"))

    def build(self, request: SpeechRequest, voice: VoicePrompt) -> Int32Array:
        """Prompt ids, int32 (n,). Raises InputError when the request cannot be written."""
        spoken = replace(
            request,
            text=self._read(request.text),
            transcript=self._read(request.transcript),
        )
        return self._builder.build(spoken, voice)

    def _read(self, text: str) -> str:
        return self._front_end.prompt(self._front_end.words(text))

    def bounded(self, request: SpeechRequest, voice: VoicePrompt) -> Sampling:
        """The sampling with `max_tokens` at most what the text can need.

        A missing stop cannot run on.
        """
        return self._builder.bounded(request, voice)

    def least_tokens(self, request: SpeechRequest, voice: VoicePrompt) -> int:
        """Audio tokens below which an answer cannot hold its text."""
        return self._builder.least_tokens(request, voice)


def _front_end_name(config: Path) -> str | None:
    try:
        return json.loads(config.read_text(encoding="utf-8")).get(FRONT_END_KEY)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{config} cannot be read: {error}") from error
