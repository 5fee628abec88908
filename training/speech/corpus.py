# pyright: basic
"""Spoken sentences with phone alignments and F0.

Made by espeak-ng and kept as memory-mapped arrays. Knows no model.

Clips are cut as the serving code would cut them, so tokens and mel of a clip begin and end
together.
"""

from __future__ import annotations

import itertools
import json
import shutil
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.stepaudio.tokenizer.waveform import (
    KEEP_LEFT_S,
    KEEP_RIGHT_S,
    _loud_span,  # the very rule that serving trims by
    normalise_peak,
    resample,
)
from pipeline.text.espeak import Espeak
from pipeline.text.phonemes import PAUSE, PHONES, WORD_BORDER, Phone, phones_of, written
from training.config import Recipe
from training.progress import progress
from training.speech.text import TextSources, sentences
from training.speech.voices import Speaker, draw_speakers, write_voices

SPLITS = ("train", "more", "val", "held", "judge")
RATE_HZ, TOKENIZER_RATE_HZ = 24_000, 16_000
HOP_SAMPLES = 480
F0_PERIOD_MS = 10.0  # every second value lies in the middle of a mel frame
F0_RANGE_HZ = (55.0, 600.0)
LEVEL_RMS, LEVEL_PEAK = 0.08, 0.6
CLASSES: tuple[str, ...] = (PAUSE, *PHONES)  # 0 is silence
CLASS_ID = {symbol: i for i, symbol in enumerate(CLASSES)}
EVAL_SHARE = 20  # one verse in this many is for evaluation only
EVAL_MIN_WORDS = 3
SPEAKERS_PER_SHARD = 16
SPLIT_SEEDS = {"train": 1, "val": 2, "held": 3, "judge": 4, "more": 5}
TRAIN_VOICES = ("more", "val")  # splits of the training speakers, other sentences


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """One utterance.

    audio24, audio16: int16 at 24 and 16 kHz. voice: number of the speaker within the split. text:
    phonemes, words: the
    English sentence. phone_ids: CLASSES, phone_starts_s: ascending. f0: float32 per mel frame, 0
    where unvoiced.
    """

    audio24: NDArray[np.int16]
    audio16: NDArray[np.int16]
    voice: int
    text: str
    words: str
    phone_ids: NDArray[np.int16]
    phone_starts_s: NDArray[np.float32]
    f0: NDArray[np.float32]

    def labels(self, times_s: NDArray[np.floating]) -> NDArray[np.int64]:
        """The class sounding at each time."""
        index = np.searchsorted(self.phone_starts_s, times_s, side="right") - 1
        return np.where(index < 0, 0, self.phone_ids[np.maximum(index, 0)]).astype(np.int64)

    @property
    def duration_s(self) -> float:
        return len(self.audio16) / TOKENIZER_RATE_HZ


class Corpus:
    """All clips of a split, or of several of the same speakers, one after the other."""

    def __init__(self, *directories: Path) -> None:
        self._shards = []
        self._where: list[tuple[int, int]] = []
        paths = [path for each in directories for path in sorted(each.glob("*.json"))]
        for number, path in enumerate(paths):
            meta = json.loads(path.read_text(encoding="utf-8"))
            stem = path.with_suffix("")
            arrays = {
                name: np.load(f"{stem}.{name}.npy", mmap_mode="r")
                for name in ("audio24", "audio16", "phone_ids", "phone_starts_s", "f0")
            }
            self._shards.append((meta, arrays))
            self._where += [(number, i) for i in range(len(meta["text"]))]
        self.voices = np.array([self._shards[s][0]["voice"][i] for s, i in self._where])
        self.durations_s = np.array(
            [
                (self._shards[s][0]["audio16"][i + 1] - self._shards[s][0]["audio16"][i])
                / TOKENIZER_RATE_HZ
                for s, i in self._where
            ]
        )
        self.of_voice = {v: np.flatnonzero(self.voices == v) for v in np.unique(self.voices)}

    def __len__(self) -> int:
        return len(self._where)

    def __getitem__(self, index: int) -> Clip:
        shard, i = self._where[index]
        meta, arrays = self._shards[shard]

        def part(name: str) -> NDArray:
            offsets = meta["phones" if name.startswith("phone") else name]
            return np.asarray(arrays[name][offsets[i] : offsets[i + 1]])

        return Clip(
            audio24=part("audio24"),
            audio16=part("audio16"),
            voice=meta["voice"][i],
            text=meta["text"][i],
            words=meta["words"][i],
            phone_ids=part("phone_ids"),
            phone_starts_s=part("phone_starts_s"),
            f0=part("f0"),
        )


