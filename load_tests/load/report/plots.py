"""Plots of results, as PNG files of less than 100 kB."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from load_tests.load.measures import STAGES
from load_tests.load.report.page import short_name
from load_tests.load.report.prices import usd_per_spoken_h

Result = Mapping[str, Any]

DPI = 80
SIZE = (8.0, 4.2)
MOST_PROCESSES = 10  # the largest
COLOURS = {"tokenizer": "tab:green", "llm": "tab:blue", "vocoder": "tab:orange", "rest": "0.7"}


def draw_all(results: Sequence[Result], directory: Path) -> list[tuple[str, Path]]:
    """Every plot that the results have something for: its title and its file."""
    directory.mkdir(parents=True, exist_ok=True)
    drawn: list[tuple[str, Path]] = []
    for name, (title, draw, some) in _PLOTS.items():
        chosen = [result for result in results if some(result)]
        if chosen:
            path = directory / f"{name}.png"
            figure = Figure(figsize=SIZE)
            axes = figure.subplots()
            draw(axes, chosen)
            axes.set_title(title, fontsize=10)
            figure.tight_layout()
            figure.savefig(path, dpi=DPI, metadata={"Software": None})
            drawn.append((title, path))
    return drawn


def _latency(axes: Axes, results: Sequence[Result]) -> None:
    (result, *_) = results
    offered = [phase["rate_hz"] for phase in result["phases"]]
    for share, style in (("p50", "-"), ("p95", "--"), ("p99", ":")):
        values = [phase["summary"]["first_audio_s"][share] for phase in result["phases"]]
        axes.plot(offered, values, f"o{style}", color="tab:blue", label=f"first audio, {share}")
    axes.set(xlabel="calls a second that were sent", ylabel="seconds")
    axes.set_yscale("log")
    answers = axes.twinx()
    goodput = [phase["summary"]["goodput_hz"] for phase in result["phases"]]
    answers.plot(offered, goodput, "s-", color="tab:green", label="good answers a second")
    answers.set_ylabel("good answers a second", color="tab:green")
    answers.set_ylim(bottom=0)
    axes.legend(loc="upper left", fontsize=8)


def _hits(axes: Axes, results: Sequence[Result]) -> None:
    saved = axes.twinx()
    for result in results:
        name = result["workload"]["name"]
        told = [one for one in result["over_time"] if one["told"]]
        (line,) = axes.plot(
            [one["ends_s"] for one in told],
            [100 * one["voice_hits"] / one["told"] for one in told],
            "o-",
            markersize=3,
            label=f"{name}: voices known",
        )
        counted = [one for one in told if one["saved_s"] is not None]
        saved.plot(
            [one["ends_s"] for one in counted],
            [one["saved_s"] for one in counted],
            ":",
            color=line.get_color(),
        )
    axes.set(xlabel="seconds of the run", ylabel="% of calls", ylim=(0, 105))
    saved.set_ylabel("seconds saved since the beginning (dotted)")
    axes.legend(loc="lower right", fontsize=8)


def _stages(axes: Axes, results: Sequence[Result]) -> None:
    names = [result["workload"]["name"] for result in results]
    left = [0.0] * len(results)
    for stage in (*STAGES, "rest"):
        parts = [result["summary"]["stages_s"].get(stage, 0.0) for result in results]
        axes.barh(names, parts, left=left, color=COLOURS[stage], label=stage)
        left = [done + part for done, part in zip(left, parts, strict=True)]
    axes.set_xlabel("mean seconds until the first audio, of speech that was made")
    axes.invert_yaxis()
    axes.legend(fontsize=8)


def _underruns(axes: Axes, results: Sequence[Result]) -> None:
    names = [result["workload"]["name"] for result in results]
    axes.barh(names, [100 * result["summary"]["dry_share"] for result in results], color="tab:red")
    for index, result in enumerate(results):
        told = result["summary"]
        axes.text(
            100 * told["dry_share"] + 1,
            index,
            f"{told['stall_s']:.1f} s in all, longest {told['longest_stall_s']:.1f} s",
            va="center",
            fontsize=8,
        )
    axes.set(xlabel="% of answers that ran dry", xlim=(0, 150), xticks=range(0, 101, 20))
    axes.invert_yaxis()


def _cost(axes: Axes, results: Sequence[Result]) -> None:
    names = [result["workload"]["name"] for result in results]
    axes.barh(names, [usd_per_spoken_h(result) or 0.0 for result in results], color="tab:purple")
    axes.set_xlabel("USD for an hour of speech, the whole machine paid for, busy or not")
    axes.invert_yaxis()


def _energy(axes: Axes, results: Sequence[Result]) -> None:
    names = [result["workload"]["name"] for result in results]
    axes.barh(names, [one["summary"]["joules_per_audio_s"] for one in results], color="tab:olive")
    axes.set_xlabel("joules for a second of speech")
    axes.invert_yaxis()


def _memory(axes: Axes, results: Sequence[Result]) -> None:
    (result, *_) = results
    told = result["memory"]
    largest = sorted(told["processes"], key=lambda one: -one["private_bytes"])[:MOST_PROCESSES]
    for one in largest:
        axes.plot(told["at_s"], one["private_mib"], label=short_name(one["name"]))
    axes.set(xlabel="seconds of the run", ylabel="own memory, MiB")
    axes.set_ylim(bottom=0)
    axes.legend(fontsize=7, ncols=2)


def _named(*names: str) -> Callable[[Result], bool]:
    return lambda result: result["workload"]["name"] in names


def _tells_memory(result: Result) -> bool:
    return result["workload"]["name"] == "soak" and bool(result["memory"]["processes"])


def _tells_hits(result: Result) -> bool:
    return result["workload"]["voices"]["kind"] == "clips" and len(result["over_time"]) > 3


_PLOTS: dict[
    str, tuple[str, Callable[[Axes, Sequence[Result]], None], Callable[[Result], bool]]
] = {
    "latency": ("First audio and good answers over load", _latency, _named("staircase")),
    "hits": ("Hit rate, and seconds saved, over time", _hits, _tells_hits),
    "stages": (
        "Where the first audio's time goes",
        _stages,
        lambda r: bool(r["summary"]["stages_s"]),
    ),
    "underruns": (
        "Answers that ran dry",
        _underruns,
        lambda r: r["summary"]["dry_share"] is not None,
    ),
    "cost": ("Cost of an hour of speech", _cost, lambda r: usd_per_spoken_h(r) is not None),
    "energy": (
        "Energy of a second of speech",
        _energy,
        lambda r: r["summary"]["joules_per_audio_s"] is not None,
    ),
    "memory": ("Memory of the largest processes", _memory, _tells_memory),
}
