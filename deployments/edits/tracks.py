"""The words of every step: what is edited, what is to be said, and in which part of a long text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from deployments.edits.documents import EditStep
from deployments.edits.sources import Source
from pipeline.contracts import Mode
from pipeline.edit_values import WORDLESS
from pipeline.errors import InputError, TextError, UnsupportedError
from pipeline.splitting.texts import split_as, tagged_passages
from pipeline.splitting.weights import expected_s
from pipeline.synthesis import ResolvedVoice

Field: TypeAlias = Callable[[int, str], str]
"""A field of the step of this index, as refusals name it."""

CLONE_S = 25.0  # expected length of the parts of a long clone, which may turn out longer


@dataclass(frozen=True, slots=True)
class Line:
    """The words of a step in one part. transcript: of what is edited. text: to be said."""

    transcript: str
    text: str


@dataclass(frozen=True, slots=True, eq=False)
class Track:
    """One part of an edit through all its steps. lines: a step's each."""

    voice: ResolvedVoice
    lines: tuple[Line, ...]


def tracks_of(
    sources: Sequence[Source], steps: Sequence[EditStep], field: Field, *, is_continued: bool
) -> Sequence[Track]:
    """sources: the clip's parts in a row. is_continued: they are those of an earlier edit.

    A long text of a clone becomes parts of its own, which later steps edit each by itself.
    Raises InputError naming the caller's field.
    """
    voices = [source.voice for source in sources]
    said = [source.words for source in sources]
    lines = list[list[Line]]([] for _ in sources)
    for index, step in enumerate(steps):
        _check(step, index, said, field, is_continued=is_continued)
        if step.mode is Mode.CLONE:
            texts = _passages(step, voices[0], said[0])
            voices, lines = voices * len(texts), [[] for _ in texts]
            said = said * len(texts)
        elif step.mode is Mode.PARALINGUISTIC:
            texts = _marked(step, said, field(index, "text"))
        else:
            texts = [""] * len(said)
        for part, words, text in zip(lines, said, texts, strict=True):
            part.append(Line(words, text))
        said = [text or words for words, text in zip(said, texts, strict=True)]
    return [Track(voice, tuple(part)) for voice, part in zip(voices, lines, strict=True)]


def _check(
    step: EditStep, index: int, said: Sequence[str], field: Field, *, is_continued: bool
) -> None:
    if step.mode is Mode.CLONE and index:
        param = field(index, "type")
        raise UnsupportedError(
            f"{param}: a clone speaks a text in a voice and can only be the first step", param=param
        )
    if step.mode is Mode.CLONE and len(said) > 1:
        raise UnsupportedError(
            f"{field(index, 'type')}: the audio is longer than a clip to clone a voice from may "
            "be: cut it",
            param="audio",
        )
    if needs_words([step]) and not all(said):
        how = "say in transcript what is spoken in the audio"
        if is_continued:
            how = "this edit was made without any: send the audio again, with its transcript"
        raise InputError(
            f"{step.mode} needs the words of what it edits: {how}; only "
            f"{' and '.join(sorted(WORDLESS))} go without",
            param="from" if is_continued else "transcript",
        )


def needs_words(steps: Sequence[EditStep]) -> bool:
    """Whether any of them cannot be made without the words of what it edits."""
    return any(step.mode not in WORDLESS for step in steps)


def _passages(step: EditStep, voice: ResolvedVoice, said: str) -> list[str]:
    return tagged_passages(step.text or "", expected_s(said, voice.prompt), CLONE_S)


def _marked(step: EditStep, said: Sequence[str], param: str) -> list[str]:
    try:
        return split_as(step.text or "", said)
    except TextError as error:
        raise error.about(param) from error
