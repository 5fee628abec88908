# pyright: basic
"""Where the words are lost: strangers' errors on clips behind each stage of a checkpoint.

A clip as it is; its mel through HiFT; its own tokens through flow and HiFT, the prompt being the
same clip or another voice; the LLM's tokens for its text.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.audio.reference import read_reference
from pipeline.contracts import ReferenceClip, Sampling, SpeechRequest, VoicePrompt
from pipeline.local import LocalPipeline, _say
from pipeline.stepaudio.tokens import interleave
from pipeline.voice_list import ListedVoice, load_voices
from training.config import Recipe
from training.judging.copy_synthesis import copy, load_generator
from training.judging.listening import Listener, audio, to_16k, wav_bytes
from training.judging.strangers import Strangers, Verdict, is_mandarin
from training.progress import progress
from training.speech.clips import RATE_HZ
from training.speech.corpus import load_corpus

ORIGINAL, COPY, OWN, LLM = "original", "mel → HiFT", "own tokens, own prompt", "the LLM's tokens"
OTHER = "own tokens, prompt {name}"
OTHERS = 2  # other voices as prompts
TEACHER_CLIPS = 8
LISTED = "built-in"


@dataclass(frozen=True, slots=True, eq=False)
class Spoken:
    """A clip to be judged: file bytes, what is said, and where it is from."""

    source: str
    upload: bytes
    text: str


@dataclass(frozen=True, slots=True)
class Loss:
    """A stage's figures over the clips of a source: shares, a MOS, and how many clips."""

    source: str
    stage: str
    clips: int
    word_error: float
    phoneme_error: float
    mos: float


def clips_of(recipe: Recipe, people: Path | None, count: int) -> list[Spoken]:
    """Built-in voices, held-out clips of the teacher where there are any, and people's clips.

    people: a directory of clips with `transcripts.json`. count: of each source at most.
    """
    listed = [
        Spoken(LISTED, voice.path.read_bytes(), voice.transcript)
        for voice in load_voices().values()
    ]
    return [*listed[:count], *_held(recipe, count), *_people(people)[:count]]


def _held(recipe: Recipe, count: int) -> list[Spoken]:
    try:
        corpus = load_corpus(recipe, "held")
    except FileNotFoundError:
        return []
    chosen = np.linspace(0, len(corpus) - 1, min(count, len(corpus))).astype(int)
    clips = (corpus[int(i)] for i in chosen)
    spoken = [(wav_bytes(audio(clip)), clip.words) for clip in clips]
    return [Spoken(f"teacher, {_language(text)}", upload, text) for upload, text in spoken]


def _people(directory: Path | None) -> list[Spoken]:
    if directory is None:
        return []
    texts = json.loads((directory / "transcripts.json").read_text(encoding="utf-8"))
    return [
        Spoken(f"people, {_language(text)}", (directory / name).read_bytes(), text)
        for name, text in texts.items()
    ]


def _language(text: str) -> str:
    return "Mandarin" if is_mandarin(text) else "English"


class Stages:
    """A checkpoint's stages one by one, by the classes that serve."""

    def __init__(self, model: str, pipeline: LocalPipeline) -> None:
        self._pipeline, self._hift = pipeline, load_generator(model)
        voices = [voice for voice in load_voices().values() if voice.language == "en"]
        self._others: list[ListedVoice] = voices[:: max(1, len(voices) // OTHERS)][:OTHERS]
        self._prompts = [self._encode(read_clip(voice.path.read_bytes())) for voice in self._others]

    def versions(self, clip: Spoken, seed: int) -> Iterable[tuple[str, NDArray[np.float32]]]:
        """Stage and its 24 kHz sound, from the original on."""
        import torch

        from pipeline.stepaudio.tokenizer.waveform import resample

        read = read_clip(clip.upload)
        original = resample(torch.from_numpy(read.samples), read.sample_rate_hz, RATE_HZ)
        yield ORIGINAL, original.numpy()
        yield COPY, copy(self._hift, original)
        own = self._encode(read)
        tokens = interleave(own.vq02, own.vq06)
        yield OWN, self._decode(tokens, own)
        for voice, prompt in zip(self._others, self._prompts, strict=True):
            yield OTHER.format(name=voice.name), self._decode(tokens, prompt)
        voice = self._others[0]
        request = SpeechRequest(
            text=clip.text,
            transcript=voice.transcript,
            sampling=Sampling(seed=seed),
        )
        samples, _ = asyncio.run(_say(self._pipeline, voice.path.read_bytes(), request))
        yield LLM, samples

    def _encode(self, clip: ReferenceClip) -> VoicePrompt:
        return self._pipeline.encoder.loaded().encode_blocking(clip)

    def _decode(self, tokens: NDArray[np.int32], voice: VoicePrompt) -> NDArray[np.float32]:
        return self._pipeline.decoder.decode(tokens, voice)


def read_clip(upload: bytes) -> ReferenceClip:
    """An upload as serving reads it."""
    return read_reference(upload).clip


def measure_losses(
    model: str, clips: Sequence[Spoken], strangers: Strangers, seed: int
) -> list[Loss]:
    """Every stage of every clip, judged."""
    heard: dict[tuple[str, str], list[tuple[Verdict, float]]] = {}
    with LocalPipeline(model) as pipeline:
        stages = Stages(model, pipeline)
        for clip in progress(clips, "clips through the stages", len(clips)):
            for stage, samples in stages.versions(clip, seed):
                verdict = strangers.judge(to_16k(samples).numpy(), clip.text)
                heard.setdefault((clip.source, stage), []).append((verdict, Listener.mos(samples)))
    return [_summed(source, stage, judged) for (source, stage), judged in heard.items()]


def _summed(source: str, stage: str, judged: list[tuple[Verdict, float]]) -> Loss:
    """Shares over all clips together; phonemes of the English ones."""
    verdicts = [verdict for verdict, _ in judged]
    wrong, said, wrong_phonemes, phonemes = (
        sum(getattr(v, name) for v in verdicts)
        for name in ("wrong", "said", "wrong_phonemes", "phonemes")
    )
    return Loss(
        source,
        stage,
        len(judged),
        wrong / max(1, said),
        wrong_phonemes / phonemes if phonemes else float("nan"),
        float(np.mean([mos for _, mos in judged])),
    )


def losses_table(losses: Sequence[Loss]) -> str:
    """Markdown, a row a stage; word error (Mandarin: characters), phoneme error, DNSMOS."""
    sources = list(dict.fromkeys(loss.source for loss in losses))
    clips = {loss.source: loss.clips for loss in losses}
    head = "".join(f" {source} ({clips[source]}) |" for source in sources)
    rows = [f"| words; phonemes; DNSMOS |{head}", "|---" * (len(sources) + 1) + "|"]
    by_place = {(loss.stage, loss.source): loss for loss in losses}
    for stage in dict.fromkeys(loss.stage for loss in losses):
        cells = []
        for source in sources:
            loss = by_place[stage, source]
            phonemes = "–" if np.isnan(loss.phoneme_error) else f"{loss.phoneme_error:.3f}"
            cells.append(f" {loss.word_error:.3f}; {phonemes}; {loss.mos:.2f} |")
        rows.append(f"| {stage} |{''.join(cells)}")
    return "\n".join(rows) + "\n"
