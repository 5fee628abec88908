# pyright: basic
"""Stage `vq02`: FunASR's streaming encoder at a small size, taught phones, tones and prosody.

Then its codebook.

The forward pass is the serving code's own, so the codes see exactly the chunks that serving sees.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import yaml
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.stepaudio.checkpoint.tiny_configs import EXPANDED_MELS, linguistic_config
from pipeline.stepaudio.tokenizer.linguistic import LinguisticEncoder
from pipeline.text.sounds.symbols import MARKS
from training.config import Recipe
from training.loop import Schedule, load_trained, train
from training.models.quantizer import Quantizer
from training.models.readout import MARKS_WEIGHT, readout_loss
from training.models.sizes import SIZES
from training.speech.alignment import CLASSES
from training.speech.clips import Corpus
from training.speech.corpus import load_corpus
from training.speech.streams import Stream, draw_stream

CODE_S = 0.06
SLOTS_S = (0.0, 0.02, 0.04)  # where from a code's time on its labels are read
QUANTIZE_FROM = 0.55  # share of the steps before codes take part
START_STREAMS = 60  # for k-means
CMVN_STREAMS = 80
PITCH_UNIT = 0.15  # log F0 against the speaker's median, in units near one
LEVEL_UNIT_DB = 10.0
ENERGY_HOP_SAMPLES = 160
BLOCKS_KEPT = "encoder."
STREAMS = 2  # a step
SHOWN = ("accuracy", "marks", "pitch", "voicing_level")


class LinguisticNet(nn.Module):
    """The encoder, its two readouts and the codebook."""

    def __init__(self, cmvn: Path, n_codes: int, device: torch.device | str = "cpu") -> None:
        super().__init__()
        config = yaml.safe_load(paraformer_yaml())
        self.linguistic = LinguisticEncoder(
            config["encoder_conf"], config["frontend_conf"], cmvn, str(device)
        )
        self.encoder = self.linguistic.encoder  # registers the parameters
        width = config["encoder_conf"]["output_size"]
        self.phones = nn.Linear(width, len(SLOTS_S) * len(CLASSES))
        self.marks = nn.Linear(width, len(SLOTS_S) * len(MARKS))
        self.prosody = nn.Linear(width, 3)  # relative log F0, voicing, level
        self.quantizer = Quantizer(n_codes, width)
        self.to(device)

    def forward(self, samples: Tensor) -> Tensor:
        """16 kHz samples [n], on the CPU → hidden [T, D]."""
        encode: Any = LinguisticEncoder.encode
        return encode.__wrapped__(self.linguistic, samples)  # without its inference mode

    def train(self, mode: bool = True) -> LinguisticNet:
        """The encoder's own dropout stays off: data is endless."""
        super().train(mode)
        self.encoder.eval()
        return self


def paraformer_yaml() -> str:
    """The checkpoint's FunASR config."""
    return linguistic_config(SIZES)


def cmvn_text(shift: NDArray[np.floating], scale: NDArray[np.floating]) -> str:
    """Kaldi nnet text with one shift and one scale per stacked mel."""
    size = len(shift)
    head = f"<Nnet> \n<Splice> {size} {size} \n[ 0 ]\n"
    body = "".join(
        f"<{tag}> {size} {size} \n<LearnRateCoef> 0 [ {' '.join(f'{v:.6f}' for v in row)} ]\n"
        for tag, row in (("AddShift", shift), ("Rescale", scale))
    )
    return f"{head}{body}</Nnet> \n"


def train_linguistic(recipe: Recipe) -> None:
    """Stage `vq02`."""
    torch.manual_seed(recipe.seed)
    corpus, section = load_corpus(recipe, "train"), recipe["vq02"]
    cmvn = _make_cmvn(recipe, corpus)
    medians = voice_medians_hz(corpus)
    net = LinguisticNet(cmvn, int(section["codes"]), recipe.device)
    steps = recipe.steps("vq02")

    def loss_of(step: int, rng: np.random.Generator) -> tuple[Tensor, dict[str, float]]:
        if step >= QUANTIZE_FROM * steps and not net.quantizer.is_ready:
            _start_codes(net, recipe, corpus)
        total, shown = torch.zeros((), device=recipe.device), np.zeros(len(SHOWN))
        for _ in range(STREAMS):
            stream = draw_stream(corpus, rng, float(section["stream_s"]))
            hidden = net(stream.samples)
            if net.quantizer.is_ready:
                hidden, commitment = net.quantizer(hidden)
                total = total + commitment / STREAMS
            times_s = _times_s(len(hidden))
            phones, accuracy = readout_loss(net.phones(hidden), stream.labels(times_s))
            marks, marks_accuracy = readout_loss(net.marks(hidden), stream.marks(times_s))
            pitch, others = _prosody_loss(net, hidden, stream, medians)
            weight = float(section["prosody_weight"])
            spoken = phones + MARKS_WEIGHT * marks
            total = total + (spoken + weight * (pitch + others)) / STREAMS
            seen = (accuracy, marks_accuracy, float(pitch.detach()), float(others.detach()))
            shown += np.array(seen) / STREAMS
        return total, dict(zip(SHOWN, shown.tolist(), strict=True))

    schedule = Schedule(recipe.cycles("vq02"), float(section["lr"]), hold=0.2)
    train(net, loss_of, schedule, recipe.directory("vq02"), recipe.seed, "vq02")


