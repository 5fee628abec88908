# pyright: basic
"""Stage `speaker`: fbank → 192 numbers that tell speakers apart, exported to ONNX."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.stepaudio.config import FBANK_MELS
from pipeline.stepaudio.tokenizer.features import speaker_fbank
from pipeline.stepaudio.tokenizer.waveform import limit_peak
from training.config import Recipe
from training.loop import Schedule, load_trained, train
from training.models.linguistic_tokenizer import voice_medians_hz
from training.speech.clips import TOKENIZER_RATE_HZ
from training.speech.corpus import load_corpus
from training.speech.streams import draw_stream

EMBEDDING = 192
SCALE, MARGIN = 24.0, 0.15  # of the cosine softmax
PITCH_WEIGHT = 3.0
PITCH_CENTRE_HZ = 150.0
DISTURBED = 0.5


class SpeakerNet(nn.Module):
    """fbank without its mean [B, T, 80] → [B, 192]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv1d(FBANK_MELS, channels, 5, padding=2),
            nn.ReLU(),
            nn.BatchNorm1d(channels),
            nn.Conv1d(channels, channels, 5, stride=2, padding=2),
            nn.ReLU(),
            nn.BatchNorm1d(channels),
            nn.Conv1d(channels, 2 * channels, 3, padding=1),
            nn.ReLU(),
            nn.BatchNorm1d(2 * channels),
        )
        self.project = nn.Linear(4 * channels, EMBEDDING)

    def forward(self, fbank: Tensor) -> Tensor:
        x = self.conv(fbank.transpose(1, 2))
        mean = x.mean(2)
        deviation = ((x * x).mean(2) - mean * mean).clamp(min=1e-5).sqrt()
        return self.project(torch.cat((mean, deviation), 1))


class SpeakerTask(nn.Module):
    """The net with what it is trained by: a class per speaker, and the speaker's median pitch."""

    def __init__(self, channels: int, n_speakers: int) -> None:
        super().__init__()
        self.net = SpeakerNet(channels)
        self.classes = nn.Parameter(torch.randn(n_speakers, EMBEDDING) * 0.1)
        self.pitch = nn.Linear(EMBEDDING, 1)

    def forward(
        self, fbank: Tensor, voices: Tensor, log_pitch: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Speaker loss, pitch loss, accuracy."""
        embedding = F.normalize(self.net(fbank), dim=1)
        cosine = embedding @ F.normalize(self.classes, dim=1).T
        margin = MARGIN * F.one_hot(voices, len(self.classes))
        accuracy = (cosine.argmax(1) == voices).float().mean()
        pitch = self.pitch(embedding * math.sqrt(EMBEDDING))[:, 0]
        return (
            F.cross_entropy(SCALE * (cosine - margin), voices),
            (pitch - log_pitch).abs().mean(),
            accuracy,
        )


def train_speaker(recipe: Recipe) -> None:
    """Stage `speaker`."""
    torch.manual_seed(recipe.seed)
    corpus, section = load_corpus(recipe, "train"), recipe["speaker"]
    medians = voice_medians_hz(corpus)
    task = SpeakerTask(int(section["channels"]), int(recipe["corpus"]["speakers"]["train"])).to(
        recipe.device
    )

    def loss_of(step: int, rng: np.random.Generator) -> tuple[Tensor, dict[str, float]]:
        length = int(rng.uniform(0.6, 1.4) * float(section["crop_s"]) * TOKENIZER_RATE_HZ)
        fbanks, voices = [], []
        for _ in range(int(section["batch"])):
            stream = draw_stream(corpus, rng, 4.0, disturb=rng.random() < DISTURBED)
            first = int(rng.integers(max(1, len(stream.samples) - length)))
            piece = stream.samples[first : first + length]
            piece = piece.repeat(1 + length // len(piece))[:length]
            fbanks.append(speaker_fbank(limit_peak(piece)))
            voices.append(stream.clips[0].voice)
        log_pitch = torch.tensor([math.log(medians[v] / PITCH_CENTRE_HZ) for v in voices])
        batch = (torch.stack(fbanks), torch.tensor(voices), log_pitch)
        speaker, pitch, accuracy = task(*(x.to(recipe.device) for x in batch))
        parts = {"accuracy": float(accuracy), "pitch": float(pitch.detach())}
        return speaker + PITCH_WEIGHT * pitch, parts

    schedule = Schedule(recipe.cycles("speaker"), float(section["lr"]))
    train(task, loss_of, schedule, recipe.directory("speaker"), recipe.seed, "speaker")


def load_speaker(recipe: Recipe) -> SpeakerNet:
    """The trained net."""
    n_speakers = int(recipe["corpus"]["speakers"]["train"])
    task = SpeakerTask(int(recipe["speaker"]["channels"]), n_speakers)
    load_trained(task, recipe.directory("speaker"))
    return task.net.eval()


def export_speaker(net: SpeakerNet, path: Path) -> None:
    """Write the ONNX file: input (1, T, 80) → output (1, 192)."""
    torch.onnx.export(
        net.eval(),
        (torch.zeros(1, 200, FBANK_MELS),),
        str(path),
        input_names=["input"],
        output_names=["output"],
        dynamic_axes={"input": {1: "T"}},
        opset_version=17,
        dynamo=False,
    )
