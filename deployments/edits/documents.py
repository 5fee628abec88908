"""What is written of an edit: how it is made. What it says and sounds like is finished speech."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

from deployments.config.text_settings import PronunciationEntry, WrittenEntry
from deployments.voices.documents import Written
from pipeline.contracts import BASE_VARIANT, NO_LIMIT_TOKENS, Mode, Sampling, SpeechRequest
from pipeline.text.dictionary import fitting
from pipeline.text.options import AS_USUAL, Reading

STEP_PATH = "/v1/audio/edits/{edit}/steps/{number}"


class WrittenReading(Written):
    """How a text is read; see Reading."""

    is_normalised: bool = True
    pronunciations: tuple[WrittenEntry, ...] = ()
    """Of two that fit the same place the earlier one counts."""

    @classmethod
    def of(cls, reading: Reading) -> WrittenReading | None:
        """None for a text that is read as usual."""
        if reading == AS_USUAL:
            return None
        entries = (PronunciationEntry.of(rule) for rule in reading.pronunciations)
        return cls(is_normalised=reading.is_normalised, pronunciations=tuple(entries))

    @classmethod
    def fitted(cls, whole: Reading, text: str) -> WrittenReading | None:
        """The same, of pronunciations those alone that may fit a text."""
        kept = fitting(text, whole.pronunciations)
        return cls.of(replace(whole, pronunciations=kept))

    @cached_property
    def reading(self) -> Reading:
        """For the text front end."""
        return Reading(self.is_normalised, tuple(one.as_rule() for one in self.pronunciations))


class EditStep(Written):
    """One step. Never changes."""

    mode: Mode
    info: str = ""
    """The value of the edit, in the model's own spelling."""
    text: str | None = None
    """What is to be said, of a clone and a paralinguistic step."""
    passes: int = 1
    """How often it is applied, each time to its own result."""
    seed: int
    may_reseed: bool = False
    """The caller gave no seed: a bad answer is drawn once more with another."""
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    max_tokens: int | None = None
    variant: str = BASE_VARIANT
    """The language model."""
    reading: WrittenReading | None = None
    """How its text is read; None as usual."""
    models: str = ""
    """Fingerprint of the models that made it; empty of a step that is still to be made."""

    def read_as(self, whole: Reading) -> EditStep:
        """The step, whose text is read so; one without a text as it is."""
        if self.text is None:
            return self
        return self.model_copy(update={"reading": WrittenReading.fitted(whole, self.text)})

    def request(self, transcript: str, text: str) -> SpeechRequest:
        """What the stages are asked for. transcript: the words of what is edited."""
        return SpeechRequest(
            text=text,
            transcript=transcript,
            mode=self.mode,
            info=self.info,
            sampling=Sampling(
                temperature=self.temperature,
                seed=self.seed,
                max_tokens=NO_LIMIT_TOKENS if self.max_tokens is None else self.max_tokens,
                top_p=self.top_p,
                top_k=self.top_k,
            ),
            may_reseed=self.may_reseed,
            variant=self.variant,
            iterations=self.passes,
            reading=AS_USUAL if self.reading is None else self.reading.reading,
        )


class EditSource(Written):
    """What the first step takes: a clip, or a part of one."""

    clip_digest: str
    encoder: str
    """Fingerprint of the encoder whose tokens were taken."""
    transcript: str = ""


class Edit(Written):
    """A chain of steps from its beginning."""

    created_unix_s: int
    voice: str | None = None
    """The built-in voice, or the version of an uploaded one, that it begins with."""
    sources: tuple[EditSource, ...]
    steps: tuple[EditStep, ...]

    def report(self, edit_id: str) -> Mapping[str, Any]:
        """For JSON."""
        return {
            "id": edit_id,
            "object": "audio.edit",
            "created_at": self.created_unix_s,
            "voice": self.voice,
            "sources": [
                {"clip": one.clip_digest, "transcript": one.transcript} for one in self.sources
            ],
            "steps": [
                self.step_report(edit_id, number) for number in range(1, len(self.steps) + 1)
            ],
        }

    def step_report(self, edit_id: str, number: int) -> dict[str, Any]:
        """One step, counted from 1, for JSON."""
        step = self.steps[number - 1]
        audio = STEP_PATH.format(edit=edit_id, number=number) + "/audio"
        return {
            "step": number,
            "type": str(step.mode),
            "value": step.info,
            "text": step.text,
            "intensity": step.passes,
            "seed": step.seed,
            "model_variant": step.variant,
            "audio": audio,
        }
