# pyright: basic
"""Evaluation results as a table and pictures."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from training.config import Recipe
from training.loop import read_log, smoothed
from training.speech.mels import mel_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from training.judging.listening import Trial

CURVES = ("vq06", "vq02", "speaker", "judge", "llm", "f0", "hift", "hift_critics", "flow")
# the bars
WORDS = {"en": 0.10, "zh": 0.15}  # error in words, of Mandarin in characters
PHONEMES_ABOVE = 0.04  # of the references' own error
HUMAN_WORDS = 0.20  # with a person's clip as the reference
NEARER, CENTS = 0.95, 60
STOI, PESQ, MOS_DROP = 0.95, 2.5, 0.3


def markdown(results: dict) -> str:
    """A table of measurements and their bars."""
    rows = ["| what | measured | original | bar | met |", "|---|---|---|---|---|"]
    for kind in ("seen", "held"):
        rows += _clone_rows(kind, results[kind])
    for split, name in (("val", "seen"), ("held", "held")):
        rows += _copy_rows(
            name, results["copy"][f"{split}_hift"], results["copy"][f"{split}_griffin_lim"]
        )
    rows += [_human_row(clip) for clip in results.get("human", [])]
    if many := results.get("many"):
        count, wrong = many["requests"], len(many["wrong"])
        rows.append(_row(f"runaway, empty or clipped of {count} more", f"{wrong}", "0", wrong == 0))
    if memory := results.get("memory"):
        peak = memory["peak_bytes"] / 1e9
        what = "peak resident memory of the deployments, GB"
        rows.append(_row(what, f"{peak:.2f}", "≤ 4", peak <= 4))
    return "\n".join(rows) + "\n"


def _row(what: str, measured: str, bar: str, met: bool, original: str = "") -> str:
    return f"| {what} | {measured} | {original} | {bar} | {'yes' if met else 'no'} |"


def _clone_rows(kind: str, s: dict) -> list[str]:
    """Clones of one kind of voices: words and phones, likeness, faults and speed."""
    rows = _strangers_rows(kind, s)
    for length, words in (("short", "≤ 8 words"), ("long", "longer")):
        rows.append(
            f"| our own judge: phone error, {kind} voices, {words} "
            f"| {s[f'phone_error_{length}']:.3f} "
            f"| {s[f'phone_error_{length}_original']:.3f} | | |"
        )
    nearer, cents = s["nearer_to_reference"], s["pitch_error_cents"]
    what = f"nearer to the reference than to another voice, {kind}"
    original = f"{s['nearer_to_reference_original']:.3f}"
    rows += [
        _row(what, f"{nearer:.3f}", f"≥ {NEARER}", nearer >= NEARER, original),
        _row(f"median F0 error, {kind}, cents", f"{cents:.0f}", f"≤ {CENTS}", cents <= CENTS),
        f"| similarity to the reference, {kind} | {s['similarity_to_reference']:.3f} "
        f"| other voices {s['similarity_floor']:.3f}, "
        f"same voice {s['similarity_ceiling']:.3f} | | |",
        f"| DNSMOS overall, {kind} | {s['mos']:.2f} | {s['mos_original']:.2f} | | |",
    ]
    what = f"runaway, empty or clipped, {kind}, of {s['trials']}"
    rows.append(_row(what, f"{s['faults']}", "0", s["faults"] == 0))
    rtf, what = s["rtf"], f"whole path, real-time factor, {kind}"
    return [*rows, _row(what, f"{rtf:.2f}", "≤ 0.5", rtf <= 0.5)]


def _copy_rows(name: str, h: dict, g: dict) -> list[str]:
    """Copies, mel to HiFT, of one kind of voices (`h`), beside those by Griffin-Lim (`g`)."""
    stoi, level_db, pesq, change = h["stoi"], h["level_db"], h["pesq"], h["mos_change"]
    by_lim = f"Griffin-Lim {g['stoi']:.3f}", f"Griffin-Lim {g['pesq']:.2f}"
    what = f"copies' DNSMOS over the originals', {name}"
    return [
        _row(f"copy-synthesis STOI, {name}", f"{stoi:.3f}", f"≥ {STOI}", stoi >= STOI, by_lim[0]),
        _row(
            f"copy-synthesis level, {name}, dB",
            f"{level_db:+.2f}",
            "within 1",
            abs(level_db) <= 1,
            "0",
        ),
        _row(f"copy-synthesis PESQ, {name}", f"{pesq:.2f}", f"≥ {PESQ}", pesq >= PESQ, by_lim[1]),
        _row(what, f"{change:+.2f}", f"≥ -{MOS_DROP}", change >= -MOS_DROP, "0"),
        f"| copy-synthesis mel L1, {name} | {h['mel_l1']:.3f} "
        f"| Griffin-Lim {g['mel_l1']:.3f} | | |",
    ]


def _strangers_rows(kind: str, s: dict) -> list[str]:
    """Word, character and phoneme errors of clones beside the originals' and the references'."""
    rows = []
    for language, unit in (("en", "words"), ("zh", "characters")):
        name = f"{language}_words"
        if (value := s.get(f"{name}_clone")) is None:
            continue
        bar = WORDS[language]
        rows.append(
            f"| Whisper base: {unit}, {kind} voices | {value:.3f} "
            f"| {s[f'{name}_original']:.3f}, references {s[f'{name}_reference']:.3f} "
            f"| ≤ {bar} | {'yes' if value <= bar else 'no'} |"
        )
    if (value := s.get("en_phonemes_clone")) is not None:
        bar = s["en_phonemes_reference"] + PHONEMES_ABOVE
        rows.append(
            f"| hama: English phonemes, {kind} voices | {value:.3f} "
            f"| {s['en_phonemes_original']:.3f}, references {s['en_phonemes_reference']:.3f} "
            f"| ≤ {bar:.3f} | {'yes' if value <= bar else 'no'} |"
        )
    return rows


def _human_row(clip: dict) -> str:
    """The pitch moved toward the clip's when it lies nearer to it than the middle voice does.

    Being within 150 cents of it suffices, too.
    """

    def cents(hz: float) -> float:
        return 1200 * abs(math.log2(hz / clip["clip_pitch_hz"])) if hz else math.inf

    moved = cents(clip["pitch_hz"]) <= max(150, cents(clip["middle_pitch_hz"]))
    errors = clip["word_error"]
    met = moved and max(errors.values()) <= HUMAN_WORDS
    return (
        f"| real clip {clip['clip']}: English words; Mandarin characters; pitch "
        f"| {errors['en']:.3f}; {errors['zh']:.3f}; {clip['pitch_hz']:.0f} Hz "
        f"| clip {clip['clip_pitch_hz']:.0f} Hz, middle {clip['middle_pitch_hz']:.0f} Hz "
        f"| ≤ {HUMAN_WORDS}, toward the clip | {'yes' if met else 'no'} |"
    )


def plot_all(
    recipe: Recipe,
    model: str,
    results: dict,
    shown: list[tuple[str, Trial, NDArray[np.float32]]],
    out: Path,
) -> None:
    """Spectrograms of reference, original, copy and clone; training curves.

    Pitch and errors of all trials.
    """
    import matplotlib as mpl  # pyright: ignore[reportMissingImports] of the training extra

    mpl.use("Agg")
    _plot_spectrograms(model, shown, out / "spectrograms.png")
    _plot_curves(recipe, out / "curves.png")
    _plot_trials(results, out / "trials.png")


def _plot_spectrograms(
    model: str, shown: list[tuple[str, Trial, NDArray[np.float32]]], path: Path
) -> None:
    import torch
    from matplotlib import pyplot as plt  # pyright: ignore[reportMissingImports] of the training extra

    from training.judging.copy_synthesis import copy, load_generator
    from training.judging.listening import audio

    hift = load_generator(model)
    figure, axes = plt.subplots(len(shown), 4, figsize=(20, 3.2 * len(shown)), squeeze=False)
    for line, (name, trial, made) in zip(axes, shown, strict=True):
        original = audio(trial.original)
        parts = {
            f"{name}: reference": audio(trial.reference),
            "original of the sentence": original,
            "copy-synthesis of it": copy(hift, torch.from_numpy(original)),
            f"clone: {trial.original.words[:50]}": made,
        }
        for axis, (title, samples) in zip(line, parts.items(), strict=True):
            mel = mel_of(torch.from_numpy(np.array(samples, np.float32))).numpy().T
            axis.imshow(mel, origin="lower", aspect="auto", vmin=-10, vmax=1, cmap="magma")
            axis.set_title(title, fontsize=9)
            axis.set_xticks([])
    figure.tight_layout()
    figure.savefig(path, dpi=70)
    plt.close(figure)


def _plot_curves(recipe: Recipe, path: Path) -> None:
    from matplotlib import pyplot as plt  # pyright: ignore[reportMissingImports] of the training extra

    present = [stage for stage in CURVES if (recipe.directory(stage) / "log.jsonl").is_file()]
    columns = 4
    lines = math.ceil(len(present) / columns)
    figure, axes = plt.subplots(lines, columns, figsize=(16, 3 * lines), squeeze=False)
    for axis, stage in zip(axes.flat, present, strict=False):
        log = read_log(recipe.directory(stage))
        axis.plot([e["s"] / 60 for e in log], smoothed([e["loss"] for e in log]))
        axis.set_title(f"{stage}: training loss over minutes", fontsize=9)
        axis.set_yscale("log")
    figure.tight_layout()
    figure.savefig(path, dpi=70)
    plt.close(figure)


def _plot_trials(results: dict, path: Path) -> None:
    from matplotlib import pyplot as plt  # pyright: ignore[reportMissingImports] of the training extra

    figure, axes = plt.subplots(1, 3, figsize=(15, 4.2))
    for kind, colour in (("seen", "tab:blue"), ("held", "tab:orange")):
        trials = results[f"{kind}_trials"]
        axes[0].scatter(
            [t["reference_pitch_hz"] for t in trials],
            [t["pitch_hz"] for t in trials],
            s=12,
            c=colour,
            label=kind,
        )
        axes[1].scatter(
            [t["words"] for t in trials],
            [t["errors"] / t["phones"] for t in trials],
            s=12,
            c=colour,
        )
        axes[2].scatter(
            [t["to_other"] for t in trials], [t["to_reference"] for t in trials], s=12, c=colour
        )
    axes[0].plot([70, 400], [70, 400], "k:")
    axes[0].set(xlabel="reference F0, Hz", ylabel="clone F0, Hz", xscale="log", yscale="log")
    axes[0].legend()
    axes[1].set(xlabel="words", ylabel="phone error of the clone")
    axes[2].plot([0.4, 1], [0.4, 1], "k:")
    axes[2].set(xlabel="similarity to another voice", ylabel="similarity to the reference")
    figure.tight_layout()
    figure.savefig(path, dpi=70)
    plt.close(figure)
