# pyright: basic
"""A long text from a running service: every sentence present and in order, no gap, memory flat.

    python -m training.judging.long_text http://127.0.0.1:8000 [--chars 20000] [--text FILE]

Needs the extra `judges`. Streams one reply as a player would hear it, watches the memory of the
service's processes on this machine meanwhile, and has hama write down the phonemes of what came.
Those are aligned with the text's, from first to last: a sentence that is missing, or elsewhere,
matches nothing. As a control a few sentences are looked for that are not in the text.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import typer
from numpy.typing import NDArray

from pipeline.continuity import Continuity, PlaybackMeter
from pipeline.contracts import OUTPUT_SAMPLE_RATE_HZ
from pipeline.splitting.pauses import find_pauses
from pipeline.text.front_end import plain_words
from pipeline.text.segment import sentence_ends
from training.judging.corruption import texts
from training.judging.listening import to_16k
from training.judging.strangers import RATE_HZ, letters

PRESENT = 0.3  # of a sentence's phonemes in their places; of one that is absent chance finds less
CONTROLS = 5
PIECE_S = 20.0  # of audio that the judge hears at a time, cut at a pause
BAND = 1_500  # phonemes that the alignment may be off the diagonal
WATCH_S = 1.0
PROCESSES = ("ray::ServeReplica", "ray::ProxyActor")
MIB = 2**20


@dataclass(slots=True)
class Streamed:
    """A reply as it came. memory_mib: of the service, by seconds since the request."""

    samples: NDArray[np.float32]
    continuity: Continuity
    took_s: float
    request_id: str
    memory_mib: list[tuple[float, float]] = field(default_factory=list)


def stream(url: str, text: str, seed: int) -> Streamed:
    """Speak a text and listen to its end."""
    began_s = time.perf_counter()
    meter, pieces, memory = PlaybackMeter(began_s), list[bytes](), list[tuple[float, float]]()
    body = {"input": text, "response_format": "pcm", "seed": seed, "cache": "off"}
    watched_s = 0.0
    with httpx.stream("POST", f"{url}/v1/audio/speech", json=body, timeout=600.0) as reply:
        if reply.status_code != httpx.codes.OK:
            raise SystemExit(f"{reply.status_code}: {reply.read().decode()}")
        for piece in reply.iter_bytes():
            now_s = time.perf_counter()
            meter.sent(len(piece) / 2 / OUTPUT_SAMPLE_RATE_HZ, now_s)
            pieces.append(piece)
            if now_s - began_s - watched_s >= WATCH_S:
                watched_s = now_s - began_s
                memory.append((watched_s, resident_mib()))
    took_s = time.perf_counter() - began_s
    heard = np.frombuffer(b"".join(pieces), "<i2").astype(np.float32) / np.float32(32_768)
    request_id = reply.headers["x-request-id"]
    return Streamed(heard, meter.continuity(), took_s, request_id, memory)


def resident_mib() -> float:
    """Of the service's processes on this machine."""
    found = psutil.process_iter(["cmdline", "memory_info"])
    return sum(
        process.info["memory_info"].rss / MIB
        for process in found
        if process.info["memory_info"]
        and (process.info["cmdline"] or [""])[0].startswith(PROCESSES)
    )


class Judge:
    """hama: spells texts in phonemes, and hears them."""

    def __init__(self) -> None:
        import hama

        self._spell, self._listen = hama.G2PModel(), hama.ASRModel()

    def said(self, text: str) -> list[str]:
        """The phonemes of a text."""
        return list(letters(self._spell.predict(plain_words(text)).ipa))

    def heard(self, samples: NDArray[np.float32]) -> list[str]:
        """The phonemes of speech, float32 (n,), 24 kHz."""
        found: list[str] = []
        for piece in pieces_of(samples):
            spoken = to_16k(piece).numpy()
            found += letters("".join(self._listen.transcribe_waveform(spoken, RATE_HZ).phonemes))
        return found


