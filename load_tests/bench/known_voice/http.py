"""First audio over HTTP of a known voice and a new text, beside an older commit, and after a start.

    python -m load_tests.bench.known_voice.http [--commit HASH] [--texts 7] [--json FILE]

Both trees' services run at the same time, one of them idle while the other is asked, in turns. Then
ours is started once more on the same records: the first request of each voice, and one that follows
it, are compared. A commit whose service does not start is left out, with its last words.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import httpx

from load_tests.bench.beside_commit import checked_out
from load_tests.bench.known_voice.services import ROOT, first_audio_s, service
from load_tests.bench.provenance import provenance
from load_tests.bench.report import Row, publish
from pipeline.voice_list import load_voices

TEXTS = (
    "One two three four five six seven eight.",
    "There was nothing to be seen from the window.",
    "He asked for the letter and went away.",
    "The water was cold and the boat was small.",
    "Nobody had told her about the second door.",
    "We will meet again in the morning.",
    "They walked along the river until it was dark.",
)
KNOWN = "It is a known voice from now on."
BESIDE_BAR = 3.0  # the old commit's time over ours
START_BAR = 1.2  # of a new process over a warm one


def compared(old: httpx.Client, new: httpx.Client, n_texts: int) -> list[Row]:
    """In turns, one voice."""
    voice = next(iter(load_voices()))
    for client in (old, new):
        first_audio_s(client, voice, KNOWN, 0)
        first_audio_s(client, voice, KNOWN, 1)
    before: list[float] = []
    after: list[float] = []
    for seed, text in zip(range(n_texts), itertools.cycle(TEXTS), strict=False):
        order = (old, new) if seed % 2 else (new, old)
        for client in order:
            taken = before if client is old else after
            taken.append(first_audio_s(client, voice, text, seed))
    ratios = sorted(b / a for b, a in zip(before, after, strict=True))
    return [
        Row("first audio, known voice, new text: old commit", statistics.median(before), "s"),
        Row("first audio, known voice, new text: this tree", statistics.median(after), "s"),
        Row("the fastest: old commit", min(before), "s"),
        Row("the fastest: this tree", min(after), "s"),
        Row("the fastest: old over new", min(before) / min(after), "x"),
        Row(
            f"old over new, {ratios[0]:.2f} to {ratios[-1]:.2f}",
            statistics.median(ratios),
            "x",
            BESIDE_BAR,
            "higher",
        ),
    ]


def spoken_by_all(client: httpx.Client) -> None:
    """Every listed voice becomes known, and the records of all are written."""
    for voice in load_voices():
        first_audio_s(client, voice, KNOWN, 0)


def after_a_start(client: httpx.Client) -> list[Row]:
    """Each voice's first request in this process against its next one, with another text."""
    voices = list(load_voices())
    very_first_s = first_audio_s(client, voices[0], TEXTS[0], 0)
    cold: list[float] = []
    warm: list[float] = []
    for i, voice in enumerate(voices[1:], 1):
        cold.append(first_audio_s(client, voice, TEXTS[i % len(TEXTS)], i))
        warm.append(first_audio_s(client, voice, TEXTS[(i + 1) % len(TEXTS)], i))
    return [
        Row("started again, records in L3: the very first request", very_first_s, "s"),
        Row("started again: a voice's first request", statistics.median(cold), "s"),
        Row("started again: its next one", statistics.median(warm), "s"),
        Row(
            "a new process over a warm one",
            statistics.median(cold) / statistics.median(warm),
            "x",
            START_BAR,
        ),
        Row("the fastest: a new process over a warm one", min(cold) / min(warm), "x"),
    ]


def measure(directory: Path, old_tree: Path, n_texts: int) -> tuple[Sequence[Row], str]:
    """The rows, and why the old commit is left out."""
    rows: list[Row] = []
    left_out = ""
    with ExitStack() as stack:
        new = stack.enter_context(service(directory / "new"))
        try:
            old = stack.enter_context(service(directory / "old", old_tree))
        except SystemExit as error:
            left_out = str(error)
        else:
            rows += compared(old, new, n_texts)
        spoken_by_all(new)
    with service(directory / "new", ROOT) as new:
        rows += after_a_start(new)
    return rows, left_out


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m load_tests.bench.known_voice.http")
    parser.add_argument("--commit", default="b717180", help="the old one")
    parser.add_argument("--texts", type=int, default=len(TEXTS))
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, checked_out(options.commit) as old_tree:
        rows, left_out = measure(Path(name), old_tree, options.texts)
    about = {**provenance("cpu"), "old_commit": options.commit, "left_out": left_out}
    return publish(rows, about, options.json)


if __name__ == "__main__":
    sys.exit(main())
