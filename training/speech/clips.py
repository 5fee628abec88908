# pyright: basic
"""Clips of speech with their alignments, kept in shards: FLAC, arrays and a JSON of texts.

A shard is unpacked beside itself when it is first read: training reads single clips at random.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.stepaudio.tokenizer.waveform import resample

RATE_HZ, TOKENIZER_RATE_HZ = 24_000, 16_000
HOP_SAMPLES = 480
_ARRAYS = ("phone_ids", "phone_marks", "phone_starts_s", "symbol_starts_s", "f0")
_SOUNDS = ("audio24", "audio16")
_OFFSETS: dict[str, str] = dict.fromkeys(("phone_ids", "phone_marks", "phone_starts_s"), "phones")


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """One utterance.

    audio24, audio16: int16 at 24 and 16 kHz. voice: number of the speaker within the split. text:
    sounds, words: the sentence. phone_ids: CLASSES, phone_marks: MARKS, phone_starts_s: ascending.
    symbol_starts_s: of the silence before, each character of `text`, and the silence after, as the
    teacher counted them. f0: float32 per mel frame, 0 where unvoiced.
    """

    audio24: NDArray[np.int16]
    audio16: NDArray[np.int16]
    voice: int
    text: str
    words: str
    phone_ids: NDArray[np.int16]
    phone_marks: NDArray[np.int8]
    phone_starts_s: NDArray[np.float32]
    symbol_starts_s: NDArray[np.float32]
    f0: NDArray[np.float32]

    def labels(self, times_s: NDArray[np.floating]) -> NDArray[np.int64]:
        """The class sounding at each time."""
        return self._at(times_s, self.phone_ids)

    def marks(self, times_s: NDArray[np.floating]) -> NDArray[np.int64]:
        """The mark of the phone sounding at each time."""
        return self._at(times_s, self.phone_marks)

    def _at(self, times_s: NDArray[np.floating], values: NDArray) -> NDArray[np.int64]:
        index = np.searchsorted(self.phone_starts_s, times_s, side="right") - 1
        return np.where(index < 0, 0, values[np.maximum(index, 0)]).astype(np.int64)

    @property
    def duration_s(self) -> float:
        return len(self.audio16) / TOKENIZER_RATE_HZ


class Corpus:
    """All clips of a split, or of several of the same speakers, one after the other."""

    def __init__(self, *directories: Path) -> None:
        self._shards: list[tuple[dict, Path]] = []
        self._open: dict[int, dict[str, NDArray]] = {}
        self._where: list[tuple[int, int]] = []
        paths = [path for each in directories for path in sorted(each.glob("*.json"))]
        for number, path in enumerate(paths):
            meta = json.loads(path.read_text(encoding="utf-8"))
            self._shards.append((meta, path.with_suffix("")))
            self._where += [(number, i) for i in range(len(meta["text"]))]
        self.voices = np.array([self._shards[s][0]["voice"][i] for s, i in self._where], np.int64)
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
        meta, stem = self._shards[shard]
        if shard not in self._open:
            self._open[shard] = _opened(stem, meta)
        arrays = self._open[shard]

        def part(name: str) -> NDArray:
            offsets = meta[_OFFSETS.get(name, name)]
            return np.asarray(arrays[name][offsets[i] : offsets[i + 1]])

        return Clip(
            voice=meta["voice"][i],
            text=meta["text"][i],
            words=meta["words"][i],
            **{name: part(name) for name in (*_SOUNDS, *_ARRAYS)},
        )


def write_shard(stem: Path, clips: list[Clip]) -> None:
    """The clips as one shard, whole or not at all: its JSON comes last."""
    import soundfile

    meta: dict[str, list] = {
        name: [getattr(c, name) for c in clips] for name in ("voice", "text", "words")
    }
    arrays = {}
    for name in (*_SOUNDS, *_ARRAYS):
        parts = [getattr(clip, name) for clip in clips]
        arrays[name] = np.concatenate(parts)
        offsets = np.cumsum([0] + [len(part) for part in parts]).tolist()
        meta[_OFFSETS.get(name, name)] = offsets
    soundfile.write(f"{stem}.flac", arrays["audio24"], RATE_HZ, subtype="PCM_16", format="FLAC")
    np.savez(f"{stem}.npz", **{name: arrays[name] for name in _ARRAYS})
    part = stem.with_suffix(".part")
    part.write_text(json.dumps(meta, ensure_ascii=False), encoding="utf-8")
    os.replace(part, stem.with_suffix(".json"))


def _opened(stem: Path, meta: dict) -> dict[str, NDArray]:
    """A shard's arrays; sounds are mapped from the disk."""
    if not all(Path(f"{stem}.{name}.npy").is_file() for name in _SOUNDS):
        _unpack(stem, meta)
    arrays = {
        name: np.load(f"{stem}.{name}.npy", mmap_mode="r", allow_pickle=False) for name in _SOUNDS
    }
    with np.load(f"{stem}.npz", allow_pickle=False) as stored:
        return arrays | {name: stored[name] for name in _ARRAYS}


def _unpack(stem: Path, meta: dict) -> None:
    """FLAC at 24 kHz → both sounds as plain arrays."""
    import soundfile

    audio24, _ = soundfile.read(f"{stem}.flac", dtype="int16")
    edges24, edges16 = meta["audio24"], meta["audio16"]
    audio16 = np.zeros(edges16[-1], np.int16)
    for n in range(len(meta["text"])):
        raw = torch.from_numpy(audio24[edges24[n] : edges24[n + 1]] / np.float32(32768))
        low = resample(raw, RATE_HZ, TOKENIZER_RATE_HZ).numpy()
        length = edges16[n + 1] - edges16[n]
        low = np.pad(low[:length], (0, max(0, length - len(low))))
        audio16[edges16[n] : edges16[n + 1]] = np.round(low * 32767).clip(-32768, 32767)
    for name, sound in (("audio24", audio24), ("audio16", audio16)):
        part = Path(f"{stem}.{name}.part.npy")
        np.save(part, sound)
        os.replace(part, f"{stem}.{name}.npy")
