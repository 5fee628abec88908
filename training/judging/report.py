# pyright: basic
"""Evaluation results as a table and pictures. Measures nothing."""

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


def markdown(results: dict) -> str:
    """The bars, what was measured, and how far it is."""
    rows = ["| what | measured | original | bar | met |", "|---|---|---|---|---|"]

    def row(what: str, value: float, original: str, bar: str, met: bool, form: str = ".3f") -> None:
        rows.append(f"| {what} | {value:{form}} | {original} | {bar} | {'yes' if met else 'no'} |")

    for kind, share, cents in (("seen", 0.9, 150), ("held", 0.8, 300)):
        s = results[kind]
        for length, slack in (("short", 0.10), ("long", 0.15)):
            own = s[f"phone_error_{length}_original"]
            value = s[f"phone_error_{length}"]
            words = "≤ 8 words" if length == "short" else "9–20 words"
            row(
                f"phone error, {kind} voices, {words}",
                value,
                f"{own:.3f}",
                f"≤ {own + slack:.3f}",
                value <= own + slack,
            )
        value = s["nearer_to_reference"]
        row(
            f"nearer to the reference than to another voice, {kind}",
            value,
            f"{s['nearer_to_reference_original']:.3f}",
            f"≥ {share}",
            value >= share,
        )
        value = s["pitch_error_cents"]
        row(f"median F0 error, {kind}, cents", value, "", f"≤ {cents}", value <= cents, ".0f")
        similarity = (s["similarity_floor"], s["similarity_ceiling"])
        rows.append(
            f"| similarity to the reference, {kind} | {s['similarity_to_reference']:.3f} "
            f"| other voices {similarity[0]:.3f}, same voice {similarity[1]:.3f} | | |"
        )
        rows.append(f"| DNSMOS overall, {kind} | {s['mos']:.2f} | {s['mos_original']:.2f} | | |")
        row(
            f"runaway, empty or clipped, {kind}, of {s['trials']}",
            s["faults"],
            "",
            "0",
            s["faults"] == 0,
            "d",
        )
        row(f"whole path, real-time factor, {kind}", s["rtf"], "", "≤ 0.5", s["rtf"] <= 0.5, ".2f")
    for split in ("val", "held"):
        h, g = results["copy"][f"{split}_hift"], results["copy"][f"{split}_griffin_lim"]
        name = "seen" if split == "val" else "held"
        row(
            f"copy-synthesis STOI, {name}",
            h["stoi"],
            f"Griffin-Lim {g['stoi']:.3f}",
            "≥ 0.92",
            h["stoi"] >= 0.92,
        )
        row(
            f"copy-synthesis level, {name}, dB",
            h["level_db"],
            "0",
            "within 1",
            abs(h["level_db"]) <= 1,
            "+.2f",
        )
        better = h["mel_l1"] < g["mel_l1"] or h["pesq"] > g["pesq"]
        row(
            f"copy-synthesis mel L1, {name}",
            h["mel_l1"],
            f"Griffin-Lim {g['mel_l1']:.3f}",
            "below, or PESQ above",
            better,
        )
        rows.append(
            f"| copy-synthesis PESQ, {name} | {h['pesq']:.2f} | Griffin-Lim {g['pesq']:.2f} | | |"
        )
    rows += [
        _human_row(clip, _own_error(results["held_trials"])) for clip in results.get("human", [])
    ]
    if many := results.get("many"):
        count, wrong = many["requests"], len(many["wrong"])
        row(f"runaway, empty or clipped of {count} more", wrong, "", "0", wrong == 0, "d")
    if memory := results.get("memory"):
        peak = memory["peak_bytes"] / 1e9
        row("peak resident memory of the deployments, GB", peak, "", "≤ 4", peak <= 4, ".2f")
    return "\n".join(rows) + "\n"


def _own_error(trials: list[dict]) -> float:
    return sum(t["original_errors"] for t in trials) / sum(t["phones"] for t in trials)


def _human_row(clip: dict, own: float) -> str:
    """The pitch moved toward the clip's when it lies nearer to it than the middle voice does.

    Or within 150 cents of it.
    """

    def cents(hz: float) -> float:
        return 1200 * abs(math.log2(hz / clip["clip_pitch_hz"])) if hz else math.inf

    moved = cents(clip["pitch_hz"]) <= max(150, cents(clip["middle_pitch_hz"]))
    met = clip["phone_error"] <= own + 0.2 and moved
    return (
        f"| real clip {clip['clip']}: phone error; pitch | {clip['phone_error']:.3f}; "
        f"{clip['pitch_hz']:.0f} Hz | {own:.3f}; clip {clip['clip_pitch_hz']:.0f} Hz, middle "
        f"{clip['middle_pitch_hz']:.0f} Hz | ≤ {own + 0.2:.3f}, toward the clip "
        f"| {'yes' if met else 'no'} |"
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
