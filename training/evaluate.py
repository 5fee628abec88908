# pyright: basic
"""The judge of a checkpoint.

`python -m training.evaluate` clones held-out voices and writes a table of what it measured.

Every figure stands beside the originals' own. It speaks through the whole path in this process, or
over HTTP with --url.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import itertools
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
import typer
from numpy.typing import NDArray

from pipeline.contracts import Sampling, SpeechRequest
from pipeline.local import LocalPipeline, _say
from training.config import DEFAULT_CONFIG, Recipe, load_recipe
from training.judging.listening import Listener, Trial, audio, read_wav, wav_bytes
from training.judging.memory import peak_memory
from training.judging.phoneme_judge import errors, load_judge, phone_ids
from training.models.linguistic_tokenizer import voice_medians_hz
from training.progress import progress
from training.speech.clips import RATE_HZ, Corpus
from training.speech.corpus import load_corpus

SHORT_WORDS = 8  # texts up to here are one class, longer ones the other
CLIPPED_AT, CLIPPED_SHARE = 0.98, 1e-3
SHORTEST_S, RUNAWAY = 0.15, 3.0  # seconds; times the original's length
QUIET_RMS = 1e-3  # -60 dB: quieter is empty
SHORTEST_REFERENCE_S = 2.0
SEED = 5
HUMAN_SEEDS = 5  # of every sentence spoken after a real clip: the four have 140 phones
OTHER_SENTENCES = (
    "The quick brown fox jumps over the lazy dog.",
    "A good voice needs only a few seconds to be remembered.",
    "Please leave the keys on the kitchen table, and close the garden gate behind you.",
    "We will meet again in the morning.",
)

Speak = Callable[[bytes, str, str, int], tuple[NDArray[np.float32], float]]


@dataclass(slots=True)
class Outcome:
    """What was measured of one trial.

    Errors and lengths count phones; similarities are cosines; pitches in Hz.
    """

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
    faults: list[str] = field(default_factory=list)


def local_speak(pipeline: LocalPipeline) -> Speak:
    """Speak in this process."""

    def speak(
        upload: bytes, transcript: str, text: str, seed: int
    ) -> tuple[NDArray[np.float32], float]:
        request = SpeechRequest(
            text=text, transcript=transcript, speaker="", sampling=Sampling(seed=seed)
        )
        begun = time.perf_counter()
        samples, _ = asyncio.run(_say(pipeline, upload, request))
        return samples, time.perf_counter() - begun

    return speak


def http_speak(url: str) -> Speak:
    """Speak through a running service."""
    import httpx

    client = httpx.Client(timeout=120, trust_env=False)

    def speak(
        upload: bytes, transcript: str, text: str, seed: int
    ) -> tuple[NDArray[np.float32], float]:
        body = {
            "input": text,
            "ref_audio": base64.b64encode(upload).decode(),
            "ref_text": transcript,
            "response_format": "wav",
            "seed": seed,
        }
        begun = time.perf_counter()
        reply = client.post(f"{url}/v1/audio/speech", json=body)
        reply.raise_for_status()
        return read_wav(reply.content), time.perf_counter() - begun

    return speak


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
            is_long = len(corpus[i].words.split()) > SHORT_WORDS
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
    listener: Listener, speak: Speak, trial: Trial, seed: int
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
    outcome = Outcome(
        words=len(trial.original.words.split()),
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
    short = [o for o in outcomes if o.words <= SHORT_WORDS]
    long = [o for o in outcomes if o.words > SHORT_WORDS]
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
        "faults": sum(bool(o.faults) for o in outcomes),
        "rtf": sum(o.took_s for o in outcomes) / max(1e-6, sum(o.seconds for o in outcomes)),
    }


def _rate(outcomes: list[Outcome], name: str) -> float:
    phones = sum(o.phones for o in outcomes)
    return sum(getattr(o, name) for o in outcomes) / phones if phones else float("nan")


def human_outcomes(recipe: Recipe, listener: Listener, speak: Speak, directory: Path) -> list[dict]:
    """Real clips as references: what is understood, and where the pitch goes.

    middle_pitch_hz: of the training voices, where a clone that heeds no reference would lie.
    """
    import librosa

    from pipeline.text.sounds.reading import read_aloud

    middle_hz = float(np.median(list(voice_medians_hz(load_corpus(recipe, "val")).values())))

    transcripts = json.loads((directory / "transcripts.json").read_text(encoding="utf-8"))
    rows = []
    for name, transcript in transcripts.items():
        clip, _ = librosa.load(directory / name, sr=RATE_HZ)
        wrong = count = 0
        pitches = []
        for n, text in itertools.product(range(HUMAN_SEEDS), OTHER_SENTENCES):
            seed = SEED + 100 * n + OTHER_SENTENCES.index(text)
            made, _ = speak((directory / name).read_bytes(), transcript, text, seed)
            said = phone_ids(read_aloud(text))
            wrong += errors(listener.phones(made), said)
            count += len(said)
            pitches.append(listener.pitch_hz(made))
        rows.append(
            {
                "clip": name,
                "phone_error": wrong / count,
                "pitch_hz": float(np.median(pitches)),
                "clip_pitch_hz": listener.pitch_hz(clip),
                "middle_pitch_hz": middle_hz,
            }
        )
    return rows


@contextmanager
def _speaking(model: str, url: str | None) -> Iterator[Speak]:
    """The service at `url`, or without one the model in this process."""
    if url:
        yield http_speak(url)
        return
    with LocalPipeline(model) as pipeline:
        yield local_speak(pipeline)


def print_losses(recipe: Recipe, model: str, people: Path | None, count: int, out: Path) -> None:
    """The table of what each stage loses, printed and written to `losses.md`."""
    from training.judging.losses import clips_of, losses_table, measure_losses
    from training.strangers import Strangers

    clips = clips_of(recipe, people, count)
    table = losses_table(measure_losses(model, clips, Strangers(), SEED))
    (out / "losses.md").write_text(table, encoding="utf-8")
    typer.echo(table)


def main(arguments: list[str] | None = None) -> None:
    """Parse, run, write `evaluation.json` and the plots, print the table."""
    from training.judging.copy_synthesis import judge_copies
    from training.judging.report import markdown, plot_all

    parser = argparse.ArgumentParser(prog="python -m training.evaluate", description=__doc__)
    parser.add_argument("--config", type=Path, default=DEFAULT_CONFIG)
    parser.add_argument("--work-dir", type=Path)
    parser.add_argument("--model", default="tiny", help="a checkpoint's name or directory")
    parser.add_argument("--url", help="a running service instead of this process")
    parser.add_argument("--trials", type=int, default=60, help="of each kind")
    parser.add_argument("--human", type=Path, help="directory of real clips with transcripts.json")
    parser.add_argument(
        "--requests", type=int, default=0, help="how many more clones to check for faults alone"
    )
    parser.add_argument(
        "--losses",
        type=int,
        metavar="N",
        help="only where the words are lost, by strangers: N clips of each source",
    )
    parser.add_argument("--out", type=Path, default=Path("evaluation"))
    chosen = parser.parse_args(arguments)
    recipe = load_recipe(chosen.config, work_dir=chosen.work_dir)
    torch.set_num_threads(int(recipe.tree["threads"]))
    chosen.out.mkdir(parents=True, exist_ok=True)
    if chosen.losses:
        print_losses(recipe, chosen.model, chosen.human, chosen.losses, chosen.out)
        return
    listener = Listener(load_judge(recipe))
    results: dict = {"copy": judge_copies(recipe, chosen.model, listener)}
    shown = []
    with _speaking(chosen.model, chosen.url) as speak, peak_memory() as memory:
        for kind, trials in (
            ("seen", seen_trials(recipe, chosen.trials)),
            ("held", held_trials(recipe, chosen.trials)),
        ):
            outcomes = []
            for n, trial in enumerate(progress(trials, f"cloning {kind}", len(trials))):
                outcome, made = judge_trial(listener, speak, trial, SEED + n)
                outcomes.append(outcome)
                if n < 2:
                    shown.append((f"{kind} {n + 1}", trial, made))
            results[kind] = summary(outcomes)
            results[f"{kind}_trials"] = [asdict(o) for o in outcomes]
        if chosen.human:
            results["human"] = human_outcomes(recipe, listener, speak, chosen.human)
        if chosen.requests:
            results["many"] = many_requests(recipe, speak, chosen.requests)
    if chosen.url:
        results["memory"] = {"peak_bytes": memory.peak_bytes, "of_stage": memory.of_stage_bytes}
    (chosen.out / "evaluation.json").write_text(json.dumps(results, indent=1) + "\n")
    plot_all(recipe, chosen.model, results, shown, chosen.out)
    (chosen.out / "table.md").write_text(markdown(results), encoding="utf-8")


if __name__ == "__main__":
    main()
