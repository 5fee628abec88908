# pyright: basic
"""Stage `judge`: a phone recogniser for evaluation, on voices and a seed that no other stage has.

It hears waveforms alone and shares no network or parameter with the tokenizers; the fbank function
and the augmentation are the same.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.stepaudio.tokenizer.features import kaldi_fbank
from pipeline.text.sounds.symbols import PAUSES, sounds_of
from training.config import Recipe
from training.loop import Schedule, load_trained, train
from training.speech.alignment import CLASS_ID, CLASSES, SILENCE
from training.speech.clips import Clip
from training.speech.corpus import load_corpus
from training.speech.streams import _disturbed

SEED_OFFSET = 7919
MELS = 80
WIDTH, KERNEL, DILATIONS = 112, 5, (1, 2, 4, 1, 2)
FRAME_S = 0.02
FRAME_CENTRE_S = 0.0125
FRAME_WEIGHT = 0.5  # of the frame-wise loss beside CTC
MAX_SHIFT = 3  # mel bins
SHORTEST_S = 0.5


class Judge(nn.Module):
    """fbank [T, 80] of a 16 kHz waveform → log-probabilities [T // 2, classes].

    Class 0, silence, is CTC's blank too.
    """

    def __init__(self) -> None:
        super().__init__()
        self.input = nn.Conv1d(MELS, WIDTH, 5, stride=2, padding=2)
        self.convs = nn.ModuleList(
            nn.Conv1d(WIDTH, 2 * WIDTH, KERNEL, dilation=d, padding=2 * d) for d in DILATIONS
        )
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in DILATIONS)
        self.recurrent = nn.GRU(WIDTH, WIDTH // 2, bidirectional=True, batch_first=True)
        self.frames = nn.Linear(WIDTH, len(CLASSES))
        self.phones = nn.Linear(WIDTH, len(CLASSES))

    def forward(self, fbank: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probabilities for CTC and of frames, [T, C] each."""
        x = (fbank - fbank.mean(0)) / 4
        x = self.input(x.T[None])
        for conv, norm in zip(self.convs, self.norms, strict=True):
            y = norm(x.transpose(1, 2)).transpose(1, 2)
            x = x + F.glu(conv(y), dim=1)
        hidden = x.transpose(1, 2)
        hidden = (hidden + self.recurrent(hidden)[0])[0]
        return self.phones(hidden).log_softmax(-1), self.frames(hidden).log_softmax(-1)

    @torch.no_grad()
    def hear(self, samples: Tensor) -> list[int]:
        """16 kHz waveform → phone classes."""
        best = self(features(samples))[0].argmax(-1).tolist()
        changed = [c for i, c in enumerate(best) if i == 0 or c != best[i - 1]]
        return [c for c in changed if c != CLASS_ID[SILENCE]]


def features(samples: Tensor) -> Tensor:
    """16 kHz waveform of any level → fbank [T, 80]."""
    return kaldi_fbank(samples / samples.abs().max().clamp(min=1e-4))


def phone_ids(text: str) -> list[int]:
    """Sounds as the front end writes them → classes, without pauses, borders and marks."""
    return [CLASS_ID[s.symbol] for s in sounds_of(text) if s.symbol not in PAUSES]


def errors(heard: Sequence[object], said: Sequence[object]) -> int:
    """Edit distance."""
    row = list(range(len(said) + 1))
    for i, a in enumerate(heard, 1):
        corner, row[0] = row[0], i
        for j, b in enumerate(said, 1):
            corner, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, corner + (a != b))
    return row[-1]


def train_judge(recipe: Recipe) -> None:
    """Stage `judge`."""
    seed = recipe.seed + SEED_OFFSET
    torch.manual_seed(seed)
    corpus, judge = load_corpus(recipe, "judge"), Judge().to(recipe.device)
    batch = int(recipe["judge"]["batch"])

    def loss_of(step: int, rng: np.random.Generator) -> tuple[Tensor, dict[str, float]]:
        total, wrong, count, used = torch.zeros((), device=recipe.device), 0, 0, 0
        for index in rng.integers(len(corpus), size=batch):
            clip = corpus[int(index)]
            said = phone_ids(clip.text)
            loss, heard = _clip_loss(judge, clip, said, rng)
            if torch.isfinite(loss):
                total, used = total + loss.to(recipe.device), used + 1
            if step % 25 == 0:
                wrong, count = wrong + errors(heard, said), count + len(said)
        return total / max(1, used), {"phone_error": wrong / count} if count else {}

    schedule = Schedule(recipe.cycles("judge"), float(recipe["judge"]["lr"]), hold=0.2)
    train(judge, loss_of, schedule, recipe.directory("judge"), seed, "judge")


def load_judge(recipe: Recipe) -> Judge:
    """The trained recogniser."""
    return load_trained(Judge(), recipe.directory("judge"))  # pyright: ignore[reportReturnType]


def _clip_loss(
    judge: Judge, clip: Clip, said: list[int], rng: np.random.Generator
) -> tuple[Tensor, list[int]]:
    samples = _disturbed(clip.audio16.astype(np.float32) / np.float32(32768), rng)
    fbank = features(torch.from_numpy(samples.astype(np.float32)))
    fbank = torch.roll(fbank, int(rng.integers(-MAX_SHIFT, MAX_SHIFT + 1)), dims=1)
    for_ctc, for_frames = (x.cpu() for x in judge(fbank.to(judge.phones.weight.device)))
    times_s = np.arange(len(for_frames)) * FRAME_S + FRAME_CENTRE_S
    frame = F.nll_loss(for_frames, torch.from_numpy(clip.labels(times_s)))
    target = torch.tensor(said)
    ctc = F.ctc_loss(
        for_ctc[:, None],
        target[None],
        torch.tensor([len(for_ctc)]),
        torch.tensor([len(said)]),
        blank=CLASS_ID[SILENCE],
    )
    best = for_ctc.detach().argmax(-1).tolist()
    heard = [
        c for i, c in enumerate(best) if c != CLASS_ID[SILENCE] and (i == 0 or c != best[i - 1])
    ]
    return ctc + FRAME_WEIGHT * frame, heard
