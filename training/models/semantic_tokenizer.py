# pyright: basic
"""Stage `vq06`: Whisper mel → posteriors of phones and tones → codes.

Exported to ONNX with the official inputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.stepaudio.tokenizer.features import whisper_mel
from pipeline.text.sounds.symbols import MARKS
from training.config import Recipe
from training.loop import Schedule, load_trained, train
from training.models.quantizer import Quantizer
from training.models.readout import MARKS_WEIGHT, readout_loss
from training.progress import progress
from training.speech.alignment import CLASSES
from training.speech.corpus import load_corpus
from training.speech.streams import Stream, draw_stream

MELS = 128
CODE_S = 0.04
SLOTS_S = (0.01, 0.03)  # where in a code's 40 ms its two labels are read
KERNEL = 7
GELU_SHARE = 2  # hidden width of a block over its width
STREAMS = 2  # a step
SHOWN = ("accuracy", "marks")
QUANTIZE_FROM = 0.6  # share of the steps before codes take part
START_STREAMS = 60  # for k-means
MAX_SHIFT = 3  # mel bins that augmentation moves the spectrum


class Block(nn.Module):
    """Depthwise convolution and two linear layers, residual. [1, W, T] → same."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv1d(width, width, KERNEL, padding=KERNEL // 2, groups=width)
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, GELU_SHARE * width)
        self.down = nn.Linear(GELU_SHARE * width, width)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.depthwise(x).transpose(1, 2))
        return x + self.down(F.gelu(self.up(y))).transpose(1, 2)


class SemanticNet(nn.Module):
    """log-mel [1, 128, T] → vectors [1, ceil(T / 4), D] whose linear readout tells the phones."""

    def __init__(self, section: Mapping[str, Any]) -> None:
        super().__init__()
        width, bottleneck = int(section["width"]), int(section["bottleneck"])
        self.conv1 = nn.Conv1d(MELS, width, 3, stride=2, padding=1)
        self.conv2 = nn.Conv1d(width, width, 3, stride=2, padding=1)
        self.blocks = nn.ModuleList(Block(width) for _ in range(int(section["blocks"])))
        self.norm = nn.LayerNorm(width)
        self.bottleneck = nn.Linear(width, bottleneck)
        self.head = nn.Linear(bottleneck, len(SLOTS_S) * len(CLASSES))
        self.marks = nn.Linear(bottleneck, len(SLOTS_S) * len(MARKS))
        self.quantizer = Quantizer(int(section["codes"]), bottleneck)

    def forward(self, mel: Tensor) -> Tensor:
        mel = mel - mel.mean(dim=2, keepdim=True)
        x = F.gelu(self.conv2(F.gelu(self.conv1(mel))))
        for block in self.blocks:
            x = block(x)
        return self.bottleneck(self.norm(x.transpose(1, 2)))

    def loss(self, vectors: Tensor, stream: Stream) -> tuple[Tensor, dict[str, float]]:
        """Of the readouts of vectors [T, D] against the stream's labels, with their accuracies."""
        times_s = np.arange(len(vectors))[:, None] * CODE_S + np.array(SLOTS_S)
        times_s = times_s.reshape(-1)
        phones, accuracy = readout_loss(self.head(vectors), stream.labels(times_s))
        marks, marks_accuracy = readout_loss(self.marks(vectors), stream.marks(times_s))
        return phones + MARKS_WEIGHT * marks, {"accuracy": accuracy, "marks": marks_accuracy}


class ExportedNet(nn.Module):
    """What the ONNX file holds: official inputs in, codes out."""

    def __init__(self, net: SemanticNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, feats: Tensor, feats_length: Tensor) -> Tensor:
        vectors = self.net(feats[:, :, : feats_length[0].long()])
        codebook = self.net.quantizer.codebook
        distance = codebook.square().sum(1) - 2 * vectors @ codebook.T
        return distance.argmin(2).to(torch.int32)


def train_semantic(recipe: Recipe) -> None:
    """Stage `vq06`."""
    torch.manual_seed(recipe.seed)
    corpus, section = load_corpus(recipe, "train"), recipe["vq06"]
    net = SemanticNet(section).to(recipe.device)
    steps = recipe.steps("vq06")

    def loss_of(step: int, rng: np.random.Generator) -> tuple[Tensor, dict[str, float]]:
        if step >= QUANTIZE_FROM * steps and not net.quantizer.is_ready:
            _start_codes(net, recipe, step)
        total = torch.zeros((), device=recipe.device)
        shown: dict[str, float] = dict.fromkeys(SHOWN, 0.0)
        for _ in range(STREAMS):
            stream = draw_stream(corpus, rng, float(section["stream_s"]))
            vectors = net(_augmented(whisper_mel(stream.samples), rng)[None].to(recipe.device))[0]
            if net.quantizer.is_ready:
                vectors, commitment = net.quantizer(vectors)
                total = total + commitment / STREAMS
            loss, seen = net.loss(vectors, stream)
            total = total + loss / STREAMS
            shown = {name: shown[name] + seen[name] / STREAMS for name in SHOWN}
        return total, shown

    schedule = Schedule(recipe.cycles("vq06"), float(section["lr"]), hold=0.2)
    train(net, loss_of, schedule, recipe.directory("vq06"), recipe.seed, "vq06")


def load_semantic(recipe: Recipe) -> SemanticNet:
    """The trained net."""
    return load_trained(SemanticNet(recipe["vq06"]), recipe.directory("vq06"))  # pyright: ignore[reportReturnType]


def export_semantic(net: SemanticNet, path: Path) -> None:
    """Write the ONNX file.

    Feats (1, 128, T), feats_length (1,) → indices int32 (1, ceil(T / 4)).
    """
    feats, length = torch.zeros(1, MELS, 200), torch.tensor([200], dtype=torch.int32)
    torch.onnx.export(
        ExportedNet(net).eval(),
        (feats, length),
        str(path),
        input_names=["feats", "feats_length"],
        output_names=["indices"],
        dynamic_axes={"feats": {2: "T"}, "indices": {1: "T_codes"}},
        opset_version=17,
        dynamo=False,
    )


@torch.no_grad()
def _start_codes(net: SemanticNet, recipe: Recipe, step: int) -> None:
    corpus = load_corpus(recipe, "train")
    rng = np.random.default_rng((recipe.seed, step, 1))
    vectors = []
    for _ in progress(range(START_STREAMS), "k-means", START_STREAMS):
        stream = draw_stream(corpus, rng, float(recipe["vq06"]["stream_s"]))
        vectors.append(net(whisper_mel(stream.samples)[None].to(recipe.device))[0].cpu())
    generator = torch.Generator().manual_seed(recipe.seed)
    iterations = int(recipe["vq06"]["clusters_iterations"])
    net.quantizer.start(torch.cat(vectors), iterations, generator)


def _augmented(mel: Tensor, rng: np.random.Generator) -> Tensor:
    """The mel [128, T] moved a little in frequency, as by a vocal tract of another length."""
    shift = int(rng.integers(-MAX_SHIFT, MAX_SHIFT + 1))
    if shift:
        mel = torch.roll(mel, shift, dims=0)
        edge = slice(0, shift) if shift > 0 else slice(shift, None)
        mel[edge] = mel.min()
    return mel
