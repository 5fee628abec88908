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
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
import typer
from numpy.typing import NDArray

from pipeline.contracts import Sampling, SpeechRequest
from pipeline.local import LocalPipeline, _say
from training.config import DEFAULT_CONFIG, Recipe, load_recipe
from training.judging.listening import Listener, read_wav, to_16k
from training.judging.memory import peak_memory
from training.judging.phoneme_judge import errors, load_judge, phone_ids
from training.judging.strangers import Strangers, Verdict, is_mandarin
from training.judging.trials import (
    SEED,
    Speak,
    held_trials,
    judge_trial,
    many_requests,
    seen_trials,
    summary,
)
from training.models.linguistic_tokenizer import voice_medians_hz
from training.progress import progress
from training.speech.clips import RATE_HZ
from training.speech.corpus import load_corpus
from training.speech.speakers import ENGLISH, LANGUAGES, MANDARIN

HUMAN_SEEDS = 5  # of every sentence spoken after a real clip
OTHER_SENTENCES = (
    "The quick brown fox jumps over the lazy dog.",
    "A good voice needs only a few seconds to be remembered.",
    "Please leave the keys on the kitchen table, and close the garden gate behind you.",
    "We will meet again in the morning.",
    "她打开窗户，新鲜面包的香味充满了整个厨房。",
    "我们明天早上在车站旁边见面，好吗？",
)


def local_speak(pipeline: LocalPipeline) -> Speak:
    """Speak in this process."""

    def speak(
        upload: bytes, transcript: str, text: str, seed: int
    ) -> tuple[NDArray[np.float32], float]:
        request = SpeechRequest(text=text, transcript=transcript, sampling=Sampling(seed=seed))
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


def human_outcomes(
    recipe: Recipe, listener: Listener, strangers: Strangers, speak: Speak, directory: Path
) -> list[dict]:
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
        heard: dict[str, list[Verdict]] = {language: [] for language in LANGUAGES}
        for n, text in itertools.product(range(HUMAN_SEEDS), OTHER_SENTENCES):
            seed = SEED + 100 * n + OTHER_SENTENCES.index(text)
            made, _ = speak((directory / name).read_bytes(), transcript, text, seed)
            said = phone_ids(read_aloud(text))
            wrong += errors(listener.phones(made), said)
            count += len(said)
            pitches.append(listener.pitch_hz(made))
            language = MANDARIN if is_mandarin(text) else ENGLISH
            heard[language].append(strangers.judge(to_16k(made).numpy(), text))
        rows.append(
            {
                "clip": name,
                "phone_error": wrong / count,
                "word_error": {
                    language: sum(v.wrong for v in own) / sum(v.said for v in own)
                    for language, own in heard.items()
                },
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
    listener, strangers = Listener(load_judge(recipe)), Strangers()
    results: dict = {"copy": judge_copies(recipe, chosen.model, listener)}
    shown = []
    with _speaking(chosen.model, chosen.url) as speak, peak_memory() as memory:
        for kind, trials in (
            ("seen", seen_trials(recipe, chosen.trials)),
            ("held", held_trials(recipe, chosen.trials)),
        ):
            outcomes = []
            for n, trial in enumerate(progress(trials, f"cloning {kind}", len(trials))):
                outcome, made = judge_trial(listener, strangers, speak, trial, SEED + n)
                outcomes.append(outcome)
                if n < 2:
                    shown.append((f"{kind} {n + 1}", trial, made))
            results[kind] = summary(outcomes)
            results[f"{kind}_trials"] = [asdict(o) for o in outcomes]
        if chosen.human:
            results["human"] = human_outcomes(recipe, listener, strangers, speak, chosen.human)
        if chosen.requests:
            results["many"] = many_requests(recipe, speak, chosen.requests)
    if chosen.url:
        results["memory"] = {"peak_bytes": memory.peak_bytes, "of_stage": memory.of_stage_bytes}
    (chosen.out / "evaluation.json").write_text(json.dumps(results, indent=1) + "\n")
    plot_all(recipe, chosen.model, results, shown, chosen.out)
    (chosen.out / "table.md").write_text(markdown(results), encoding="utf-8")


if __name__ == "__main__":
    main()
