"""Alignments, the split of the teacher's voices, and shards of clips."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from training.config import Recipe
from training.speech.alignment import CLASS_ID, MARK_ID, aligned, phone_runs
from training.speech.clips import Clip, Corpus, write_shard
from training.speech.corpus import CLIPS_A_SHARD, _sources, plan_shard, speakers_of
from training.speech.speakers import HELD, mixed_speakers, split_voices, style_of
from training.speech.teacher import FRAME_SAMPLES, RATE_HZ, Spoken

pytestmark = pytest.mark.unit

VOICES = [
    *HELD,
    "af_heart",
    "am_adam",
    "bf_emma",
    "bm_lewis",
    "zf_xiaobei",
    "zm_yunjian",
    "jf_alpha",
]
RECIPE = Recipe(
    Path(),
    {"corpus": {"speakers": {"train": 12, "judge": 2}}, "text": {"word_list": "", "bible": ""}},
    seed=3,
)


def test_frames_of_marks_and_borders_go_to_their_sounds() -> None:
    text = "kʰˈæ ta↘, a"
    frames = np.array([2, 1, 3, 4, 2, 1, 5, 2, 7, 2, 3])
    runs = phone_runs(text, frames)
    assert runs == [
        (CLASS_ID["kʰ"], 0, 3.0),
        (CLASS_ID["æ"], MARK_ID["ˈ"], 8.0),
        (CLASS_ID["t"], 0, 2.0),
        (CLASS_ID["a"], MARK_ID["↘"], 7.0),
        (0, 0, 8.0),
        (CLASS_ID["a"], 0, 4.0),
    ]
    assert sum(n for _, _, n in runs) == frames.sum()


def test_a_quiet_end_before_a_pause_is_silence() -> None:
    frames = np.array([4, 12, 4, 8])
    spoken = Spoken(np.zeros(0, np.float32), frames, before=4, after=4)
    samples = np.zeros(32 * FRAME_SAMPLES)
    loud = slice(4 * FRAME_SAMPLES, 12 * FRAME_SAMPLES)
    samples[loud] = np.sin(np.arange(8 * FRAME_SAMPLES))
    made = aligned("ta, ", spoken, samples)
    assert made.ids.tolist() == [0, CLASS_ID["t"], CLASS_ID["a"], 0, 0]
    assert made.starts_s[0] == 0
    assert made.starts_s[1] == pytest.approx(0.075)
    assert made.starts_s[3] == pytest.approx(12 * FRAME_SAMPLES / RATE_HZ, abs=0.01)
    assert (np.diff(made.starts_s) >= 0).all()


def test_playing_faster_brings_everything_nearer() -> None:
    spoken = Spoken(np.zeros(0, np.float32), np.array([8, 8]), before=8, after=8)
    usual, faster = (aligned("ta", spoken, np.ones(32 * FRAME_SAMPLES), f) for f in (1.0, 1.1))
    assert usual.starts_s[1:3] == pytest.approx(1.1 * faster.starts_s[1:3])


def test_no_mean_for_training_touches_a_held_out_voice() -> None:
    uses = split_voices(VOICES)
    assert sorted(uses["held"]) == sorted(HELD)
    assert uses["judge"] == ["jf_alpha"]
    assert not set(uses["train"]) & set(uses["held"])
    for split in ("train", "val", "judge"):
        for speaker in speakers_of(RECIPE, split, VOICES):
            assert not set(speaker.weights) & set(HELD)
    held = speakers_of(RECIPE, "held", VOICES)
    assert sorted(name for s in held for name in s.weights) == sorted(HELD)
    assert all(s.tract == s.pitch == 1 and len(s.weights) == 1 for s in held)


def test_speakers_are_spread_evenly_and_mixed_within_a_language() -> None:
    speakers = mixed_speakers(split_voices(VOICES)["train"], 40, 1)
    assert [s.languages[0] for s in speakers[1::2]].count(
        "en"
    ) <= 8  # who speak both count English first
    tracts = sorted(np.log(s.tract) for s in speakers)
    assert np.abs(np.diff(tracts)).max() < 0.02
    for speaker in speakers:
        assert sum(speaker.weights.values()) == pytest.approx(1)
        assert len({name[0] in "z" for name in speaker.weights}) == 1
        assert speaker.tract * 200 == pytest.approx(round(speaker.tract * 200))
    rows = {name: np.full((2, 2), i, np.float32) for i, name in enumerate(VOICES)}
    assert style_of(speakers[0], rows).dtype == np.float32


@pytest.mark.slow
def test_every_shard_has_both_languages_and_is_planned_alike_again() -> None:
    speakers = speakers_of(RECIPE, "train", VOICES)
    first, again = (plan_shard(RECIPE, "train", 1, speakers) for _ in range(2))
    assert first == again != plan_shard(RECIPE, "train", 2, speakers)
    assert [p.voice for p in first] == [n % 12 for n in range(CLIPS_A_SHARD)]
    mandarin = sum(any("\u4e00" <= c <= "\u9fff" for c in p.text) for p in first)
    assert 8 <= mandarin <= 18


@pytest.mark.slow
def test_word_salads_are_for_training_alone() -> None:
    sources = {split: _sources(RECIPE, split)["zh"].words for split in ("train", "val", "held")}
    assert len(sources["train"]) > 10_000
    assert sources["val"] == sources["held"] == ()


def test_a_shard_gives_its_clips_back(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    clips = [
        Clip(
            audio24=rng.integers(-900, 900, 2400 * n).astype(np.int16),
            audio16=np.zeros(1600 * n, np.int16),
            voice=n,
            text="ta",
            words="他",
            phone_ids=np.arange(n, dtype=np.int16),
            phone_marks=np.arange(n, dtype=np.int8),
            phone_starts_s=np.arange(n, dtype=np.float32),
            symbol_starts_s=np.arange(4, dtype=np.float32),
            f0=np.full(5 * n, n, np.float32),
        )
        for n in (1, 2, 3)
    ]
    write_shard(tmp_path / "00000", clips)
    corpus = Corpus(tmp_path)
    assert corpus.durations_s.tolist() == pytest.approx([0.1, 0.2, 0.3])
    for clip, kept in zip(clips, (corpus[i] for i in range(3)), strict=True):
        np.testing.assert_array_equal(kept.audio24, clip.audio24)
        np.testing.assert_array_equal(kept.phone_marks, clip.phone_marks)
        assert len(kept.audio16) == len(clip.audio16)
        assert kept.marks(np.array([-1.0, clip.phone_starts_s[-1] + 0.5])).tolist() == [
            0,
            clip.phone_marks[-1],
        ]
