# pyright: basic
"""Spoken sentences with phone alignments and F0, made by the teacher: the stage `corpus`.

Shards of FLAC with their alignments beside them, written one after the other: any number of them is
a corpus, in which both languages and all speakers have their share.

Clips are cut as the serving code would cut them, so tokens and mel of a clip begin and end
together.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.errors import TextError
from pipeline.stepaudio.tokenizer.waveform import (
    KEEP_LEFT_S,
    KEEP_RIGHT_S,
    _loud_span,  # the very rule that serving trims by
    normalise_peak,
    resample,
)
from pipeline.text.front_end import two_language_words
from pipeline.text.sounds.reading import read_aloud
from training.config import Recipe
from training.progress import progress
from training.speech.alignment import aligned, symbol_starts_s
from training.speech.clips import RATE_HZ, TOKENIZER_RATE_HZ, Clip, Corpus, write_shard
from training.speech.speakers import (
    ENGLISH,
    MANDARIN,
    Speaker,
    mixed_speakers,
    split_voices,
    style_of,
    whole_speakers,
)
from training.speech.teacher import MOST_PHONEMES, Teacher, voices_of
from training.speech.text import TextSources, length_of, sentences
from training.speech.world import f0_of, moved

SPLITS = ("held", "val", "train", "judge")
EVAL_SPLITS = ("held", "val")
LEVEL_RMS, LEVEL_PEAK = 0.08, 0.6
EVAL_SHARE = 20  # one verse in this many is for evaluation only
EVAL_SHORTEST = 0.1  # of the longest sentence
CLIPS_A_SHARD = 24  # about 80 s of speech
SPLIT_SEEDS = {"train": 1, "val": 2, "held": 3, "judge": 4}
SPEAKER_SEEDS = {"train": 1, "val": 1, "judge": 4}  # `val` has the speakers of `train`


@dataclass(frozen=True, slots=True)
class Planned:
    """One clip to be: the number of its speaker within the split, and what is said."""

    voice: int
    text: str


def load_corpus(recipe: Recipe, *splits: str) -> Corpus:
    """The shards that are there. Raises FileNotFoundError when a split has none."""
    directories = [recipe.directory("corpus") / split for split in splits]
    for directory in directories:
        if not any(directory.glob("*.json")):
            raise FileNotFoundError(f"{directory} holds nothing: run the stage `corpus` first")
    return Corpus(*directories)


def make_corpus(recipe: Recipe) -> None:
    """Speak shards until every split is as long as the recipe wants; what is there is kept."""
    torch.set_num_threads(1)
    section = recipe["teacher"]
    teacher = Teacher(recipe.directory("corpus") / "teacher.onnx")
    voices = voices_of(Path(section["voices"]))
    cast = {split: speakers_of(recipe, split, list(voices)) for split in SPLITS}
    states = [_State.found(recipe, split) for split in SPLITS]
    shown = progress(_unfinished(states), "corpus, shards", 0)
    for state in shown:
        own = cast[state.split]
        clips = _speak(teacher, voices, own, plan_shard(recipe, state.split, state.shards, own))
        write_shard(state.directory / f"{state.shards:05d}", clips)
        state.shards += 1
        state.made_s += sum(clip.duration_s for clip in clips)


@dataclass(slots=True)
class _State:
    """How far a split is: shards and seconds made, and wanted."""

    split: str
    directory: Path
    wanted_s: float
    shards: int
    made_s: float

    @classmethod
    def found(cls, recipe: Recipe, split: str) -> _State:
        directory = recipe.directory("corpus") / split
        directory.mkdir(exist_ok=True)
        wanted_s = 3600 * float(recipe["corpus"]["hours"][split])
        shards = len(list(directory.glob("*.json")))
        return cls(split, directory, wanted_s, shards, float(Corpus(directory).durations_s.sum()))

    @property
    def share(self) -> float:
        return self.made_s / self.wanted_s if self.wanted_s else 1.0


def _unfinished(states: list[_State]) -> Iterator[_State]:
    """The split that is furthest behind, again and again until all are as long as wanted."""
    while (state := min(states, key=lambda state: state.share)).share < 1:
        yield state


def speakers_of(recipe: Recipe, split: str, voices: list[str]) -> list[Speaker]:
    """The speakers of a split; `val` has those of `train`, `held` whole voices."""
    uses = split_voices(voices)
    if split == "held":
        return whole_speakers(uses["held"])
    own = uses["judge" if split == "judge" else "train"]
    count = int(recipe["corpus"]["speakers"]["judge" if split == "judge" else "train"])
    return mixed_speakers(own, count, recipe.seed * 10 + SPEAKER_SEEDS[split])


def plan_shard(recipe: Recipe, split: str, number: int, speakers: list[Speaker]) -> list[Planned]:
    """Who says what in a shard: speakers in turn over the shards, languages as they speak."""
    seed = recipe.seed * 1000 + SPLIT_SEEDS[split] * 1_000_000 + number
    sources = _sources(recipe, split)
    texts = {
        language: _long_enough(sentences(own, language, seed), split)
        for language, own in sources.items()
    }
    planned = []
    for n in range(number * CLIPS_A_SHARD, (number + 1) * CLIPS_A_SHARD):
        voice, turn = n % len(speakers), n // len(speakers)
        spoken = speakers[voice].languages
        planned.append(Planned(voice, next(texts[spoken[turn % len(spoken)]])))
    return planned


def _long_enough(texts: Iterator[str], split: str) -> Iterator[str]:
    shortest = EVAL_SHORTEST if split in EVAL_SPLITS else 0.0
    return (text for text in texts if length_of(text) >= shortest)


def _sources(recipe: Recipe, split: str) -> dict[str, TextSources]:
    """Word salads are for training alone: nobody, nor a judge, understands them by their sense."""
    read = TextSources.read(str(recipe["text"]["word_list"]), str(recipe["text"]["bible"]))
    is_eval = split in EVAL_SPLITS
    lines = tuple(v for i, v in enumerate(read.lines) if (i % EVAL_SHARE == 0) == is_eval)
    if is_eval:
        return {ENGLISH: TextSources(lines, ()), MANDARIN: TextSources((), ())}
    return {ENGLISH: TextSources(lines, read.words), MANDARIN: TextSources.mandarin()}


def _speak(
    teacher: Teacher,
    voices: dict[str, NDArray[np.float32]],
    speakers: list[Speaker],
    planned: list[Planned],
) -> list[Clip]:
    """The clips; a text that cannot be said, or is too long for the teacher, is passed over."""
    clips = []
    for each in planned:
        try:
            sounds = read_aloud(two_language_words(each.text))
        except TextError:
            continue
        if len(sounds) > MOST_PHONEMES:
            continue
        clips.append(_clip(teacher, voices, speakers[each.voice], each, sounds))
    return clips


def _clip(
    teacher: Teacher,
    voices: dict[str, NDArray[np.float32]],
    speaker: Speaker,
    planned: Planned,
    sounds: str,
) -> Clip:
    # frequencies go up by playing faster: the teacher speaks as much slower
    spoken = teacher.speak(sounds, style_of(speaker, voices), speaker.pace / speaker.tract)
    samples = moved(spoken.samples, speaker.tract, speaker.pitch)
    raw = torch.from_numpy(samples)
    raw = raw * min(
        LEVEL_RMS / float(raw.square().mean().sqrt()), LEVEL_PEAK / float(raw.abs().max())
    )
    at16 = resample(raw, RATE_HZ, TOKENIZER_RATE_HZ, torch.float64)
    start, stop = (n / TOKENIZER_RATE_HZ for n in _loud_span(normalise_peak(at16).numpy()))
    start_s, stop_s = start - KEEP_LEFT_S, stop + KEEP_RIGHT_S
    audio24 = _cut(raw, start_s, stop_s, RATE_HZ)
    phones = aligned(sounds, spoken, raw.numpy(), speaker.tract)
    return Clip(
        audio24=audio24,
        audio16=_cut(at16, start_s, stop_s, TOKENIZER_RATE_HZ),
        voice=planned.voice,
        text=sounds,
        words=planned.text,
        phone_ids=phones.ids,
        phone_marks=phones.marks,
        phone_starts_s=(phones.starts_s - start_s).astype(np.float32),
        symbol_starts_s=(symbol_starts_s(spoken, speaker.tract) - start_s).astype(np.float32),
        f0=f0_of(audio24),
    )


def _cut(samples: torch.Tensor, start_s: float, stop_s: float, rate_hz: int) -> NDArray[np.int16]:
    """The span as int16, zeros where the sound has less."""
    first, last = round(start_s * rate_hz), round(stop_s * rate_hz)
    padded = np.pad(samples.numpy(), (max(0, -first), max(0, last - len(samples))))
    first = max(0, first)
    return np.round(padded[first : first + last - round(start_s * rate_hz)] * 32767).astype(
        np.int16
    )