def load_linguistic(recipe: Recipe) -> LinguisticNet:
    """The trained net."""
    directory = recipe.directory("vq02")
    net = LinguisticNet(directory / "am.mvn", int(recipe["vq02"]["codes"]))
    return load_trained(net, directory)  # pyright: ignore[reportReturnType]


def voice_medians_hz(corpus: Corpus) -> dict[int, float]:
    """Median F0 of each voice."""
    medians = {}
    for voice, indices in corpus.of_voice.items():
        f0 = np.concatenate([corpus[int(i)].f0 for i in indices])
        medians[int(voice)] = float(np.median(f0[f0 > 0])) if (f0 > 0).any() else 100.0
    return medians


def _times_s(n_codes: int) -> NDArray[np.float64]:
    starts_s = np.arange(n_codes, dtype=np.float64)[:, None] * CODE_S
    return (starts_s + np.array(SLOTS_S, np.float64)).reshape(-1)


def _prosody_loss(
    net: LinguisticNet, hidden: Tensor, stream: Stream, medians: dict[int, float]
) -> tuple[Tensor, Tensor]:
    """Of relative pitch where voiced; of voicing and level."""
    f0 = stream.f0(_times_s(len(hidden))).reshape(-1, len(SLOTS_S))
    voiced = f0 > 0
    share = torch.from_numpy(voiced.mean(1).astype(np.float32))
    log = np.log(np.where(voiced, f0, 1.0) / medians[stream.clips[0].voice])
    relative = (log * voiced).sum(1) / np.maximum(1, voiced.sum(1)) / PITCH_UNIT
    target = torch.from_numpy(relative.clip(-4, 4).astype(np.float32))
    level = torch.from_numpy(_levels(stream.samples.numpy(), len(hidden)))
    share, target, level = (x.to(hidden.device) for x in (share, target, level))
    made = net.prosody(hidden)
    pitch = (
        F.smooth_l1_loss(made[:, 0], target, reduction="none") * share
    ).sum() / share.sum().clamp(min=1)
    voicing = F.binary_cross_entropy_with_logits(made[:, 1], share)
    return pitch, 0.5 * voicing + 0.5 * F.smooth_l1_loss(made[:, 2], level)


def _levels(samples: NDArray[np.float32], n_codes: int) -> NDArray[np.float32]:
    """Level of each code's 60 ms against full scale, in units of LEVEL_UNIT_DB."""
    size = int(CODE_S * 16000)
    padded = np.pad(samples, (0, max(0, n_codes * size - len(samples))))[: n_codes * size]
    power = np.square(padded).reshape(n_codes, size).mean(1)
    return ((10 * np.log10(power + 1e-6) + 30) / LEVEL_UNIT_DB).astype(np.float32)


@torch.no_grad()
def _start_codes(net: LinguisticNet, recipe: Recipe, corpus: Corpus) -> None:
    rng = np.random.default_rng((recipe.seed, 2))
    longest_s = float(recipe["vq02"]["stream_s"])
    streams = (draw_stream(corpus, rng, longest_s) for _ in range(START_STREAMS))
    vectors = [net(stream.samples).cpu() for stream in streams]
    generator = torch.Generator().manual_seed(recipe.seed)
    iterations = int(recipe["vq02"]["clusters_iterations"])
    net.quantizer.start(torch.cat(vectors), iterations, generator)


def _make_cmvn(recipe: Recipe, corpus: Corpus) -> Path:
    """am.mvn over disturbed streams; kept when it is there."""
    path = recipe.directory("vq02") / "am.mvn"
    if path.is_file():
        return path
    neutral = recipe.directory("vq02") / "neutral.mvn"
    ones = np.ones(EXPANDED_MELS)
    neutral.write_text(cmvn_text(0 * ones, ones), encoding="utf-8")
    encoder = LinguisticNet(neutral, 1).linguistic
    rng = np.random.default_rng((recipe.seed, 3))
    features = [
        encoder.frames(draw_stream(corpus, rng, 8.0).samples).features for _ in range(CMVN_STREAMS)
    ]
    stacked = torch.cat(features).numpy()
    path.write_text(cmvn_text(-stacked.mean(0), 1 / stacked.std(0).clip(min=0.1)), encoding="utf-8")
    return path