def pieces_of(samples: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
    """Speech in pieces of about PIECE_S, cut in pauses."""
    start_s = 0.0
    for pause in find_pauses(samples, OUTPUT_SAMPLE_RATE_HZ).inner:
        if pause.middle_s - start_s >= PIECE_S:
            yield samples[_at(start_s) : _at(pause.middle_s)]
            start_s = pause.middle_s
    if len(samples) - _at(start_s) > OUTPUT_SAMPLE_RATE_HZ // 4:
        yield samples[_at(start_s) :]


def _at(time_s: float) -> int:
    return round(time_s * OUTPUT_SAMPLE_RATE_HZ)


def matched(said: Sequence[str], heard: Sequence[str]) -> NDArray[np.bool_]:
    """Which phonemes of `said` are where they belong in the cheapest alignment with `heard`, (n,).

    Banded: the alignment keeps within BAND of the diagonal, beside what the lengths differ by.
    """
    n, m = len(said), len(heard)
    names = {name: number for number, name in enumerate(dict.fromkeys([*said, *heard]))}
    ours, theirs = (np.array([names[one] for one in row], np.int32) for row in (said, heard))
    width = BAND + abs(n - m)
    costs = np.arange(m + 1, dtype=np.float32)
    starts, moves = list[int](), list[NDArray[np.uint8]]()
    steps = np.arange(m + 1, dtype=np.float32)
    for i in range(1, n + 1):
        low, high = max(0, i * m // n - width), min(m, i * m // n + width)
        diagonal = np.full(m + 1, np.inf, np.float32)
        diagonal[1:] = costs[:-1] + (theirs != ours[i - 1])
        down = costs + 1
        best = np.minimum(diagonal, down)[low : high + 1]
        filled = np.minimum.accumulate(best - steps[low : high + 1]) + steps[low : high + 1]
        move = np.where(
            filled == diagonal[low : high + 1], 0, np.where(filled == down[low : high + 1], 1, 2)
        )
        costs = np.full(m + 1, np.inf, np.float32)
        costs[low : high + 1] = filled
        starts.append(low)
        moves.append(move.astype(np.uint8))
    found, j = np.zeros(n, bool), m
    i = n
    while i > 0:
        step = moves[i - 1][j - starts[i - 1]]
        if step == 0:
            found[i - 1] = ours[i - 1] == theirs[j - 1]
        i -= step != 2
        j -= step != 1
    return found


def recalls(sentences: Sequence[list[str]], heard: Sequence[str]) -> list[float]:
    """Of each sentence, the share of its phonemes that are where they belong."""
    found = matched([one for sentence in sentences for one in sentence], heard)
    ends = np.cumsum([len(sentence) for sentence in sentences])
    return [
        float(found[end - len(sentence) : end].mean()) if sentence else 1.0
        for sentence, end in zip(sentences, ends, strict=True)
    ]


def sentences_of(text: str) -> list[str]:
    """Its sentences, in order."""
    borders = [0, *sentence_ends(text), len(text)]
    parts = [text[a:b].strip() for a, b in pairwise(borders)]
    return [part for part in parts if part]


def chapter(chars: int) -> str:
    """A made-up one: paragraphs of some ten sentences, of at most so many characters."""
    made, paragraphs = list[str](), list[str]()
    for number, sentence in enumerate(islice(texts(), chars), 1):
        if len("\n\n".join([*paragraphs, " ".join([*made, sentence])])) > chars:
            break
        made.append(sentence)
        if number % 10 == 0:
            paragraphs.append(" ".join(made))
            made = []
    return "\n\n".join([*paragraphs, " ".join(made)]).strip()


@dataclass(frozen=True, slots=True)
class Presence:
    """Recalls of the text's own sentences, and of the strange ones among them."""

    own: list[float]
    absent: list[float]


def presence(judge: Judge, sentences: Sequence[str], samples: NDArray[np.float32]) -> Presence:
    """What was heard of each sentence, beside a few that nobody spoke."""
    strange = list(islice(texts(), 5_000, 5_000 + CONTROLS))
    every = len(sentences) // CONTROLS + 1
    mixed = list[tuple[str, bool]]()
    for number, sentence in enumerate(sentences):
        if number % every == every // 2:
            mixed.append((strange[number // every], True))
        mixed.append((sentence, False))
    found = recalls([judge.said(sentence) for sentence, _ in mixed], judge.heard(samples))
    both = [(recall, is_strange) for recall, (_, is_strange) in zip(found, mixed, strict=True)]
    own = [recall for recall, is_strange in both if not is_strange]
    return Presence(own, [recall for recall, is_strange in both if is_strange])


def report_of(sentences: Sequence[str], found: Presence, came: Streamed) -> dict[str, Any]:
    """For JSON. memory_mib: the most in the first half and in the second."""
    heard = came.continuity
    memory = [mib for _, mib in came.memory_mib]
    halves = memory[: len(memory) // 2], memory[len(memory) // 2 :]
    own = list(zip(sentences, found.own, strict=True))
    return {
        "sentences": len(sentences),
        "missing": [sentence for sentence, recall in own if recall < PRESENT],
        "least_recall": round(min(found.own), 2),
        "mean_recall": round(float(np.mean(found.own)), 2),
        "absent_recall": [round(recall, 2) for recall in found.absent],
        "audio_s": round(heard.audio_s, 1),
        "first_audio_s": round(heard.ttfa_s or 0.0, 2),
        "took_s": round(came.took_s, 1),
        "underruns": heard.underruns,
        "underrun_s": round(heard.underrun_s, 2),
        "memory_mib": [round(max(half, default=0.0)) for half in halves],
    }


def main(
    url: str, chars: int = 20_000, text: Path | None = None, seed: int = 7, wav: Path | None = None
) -> None:
    """Stream, judge, and print what was found; fails where a sentence is missing or a gap heard."""
    from scipy.io import wavfile

    said = chapter(chars) if text is None else text.read_text()[:chars]
    came = stream(url, said, seed)
    if wav is not None:
        wavfile.write(wav, OUTPUT_SAMPLE_RATE_HZ, came.samples)
    outcome = httpx.get(f"{url}/v1/audio/speech/{came.request_id}").json()
    sentences = sentences_of(said)
    report = report_of(sentences, presence(Judge(), sentences, came.samples), came)
    told = {"quality": outcome["quality"], "segments": outcome.get("segments")}
    typer.echo(json.dumps({"characters": len(said), **report, **told}, indent=1))
    if report["missing"] or report["underruns"]:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
