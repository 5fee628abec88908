# pyright: basic
"""What a chain of edits loses between its steps: tokens passed on against audio encoded again.

    python -m training.judging.edit_chains [--answers 8] [--seed 0]

Needs the extras `training` and `judges`. The embedded model was not trained to edit, so the steps
here change nothing: whatever differs after them comes from what lies between two steps. The
released loop encodes each step's audio as if it were another clip: tokens, mel and speaker. Ours
passes the tokens on and keeps the clip. Prints, after one step and more, codes kept (1 less edits
per code), log-mel distance to the first answer at the best shift, phoneme error of the text,
likeness of the speaker to the clip (cosine), and seconds for what lies between two steps.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import astuple, dataclass, replace

import numpy as np
import torch
import typer
from numpy.typing import NDArray

from pipeline.audio.decode import clip_digest
from pipeline.contracts import (
    OUTPUT_SAMPLE_RATE_HZ,
    ReferenceClip,
    Sampling,
    SpeechRequest,
    TokenChunk,
    VoicePrompt,
)
from pipeline.local import LocalPipeline
from pipeline.stepaudio.tokens import deinterleave, interleave
from pipeline.voice_list import load_voices
from training.judging.listening import to_16k
from training.judging.losses import read_clip
from training.judging.phoneme_judge import errors
from training.judging.prompt_ways import TEXTS
from training.judging.strangers import RATE_HZ, letters
from training.progress import progress
from training.speech.mels import mel_of

ROUNDS = 3
SHIFTS = range(-25, 26)  # mel frames: the tokenizer trims silence at the ends
AGAIN = "encoded again"
WAYS = {"passed on": 1, AGAIN: ROUNDS}  # steps in a row; passed on, every further one is the same


@dataclass(frozen=True, slots=True)
class Kept:
    """One answer after so many steps."""

    vq02: float
    vq06: float
    mel: float
    phoneme_error: float
    speaker: float
    between_s: float


@dataclass(frozen=True, slots=True, eq=False)
class Heard:
    """An answer: its codes, the voice it is decoded in, and its sound, float32 (n,), 24 kHz."""

    codes: VoicePrompt
    voice: VoicePrompt
    samples: NDArray[np.float32]


class Chains:
    """The stages of the embedded model, and a judge of phonemes."""

    def __init__(self, pipeline: LocalPipeline) -> None:
        import hama

        self._encoder, self._decoder = pipeline.encoder.loaded(), pipeline.decoder
        self._chain = pipeline.synthesizer
        self._spell, self._listen = hama.G2PModel(), hama.ASRModel()
        self._voices = [
            (self._encoder.encode_blocking(read_clip(voice.path.read_bytes())), voice.transcript)
            for voice in load_voices().values()
        ]

    def judged(self, n: int, seed: int) -> Iterator[tuple[str, int, Kept]]:
        """The n-th answer, each way: (way, steps, what is left of it)."""
        clip, transcript = self._voices[n % len(self._voices)]
        text = TEXTS[n % len(TEXTS)]
        ids = asyncio.run(self._drawn(text, clip, transcript, seed + n))
        first = self._decoded(_with(clip, ids), clip)
        for way, rounds in WAYS.items():
            heard = first
            for steps in range(1, rounds + 1):
                began_s = time.perf_counter()
                codes, voice = heard.codes, heard.voice
                if way == AGAIN:
                    codes = voice = self._encoded(heard.samples)
                between_s = time.perf_counter() - began_s
                heard = self._decoded(codes, voice)
                yield way, steps, self._kept(heard, first, clip, text, between_s)

    async def _drawn(
        self, text: str, clip: VoicePrompt, transcript: str, seed: int
    ) -> NDArray[np.int16]:
        request = SpeechRequest(text, transcript, sampling=Sampling(seed=seed))
        speech = self._chain.speak(request, clip)
        (drawn,) = [chunk.drawn async for chunk in speech if chunk.drawn is not None]
        return drawn.ids

    def _decoded(self, codes: VoicePrompt, voice: VoicePrompt) -> Heard:
        async def tokens() -> AsyncIterator[TokenChunk]:
            yield TokenChunk(interleave(codes.vq02, codes.vq06), last=True)

        async def streamed() -> NDArray[np.float32]:
            chunks = self._decoder.stream(tokens(), voice)
            return np.concatenate([chunk.samples async for chunk in chunks])

        return Heard(codes, voice, asyncio.run(streamed()))

    def _encoded(self, samples: NDArray[np.float32]) -> VoicePrompt:
        return self._encoder.encode_blocking(_clip_of(samples))

    def _kept(
        self, heard: Heard, first: Heard, clip: VoicePrompt, text: str, between_s: float
    ) -> Kept:
        wave = to_16k(heard.samples).numpy()
        said = letters(self._spell.predict(text).ipa)
        phonemes = letters("".join(self._listen.transcribe_waveform(wave, RATE_HZ).phonemes))
        return Kept(
            vq02=_share(heard.codes.vq02, first.codes.vq02),
            vq06=_share(heard.codes.vq06, first.codes.vq06),
            mel=_apart(heard.samples, first.samples),
            phoneme_error=errors(phonemes, said) / len(said),
            speaker=_cosine(self._encoded(heard.samples).speaker_embedding, clip.speaker_embedding),
            between_s=between_s,
        )


def _with(voice: VoicePrompt, ids: NDArray[np.int16]) -> VoicePrompt:
    vq02, vq06 = (codes.astype(np.int16) for codes in deinterleave(ids))
    return replace(voice, vq02=vq02, vq06=vq06)


def _clip_of(samples: NDArray[np.float32]) -> ReferenceClip:
    return ReferenceClip(
        samples, OUTPUT_SAMPLE_RATE_HZ, clip_digest(samples, OUTPUT_SAMPLE_RATE_HZ)
    )


def _share(found: NDArray[np.int16], codes: NDArray[np.int16]) -> float:
    return max(0.0, 1 - errors(found.tolist(), codes.tolist()) / len(codes))


def _apart(samples: NDArray[np.float32], first: NDArray[np.float32]) -> float:
    """Mean distance of log-mel, [T, M], at the shift where it is least."""
    one, other = (mel_of(torch.from_numpy(x)).numpy() for x in (samples, first))
    found = []
    for shift in SHIFTS:
        a, b = one[max(shift, 0) :], other[max(-shift, 0) :]
        size = min(len(a), len(b))
        found.append(float(np.abs(a[:size] - b[:size]).mean()))
    return min(found)


def _cosine(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


def table(found: dict[tuple[str, int], list[Kept]]) -> str:
    """Markdown, a row for each way and number of steps; means."""
    rows = [
        "| between steps | steps | vq02 | vq06 | log-mel | phonemes | speaker | s |",
        "|---" * 8 + "|",
    ]
    for (way, steps), some in found.items():
        means: Sequence[float] = np.mean([astuple(one) for one in some], axis=0)
        rows.append(f"| {way} | {steps} | " + " | ".join(f"{mean:.3f}" for mean in means) + " |")
    return "\n".join(rows)


def main(answers: int = 8, seed: int = 0) -> None:
    """Judge so many answers, and print the table."""
    torch.set_num_threads(1)
    found: dict[tuple[str, int], list[Kept]] = {}
    with LocalPipeline("tiny") as pipeline:
        chains = Chains(pipeline)
        for n in progress(range(answers), "answers", answers):
            for way, steps, kept in chains.judged(n, seed):
                found.setdefault((way, steps), []).append(kept)
    typer.echo(table(found))


if __name__ == "__main__":
    typer.run(main)
