"""Plots of the page, as SVG files of less than 60 kB, equal for equal numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

Answers = Mapping[str, Any]

SIZE = (7.0, 3.8)
STYLE: Any = {"svg.hashsalt": "capacity", "svg.fonttype": "none", "font.size": 9}
TIERS = {"l1": "memory of the router", "l2": "memory of the cluster", "l3": "store"}


def draw_all(answers: Answers, directory: Path) -> None:
    """A file for each of PLOTS, by its name."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, (title, draw) in PLOTS.items():
        with mpl.rc_context(STYLE):
            figure = Figure(figsize=SIZE)
            axes = figure.subplots()
            draw(axes, answers)
            axes.set_title(title, fontsize=10)
            figure.tight_layout()
            figure.savefig(
                directory / f"{name}.svg", metadata={"Date": None, "Creator": None}, format="svg"
            )


def _cards(axes: Axes, answers: Answers) -> None:
    for (voice, speech), rows in by_hits(answers["table"]).items():
        axes.plot(
            [row["question"]["rps"] for row in rows],
            [row["plan"]["cards"] for row in rows],
            "o-",
            label=f"voices known {voice:.0%}, speech found {speech:.0%}",
        )
    axes.set(xlabel="requests a second", ylabel="L40S", xscale="log", yscale="log")
    axes.legend()


def _targets(axes: Axes, answers: Answers) -> None:
    for (voice, speech), rows in by_hits(answers["targets"]).items():
        axes.plot(
            [row["question"]["first_audio_s"] for row in rows],
            [row["plan"]["cards"] for row in rows],
            "o-",
            label=f"voices known {voice:.0%}, speech found {speech:.0%}",
        )
    axes.set(xlabel="first audio of 95 in 100, seconds", ylabel="L40S for 100 requests a second")
    axes.set_ylim(bottom=0)
    axes.legend()


def _hits(axes: Axes, answers: Answers) -> None:
    rows = answers["speech_hits"]
    shares = [100 * row["question"]["speech_hits"] for row in rows]
    axes.plot(shares, [row["plan"]["usd_spoken_h"] for row in rows], "o-", color="tab:purple")
    axes.set(xlabel="% of requests that were spoken before", ylabel="USD for an hour of speech")
    axes.set_ylim(bottom=0)


def _loads(axes: Axes, answers: Answers) -> None:
    lost = axes.twinx()
    for is_on, colour in ((True, "tab:blue"), (False, "tab:red")):
        rows = [row for row in answers["loads"] if row["admission"] is is_on]
        rps = [row["rps"] for row in rows]
        name = "on" if is_on else "off"
        firsts = [row["first_s"][1] for row in rows]
        axes.plot(rps, firsts, "o-", color=colour, label=f"first audio p95, admission {name}")
        bad = [100 * (row["refused"] if is_on else row["ran_dry"]) for row in rows]
        what = "% refused" if is_on else "% ran dry"
        lost.plot(rps, bad, "s:", color=colour, label=f"{what}, admission {name}")
    axes.set(xlabel="requests a second to two vocoders and one LLM", ylabel="seconds")
    axes.set_ylim(bottom=0)
    lost.set(ylabel="% (dotted)", ylim=(0, 100))
    axes.legend(loc="upper left")


def _caches(axes: Axes, answers: Answers) -> None:
    for what, style in (("voice", "-"), ("speech", "--")):
        rows = [row for row in answers["caches"] if row["what"] == what]
        sizes, below = [row["l1_mib"] for row in rows], [0.0] * len(rows)
        for tier, name in TIERS.items():
            below = [b + row.get(tier, 0.0) for b, row in zip(below, rows, strict=True)]
            shares = [100 * share for share in below]
            axes.plot(sizes, shares, f"o{style}", markersize=3, label=f"{what}: up to {name}")
    axes.set(xlabel="MiB of a router's memory", ylabel="% of requests", xscale="log", ylim=(0, 100))
    axes.legend(fontsize=7)


def by_hits(rows: list[dict[str, Any]]) -> dict[tuple[float, float], list[dict[str, Any]]]:
    """Answers by the hit rates that were asked for; those without a plan are left out."""
    found: dict[tuple[float, float], list[dict[str, Any]]] = {}
    for row in rows:
        asked = row["question"]
        if "plan" in row:
            found.setdefault((asked["voice_hits"], asked["speech_hits"]), []).append(row)
    return found


PLOTS: Mapping[str, tuple[str, Callable[[Axes, Answers], None]]] = {
    "cards": ("L40S by requests a second, first audio within 1.5 s", _cards),
    "targets": ("L40S by the first audio that is asked for", _targets),
    "hits": ("What an hour of speech costs by what was spoken before", _hits),
    "loads": ("Two vocoders and an LLM, each on an L40S, under load", _loads),
    "caches": ("Hits by a router's memory: 20,000 things, Zipf 0.9, four routers", _caches),
}
