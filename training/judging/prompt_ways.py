# pyright: basic
"""Ways to run the vocoder's prompt, judged by strangers: the same tokens, decoded each way.

    python -m training.judging.prompt_ways [--answers 100] [--seed 0] [--kept FILE]

Needs the extras `training` and `judges`. What was judged lies in FILE, a line an answer, and is not
judged again by the next run. Prints word and phoneme error of the text, DNSMOS, PESQ
and log-mel distance to the exact stream, and how many answers were understood worse or better.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import typer
from numpy.typing import NDArray

from pipeline.contracts import Sampling, SpeechRequest, TokenChunk, VoicePrompt
from pipeline.local import OneStream
from pipeline.prompting import CheckpointPrompts
from pipeline.stepaudio.layout import CheckpointLayout, resolve_model
from pipeline.stepaudio.llm.engine.loading import load_engine
from pipeline.stepaudio.tokenizer.voice_encoder import StepVoiceEncoder
from pipeline.stepaudio.vocoder.wave_decoder import StepWaveDecoder
from pipeline.voice_list import load_voices
from training.judging.listening import Listener, to_16k
from training.judging.losses import read_clip
from training.judging.strangers import Strangers
from training.progress import progress
from training.speech.clips import TOKENIZER_RATE_HZ
from training.speech.mels import mel_of

EXACT = "exact"
OTHER_NOISE = 1  # a vocoder's seed
TEXTS = (
    "The boat was small and the water was cold.", "Nobody had told her about the second door.",
    "He asked for the letter and went away.", "There was nothing to be seen from the window.",
    "We walked along the river until it was dark.", "The children played in the garden all day.",
    "She opened the book and began to read.", "It was a long road and we had no light.",
    "My brother came home late in the evening.", "The train will leave in ten minutes.",
    "They found the old house behind the hill.", "I have never heard that story before.",
    "Please bring me a glass of cold water.",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Judged:
    """One answer, decoded one way; pesq and mel beside the exact way."""

    word_error: float
    phoneme_error: float
    mos: float
    pesq: float
    mel: float


class Ways:
    """The stages of the embedded model, and its vocoder in several ways."""

    def __init__(self) -> None:
        layout = CheckpointLayout.at(resolve_model("tiny"))
        self._engine = load_engine(layout, OneStream("cpu", threads=1))
        self._prompts = CheckpointPrompts(layout.editx)
        encoder = StepVoiceEncoder(layout.tokenizer, layout.vocoder, threads=1)
        self._voices = [
            (encoder.encode_blocking(read_clip(voice.path.read_bytes())), voice.transcript)
            for voice in load_voices().values()
        ]
        self._decoders = {
            EXACT: StepWaveDecoder(layout.vocoder, threads=1, is_exact=True),
            "alone": StepWaveDecoder(layout.vocoder, threads=1),
            "another noise seed": StepWaveDecoder(
                layout.vocoder, threads=1, is_exact=True, seed=OTHER_NOISE
            ),
        }

    def answers(self, n: int, seed: int) -> Mapping[str, NDArray[np.float32]]:
        """The n-th answer, 24 kHz, by way."""
        voice, transcript = self._voices[n % len(self._voices)]
        ids = asyncio.run(self._drawn(TEXTS[n % len(TEXTS)], voice, transcript, seed + n))
        return {
            way: asyncio.run(_streamed(decoder, ids, voice))
            for way, decoder in self._decoders.items()
        }

    async def _drawn(
        self, text: str, voice: VoicePrompt, transcript: str, seed: int
    ) -> NDArray[np.int32]:
        sampling = Sampling(seed=seed)
        request = SpeechRequest(text, transcript, sampling=sampling)
        script = next(iter(self._prompts.scripts(request, voice)))
        stream = self._engine.stream(script.prompt_ids, script.sampling)
        return np.concatenate([chunk.ids async for chunk in stream])


async def _streamed(
    decoder: StepWaveDecoder, ids: NDArray[np.int32], voice: VoicePrompt
) -> NDArray[np.float32]:
    async def tokens() -> AsyncIterator[TokenChunk]:
        yield TokenChunk(ids, last=True)

    return np.concatenate([chunk.samples async for chunk in decoder.stream(tokens(), voice)])


def judged(
    strangers: Strangers, text: str, samples: NDArray[np.float32], exact: NDArray[np.float32]
) -> Judged:
    """samples, exact: float32 (n,), 24 kHz, of the same tokens."""
    from pesq import pesq  # pyright: ignore[reportMissingImports] of the training extra

    verdict = strangers.judge(to_16k(samples).numpy(), text)
    is_same = samples is exact
    near = (
        0.0
        if is_same
        else pesq(TOKENIZER_RATE_HZ, to_16k(exact).numpy(), to_16k(samples).numpy(), "wb")
    )
    apart = (mel_of(torch.from_numpy(samples)) - mel_of(torch.from_numpy(exact))).abs().mean()
    mos = Listener.mos(samples)
    return Judged(verdict.word_error, verdict.phoneme_error, mos, float(near), float(apart))


def table(found: Mapping[str, list[Judged]]) -> str:
    """Markdown, a row a way; means, and answers with another word error than the exact one's."""
    rows = [
        "| way | words | phonemes | DNSMOS | PESQ | log-mel | worse, better |",
        "|---" * 7 + "|",
    ]
    exact = [one.word_error for one in found[EXACT]]
    for way, some in found.items():
        means = np.mean(
            [(j.word_error, j.phoneme_error, j.mos, j.pesq, j.mel) for j in some], axis=0
        )
        apart = np.subtract([one.word_error for one in some], exact)
        cells = " | ".join(f"{mean:.3f}" for mean in means)
        rows.append(f"| {way} | {cells} | {(apart > 0).sum()}, {(apart < 0).sum()} |")
    return "\n".join(rows)


def kept_in(path: Path) -> dict[int, dict[str, Judged]]:
    """Answers that an earlier run judged, by number."""
    lines = path.read_text().splitlines() if path.exists() else []
    rows = [json.loads(line) for line in lines]
    return {row["n"]: {way: Judged(**one) for way, one in row["judged"].items()} for row in rows}


def main(answers: int = 100, seed: int = 0, kept: Path = Path("out/prompt_ways.jsonl")) -> None:
    """Judge so many answers, and print the table."""
    torch.set_num_threads(1)
    kept.parent.mkdir(parents=True, exist_ok=True)
    done = kept_in(kept)
    ways, strangers = Ways(), Strangers()
    for n in progress([n for n in range(answers) if n not in done], "answers", answers):
        made, text = ways.answers(n, seed), TEXTS[n % len(TEXTS)]
        done[n] = {
            way: judged(strangers, text, samples, made[EXACT]) for way, samples in made.items()
        }
        row = {"n": n, "judged": {way: asdict(one) for way, one in done[n].items()}}
        with kept.open("a") as file:
            file.write(json.dumps(row) + "\n")
    typer.echo(table({way: [one[way] for one in done.values()] for way in done[0]}))


if __name__ == "__main__":
    typer.run(main)