def load_corpus(recipe: Recipe, *splits: str) -> Corpus:
    """Raises FileNotFoundError when the corpus stage has not run."""
    directories = [recipe.directory("corpus") / split for split in splits]
    for directory in directories:
        if not (directory / "done").is_file():
            raise FileNotFoundError(f"{directory} is not complete: run the stage `corpus` first")
    return Corpus(*directories)


def make_corpus(recipe: Recipe) -> None:
    """Synthesize every split; a split that is complete is kept."""
    for split in SPLITS:
        directory = recipe.directory("corpus") / split
        if (directory / "done").is_file():
            continue
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        n_speakers, n_each = recipe["corpus"][split]
        shards = range(0, n_speakers, SPEAKERS_PER_SHARD)
        with ProcessPoolExecutor(int(recipe["corpus"]["processes"])) as pool:
            jobs = [pool.submit(_make_shard, recipe, split, first, n_each) for first in shards]
            for job in progress(as_completed(jobs), f"corpus {split}", len(jobs)):
                job.result()
        (directory / "done").touch()


def speakers_of(recipe: Recipe, split: str) -> list[Speaker]:
    """The speakers of a split; `more` and `val` have those of `train`."""
    voices = "train" if split in TRAIN_VOICES else split
    n_speakers = int(recipe["corpus"][voices][0])
    return draw_speakers(n_speakers, recipe.seed * 10 + SPLIT_SEEDS[voices], voices[0])


def _sources(recipe: Recipe, split: str) -> TextSources:
    sources = TextSources.read(str(recipe["text"]["word_list"]), str(recipe["text"]["bible"]))
    is_eval = split in ("val", "held")
    chosen = [v for i, v in enumerate(sources.verses) if (i % EVAL_SHARE == 0) == is_eval]
    return TextSources(tuple(chosen), sources.words)


def _make_shard(recipe: Recipe, split: str, first: int, n_each: int) -> None:
    """The clips of a few speakers, written as one shard."""
    torch.set_num_threads(1)
    speakers = speakers_of(recipe, split)[first : first + SPEAKERS_PER_SHARD]
    directory = recipe.directory("corpus") / split
    stem = f"{directory}/{first:05d}"
    voices_dir = Path(f"{stem}.voices")
    espeak = Espeak(write_voices(speakers, voices_dir))
    texts = sentences(
        _sources(recipe, split), recipe.seed * 1000 + SPLIT_SEEDS[split] * 100_000 + first
    )
    if split in ("val", "held"):
        texts = (text for text in texts if len(text.split()) >= EVAL_MIN_WORDS)
    clips = []
    for number, speaker in enumerate(speakers):
        wanted = (_clip(espeak, speaker, first + number, text) for text in texts)
        clips += itertools.islice((clip for clip in wanted if clip is not None), n_each)
    _write(stem, clips)
    shutil.rmtree(voices_dir)


