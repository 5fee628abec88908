# pyright: basic
"""Trials of a checkpoint: clones of seen and held-out voices, and what is measured of each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from training.config import Recipe
from training.judging.listening import Listener, Trial, audio, to_16k, wav_bytes
from training.judging.phoneme_judge import errors, phone_ids
from training.judging.strangers import Strangers, Verdict, is_mandarin
from training.progress import progress
from training.speech.clips import RATE_HZ, Corpus
from training.speech.corpus import load_corpus
from training.speech.speakers import ENGLISH, LANGUAGES, MANDARIN
from training.speech.text import MAX_WORDS, length_of

SHORT = 0.32  # of the longest sentence, 8 words: texts up to here are one class, longer the other
CLIPPED_AT, CLIPPED_SHARE = 0.98, 1e-3
SHORTEST_S, RUNAWAY = 0.15, 3.0  # seconds; times the original's length
QUIET_RMS = 1e-3  # -60 dB: quieter is empty
SHORTEST_REFERENCE_S = 2.0
SEED = 5
CLONE, ORIGINAL, REFERENCE = "clone", "original", "reference"

Speak = Callable[[bytes, str, str, int], tuple[NDArray[np.float32], float]]


@dataclass(slots=True)
class Outcome:
    """What was measured of one trial.

    Errors and lengths count phones; similarities are cosines; pitches in Hz. strangers: what they
    made of the clone, of the original and of the reference.
    """

    language: str
    words: int
    phones: int
    errors: int
    original_errors: int
    seconds: float
    original_seconds: float
    took_s: float
    to_reference: float
    to_other: float
    ceiling: float
    floor: float
    pitch_hz: float
    reference_pitch_hz: float
    mos: float
    original_mos: float
    strangers: dict[str, Verdict]
    faults: list[str] = field(default_factory=list)


def seen_trials(recipe: Recipe, count: int) -> list[Trial]:
    """Held-out sentences; the reference is a training clip of a training voice."""
    train, val = load_corpus(recipe, "train"), load_corpus(recipe, "val")
    return [
        Trial(train[_of(train, val[i].voice, n)], val[i], train[_not_of(train, val[i].voice, n)])
        for n, i in enumerate(_spread(val, count))
    ]


def held_trials(recipe: Recipe, count: int) -> list[Trial]:
    """Held-out sentences in held-out voices."""
    held = load_corpus(recipe, "held")
    trials = []
    for n, i in enumerate(_spread(held, count)):
        own = [
            j
            for j in held.of_voice[held[i].voice]
            if j != i and held.durations_s[j] > SHORTEST_REFERENCE_S
        ]
        trials.append(
            Trial(held[int(own[n % len(own)])], held[i], held[_not_of(held, held[i].voice, n)])
        )
    return trials


def _spread(corpus: Corpus, count: int) -> list[int]:
    """Clips of ever other voices, short and long texts in turn."""
    rng = np.random.default_rng(SEED)
    chosen: list[int] = []
    order = [int(i) for i in rng.permutation(len(corpus))]
    for n in range(count):
        want_long = n % 2 == 1
        taken = {corpus.voices[i] for i in chosen[-len(corpus.of_voice) // 2 :]}
        for i in order:
            is_long = length_of(corpus[i].words) > SHORT
            if is_long == want_long and i not in chosen and corpus.voices[i] not in taken:
                chosen.append(i)
                break
    return chosen


def _of(corpus: Corpus, voice: int, n: int) -> int:
    own = [i for i in corpus.of_voice[voice] if corpus.durations_s[i] > SHORTEST_REFERENCE_S]
    return int(own[n % len(own)])


def _not_of(corpus: Corpus, voice: int, n: int) -> int:
    rng = np.random.default_rng((SEED, n))
    while True:
        i = int(rng.integers(len(corpus)))
        if corpus.voices[i] != voice and corpus.durations_s[i] > SHORTEST_REFERENCE_S:
            return i


def judge_trial(
    listener: Listener, strangers: Strangers, speak: Speak, trial: Trial, seed: int
) -> tuple[Outcome, NDArray[np.float32]]:
    """Clone and measure; the audio is returned for plots."""
    reference, original, other = (audio(c) for c in (trial.reference, trial.original, trial.other))
    made, took_s = speak(wav_bytes(reference), trial.reference.words, trial.original.words, seed)
    said = phone_ids(trial.original.text)
    seconds, original_seconds = len(made) / RATE_HZ, len(original) / RATE_HZ
    faults = faults_of(made, original_seconds)
    if "empty" in faults:
        made = np.pad(np.nan_to_num(made), (0, RATE_HZ))
    a, r, o, x = (listener.identity(s) for s in (made, reference, other, original))
    heard = {
        name: strangers.judge(to_16k(samples).numpy(), clip.words)
        for name, samples, clip in (
            (CLONE, made, trial.original),
            (ORIGINAL, original, trial.original),
            (REFERENCE, reference, trial.reference),
        )
    }
    outcome = Outcome(
        language=MANDARIN if is_mandarin(trial.original.words) else ENGLISH,
        words=round(length_of(trial.original.words) * MAX_WORDS),
        phones=len(said),
        errors=errors(listener.phones(made), said),
        original_errors=errors(listener.phones(original), said),
        seconds=seconds,
        original_seconds=original_seconds,
        took_s=took_s,
        to_reference=float(a @ r),
        to_other=float(a @ o),
        ceiling=float(x @ r),
        floor=float(x @ o),
        pitch_hz=listener.pitch_hz(made),
        reference_pitch_hz=listener.pitch_hz(reference),
        mos=listener.mos(made),
        original_mos=listener.mos(original),
        strangers=heard,
        faults=faults,
    )
    return outcome, made


def faults_of(made: NDArray[np.float32], original_seconds: float) -> list[str]:
    """What is wrong with a clone without listening: empty, runaway, clipped."""
    faults, seconds = [], len(made) / RATE_HZ
    is_loud = len(made) and float(np.sqrt(np.mean(np.square(made)))) > QUIET_RMS
    if seconds < SHORTEST_S or not np.isfinite(made).all() or not is_loud:
        faults.append("empty")
    if seconds > RUNAWAY * original_seconds + 1:
        faults.append("runaway")
    if len(made) and (np.abs(made) > CLIPPED_AT).mean() > CLIPPED_SHARE:
        faults.append("clipped")
    return faults


def many_requests(recipe: Recipe, speak: Speak, count: int) -> dict:
    """Random held-out sentences in random voices, seen and held-out in turn: what went wrong."""
    splits = {name: load_corpus(recipe, name) for name in ("train", "val", "held")}
    rng = np.random.default_rng((SEED, count))
    wrong, made_s, took_s = [], 0.0, 0.0
    for n in progress(range(count), "requests", count):
        references, sentences = splits["train" if n % 2 else "held"], splits["val"]
        text = sentences[int(rng.integers(len(sentences)))]
        long_enough = np.flatnonzero(references.durations_s > SHORTEST_REFERENCE_S)
        reference = references[int(rng.choice(long_enough))]
        made, spent_s = speak(wav_bytes(audio(reference)), reference.words, text.words, n)
        made_s, took_s = made_s + len(made) / RATE_HZ, took_s + spent_s
        if faults := faults_of(made, text.duration_s):
            wrong.append({"request": n, "text": text.words, "faults": faults})
    return {"requests": count, "wrong": wrong, "rtf": took_s / made_s}


def summary(outcomes: list[Outcome]) -> dict[str, float]:
    """The figures of a set of trials."""
    short = [o for o in outcomes if o.words <= SHORT * MAX_WORDS]
    long = [o for o in outcomes if o.words > SHORT * MAX_WORDS]
    cents = [
        1200 * abs(np.log2(o.pitch_hz / o.reference_pitch_hz))
        for o in outcomes
        if o.pitch_hz and o.reference_pitch_hz
    ]
    return {
        "trials": len(outcomes),
        "phone_error_short": _rate(short, "errors"),
        "phone_error_short_original": _rate(short, "original_errors"),
        "phone_error_long": _rate(long, "errors"),
        "phone_error_long_original": _rate(long, "original_errors"),
        "similarity_to_reference": float(np.mean([o.to_reference for o in outcomes])),
        "similarity_to_other": float(np.mean([o.to_other for o in outcomes])),
        "similarity_ceiling": float(np.mean([o.ceiling for o in outcomes])),
        "similarity_floor": float(np.mean([o.floor for o in outcomes])),
        "nearer_to_reference": float(np.mean([o.to_reference > o.to_other for o in outcomes])),
        "nearer_to_reference_original": float(np.mean([o.ceiling > o.floor for o in outcomes])),
        "pitch_error_cents": float(np.median(cents)) if cents else float("nan"),
        "length_ratio": float(np.mean([o.seconds / o.original_seconds for o in outcomes])),
        "mos": float(np.mean([o.mos for o in outcomes])),
        "mos_original": float(np.mean([o.original_mos for o in outcomes])),
        **strangers_summary(outcomes),
        "faults": sum(bool(o.faults) for o in outcomes),
        "rtf": sum(o.took_s for o in outcomes) / max(1e-6, sum(o.seconds for o in outcomes)),
    }


def strangers_summary(outcomes: list[Outcome]) -> dict[str, float]:
    """Word errors (Mandarin: characters) and English phoneme errors, of what is heard and said."""
    figures: dict[str, float] = {}
    for language in LANGUAGES:
        own = [o for o in outcomes if o.language == language]
        for what in (CLONE, ORIGINAL, REFERENCE):
            heard = [o.strangers[what] for o in own]
            said, phonemes = (sum(getattr(v, n) for v in heard) for n in ("said", "phonemes"))
            if said:
                figures[f"{language}_words_{what}"] = sum(v.wrong for v in heard) / said
            if phonemes:
                wrong = sum(v.wrong_phonemes for v in heard)
                figures[f"{language}_phonemes_{what}"] = wrong / phonemes
    return figures


def _rate(outcomes: list[Outcome], name: str) -> float:
    phones = sum(o.phones for o in outcomes)
    return sum(getattr(o, name) for o in outcomes) / phones if phones else float("nan")
