# pyright: basic
"""How many replies of a model are corrupt, before and after the guard's second draw.

    python -m training.judging.corruption [--replies 2000] [--listened 2000] [--kept FILE]

Needs the extras `embedded` and `judges`. Whisper, which takes most of the time, hears the first
`--listened`. Measures of every reply are appended to FILE as JSON, and those there are not made
again.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import aclosing
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import typer

from pipeline.audio.quality.defects import SoundGuard
from pipeline.contracts import OUTPUT_SAMPLE_RATE_HZ, Quality, Sampling, SpeechRequest, Verdict
from pipeline.hearing.divergence import DIVERGENT_WORDS, longest_divergence, words_of
from pipeline.local import LocalPipeline
from pipeline.synthesis import ResolvedVoice
from pipeline.voice_list import load_voices
from training.judging.listening import to_16k
from training.judging.losses import read_clip
from training.judging.strangers import Strangers, words
from training.progress import progress
from training.speech.speakers import ENGLISH
from training.speech.text import TextSources, sentences

DEFINITION = """\
Each reply is a made-up English text of 5 to 25 words in one of the built-in voices, without a seed
of the caller's, drawn as the service does. It is corrupt if the guard finds it bad after its second
draw: clipped, hole, buzz, short, loop or endless (pipeline.guardrail on the tokens,
pipeline.audio.quality.defects on the sound). What the guard cannot know is told beside it: replies
of which Whisper base hears four words or more in a row otherwise than they are written
(pipeline.hearing.divergence), which counts the listener's own errors too.
"""
BAR = 0.002  # of replies, after the guard


@dataclass(frozen=True, slots=True)
class Reply:
    """One reply: the guard's verdict and what it measured, and what its listener heard."""

    n: int
    text: str
    verdict: str
    is_retried: bool
    audio_s: float
    n_top: int
    hole_db: float
    longest_pause: int
    longest_steady: int
    heard: str | None
    """None: nobody listened."""
    divergent_words: int

    @property
    def is_bad(self) -> bool:
        """To the guard."""
        return self.verdict != Verdict.OK

    @property
    def is_divergent(self) -> bool:
        """To the listener."""
        return self.divergent_words >= DIVERGENT_WORDS


class Replies:
    """The embedded model and its listener."""

    def __init__(self, pipeline: LocalPipeline) -> None:
        encoder = pipeline.encoder.loaded()
        self._chain, self._listener = pipeline.synthesizer, Strangers()
        self._voices = []
        for voice in load_voices().values():
            clip = read_clip(voice.path.read_bytes())
            prompt = encoder.encode_blocking(clip)
            found = ResolvedVoice(prompt, "miss", transcript=voice.transcript)
            self._voices.append(found)

    def reply(self, n: int, text: str, *, is_listened: bool) -> Reply:
        """The n-th."""
        samples, quality = asyncio.run(self._spoken(n, text))
        guard = SoundGuard()
        guard.add(samples)
        heard = self._heard(samples, text) if is_listened else None
        return Reply(
            n=n,
            text=text,
            verdict=quality.verdict.value,
            is_retried=quality.is_retried,
            audio_s=round(len(samples) / OUTPUT_SAMPLE_RATE_HZ, 2),
            n_top=guard.n_top,
            hole_db=round(max(guard.hole_db, -200.0), 1),
            longest_pause=guard.longest_pause,
            longest_steady=guard.longest_steady,
            heard=heard,
            divergent_words=0 if heard is None else longest_divergence(words(text), words(heard)),
        )

    def _heard(self, samples: np.ndarray, text: str) -> str:
        return self._listener.judge(to_16k(samples).numpy(), text).heard if len(samples) else ""

    async def _spoken(self, n: int, text: str) -> tuple[np.ndarray, Quality]:
        voice = self._voices[n % len(self._voices)]
        asked = SpeechRequest(text, "", sampling=Sampling(seed=n), may_reseed=True)
        pieces, quality = [np.zeros(0, np.float32)], Quality()
        async with aclosing(self._chain.speak(voice.completed(asked), voice.prompt)) as speech:
            async for chunk in speech:
                pieces.append(chunk.samples)
                quality = chunk.quality
        return np.concatenate(pieces), quality


def texts() -> Iterator[str]:
    """Endless, always the same; English alone, and long enough for runs of four words."""
    made = sentences(TextSources.read("", ""), ENGLISH, seed=16)
    return (text for text in made if text.isascii() and len(words_of(text)) > DIVERGENT_WORDS)


def report(replies: list[Reply]) -> str:
    """The rates, each with its numbers."""

    def share(name: str, found: list[Reply], of: list[Reply], note: str) -> str:
        return f"{name}: {len(found)} of {len(of)} ({len(found) / len(of):.2%}), {note}"

    listened = [reply for reply in replies if reply.heard is not None]
    corrupt = [reply for reply in replies if reply.is_bad]
    lines = [
        share(
            "drawn again",
            [r for r in replies if r.is_retried],
            replies,
            "bad before they were heard",
        ),
        share("corrupt", corrupt, replies, f"after the guard; the bar is {BAR:.1%}"),
    ]
    if listened:
        divergent = [reply for reply in listened if reply.is_divergent]
        lines.append(share("heard otherwise", divergent, listened, "by Whisper base"))
    told = [f"  {one.n} {one.verdict}: {one.text}" for one in corrupt]
    extremes = (
        f"beyond all: hole edge {max(r.hole_db for r in replies):g} dB, pause "
        f"{max(r.longest_pause for r in replies) / 50:g} s, steady "
        f"{max(r.longest_steady for r in replies) / 10:g} s, at the top "
        f"{max(r.n_top for r in replies)} samples"
    )
    return "\n".join([*lines, *told, extremes])


def main(
    replies: int = 2000,
    listened: int = 2000,
    model: str = "tiny",
    kept: Path = Path("out/corruption.jsonl"),
) -> None:
    """Measure, and print the report with its definition."""
    lines = kept.read_text().splitlines() if kept.is_file() else []
    done = {reply.n: reply for reply in (Reply(**json.loads(line)) for line in lines)}
    kept.parent.mkdir(parents=True, exist_ok=True)
    with LocalPipeline(model) as pipeline:
        speaker: Replies | None = None
        wanted = list(enumerate(islice(texts(), replies)))
        for n, text in progress(wanted, "replies", replies):
            if n in done:
                continue
            speaker = speaker or Replies(pipeline)
            done[n] = speaker.reply(n, text, is_listened=n < listened)
            with kept.open("a") as file:
                file.write(json.dumps(asdict(done[n])) + "\n")
    typer.echo(DEFINITION)
    typer.echo(report([done[n] for n in range(replies)]))


if __name__ == "__main__":
    typer.run(main)