def _write(stem: str, clips: list[Clip]) -> None:
    meta: dict[str, list] = {
        name: [getattr(c, name) for c in clips] for name in ("voice", "text", "words")
    }
    for name in ("audio24", "audio16", "phone_ids", "phone_starts_s", "f0"):
        parts = [getattr(clip, name) for clip in clips]
        np.save(f"{stem}.{name}.npy", np.concatenate(parts))
        offsets = np.cumsum([0] + [len(part) for part in parts]).tolist()
        meta["phones" if name.startswith("phone") else name] = offsets
    Path(f"{stem}.json").write_text(json.dumps(meta, ensure_ascii=False), encoding="utf-8")


def _clip(espeak: Espeak, speaker: Speaker, voice: int, text: str) -> Clip | None:
    """None where nothing is spoken."""
    spoken = espeak.speak(text, speaker.settings)
    phones = phones_of(spoken.events)
    symbols = written(phones)
    if not symbols or not spoken.samples.any():
        return None
    raw = torch.from_numpy(spoken.samples.astype(np.float32) / 32768)
    raw = raw * min(
        LEVEL_RMS / float(raw.square().mean().sqrt()), LEVEL_PEAK / float(raw.abs().max())
    )
    at16 = resample(raw, spoken.rate_hz, TOKENIZER_RATE_HZ, torch.float64)
    start, stop = (n / TOKENIZER_RATE_HZ for n in _loud_span(normalise_peak(at16).numpy()))
    start_s, stop_s = start - KEEP_LEFT_S, stop + KEEP_RIGHT_S
    audio24 = _cut(resample(raw, spoken.rate_hz, RATE_HZ), start_s, stop_s, RATE_HZ)
    ids, starts = _alignment(phones, spoken.rate_hz, start_s)
    return Clip(
        audio24=audio24,
        audio16=_cut(at16, start_s, stop_s, TOKENIZER_RATE_HZ),
        voice=voice,
        text=symbols,
        words=text,
        phone_ids=ids,
        phone_starts_s=starts,
        f0=f0_of(audio24),
    )


def _alignment(
    phones: list[Phone], rate_hz: int, start_s: float
) -> tuple[NDArray[np.int16], NDArray[np.float32]]:
    sounds = [phone for phone in phones if phone.symbol != WORD_BORDER]
    ids = np.array([CLASS_ID[phone.symbol] for phone in sounds], np.int16)
    starts = np.array([phone.start_samples / rate_hz - start_s for phone in sounds], np.float32)
    return ids, starts


def _cut(samples: torch.Tensor, start_s: float, stop_s: float, rate_hz: int) -> NDArray[np.int16]:
    """The span as int16, zeros where the sound has less."""
    first, last = round(start_s * rate_hz), round(stop_s * rate_hz)
    padded = np.pad(samples.numpy(), (max(0, -first), max(0, last - len(samples))))
    first = max(0, first)
    return np.round(padded[first : first + last - round(start_s * rate_hz)] * 32767).astype(
        np.int16
    )


def f0_of(audio24: NDArray[np.int16] | NDArray[np.float32]) -> NDArray[np.float32]:
    """F0 in Hz in the middle of each mel frame, 0 where unvoiced; audio at 24 kHz."""
    import pyworld  # pyright: ignore[reportMissingImports] of the training extra

    samples = audio24.astype(np.float64) / (32768 if audio24.dtype == np.int16 else 1)
    low, high = F0_RANGE_HZ
    raw, times = pyworld.dio(samples, RATE_HZ, low, high, frame_period=F0_PERIOD_MS)
    refined = pyworld.stonemask(samples, raw, times, RATE_HZ)
    n_frames = len(samples) // HOP_SAMPLES
    values = refined[1::2][:n_frames]
    return np.pad(values, (0, n_frames - len(values))).astype(np.float32)


def f0_of_rate(samples: NDArray[np.int16], rate_hz: int) -> float:
    """Median F0 in Hz of speech at any rate, 0 where no frame is voiced."""
    f0 = f0_of(resample(torch.from_numpy(samples / np.float32(32768)), rate_hz, RATE_HZ).numpy())
    return float(np.median(f0[f0 > 0])) if (f0 > 0).any() else 0.0
