# pyright: basic
"""Stage `hift_critics`: the trained vocoder goes on learning, now against critics as well.

Vocoder and critics are one module with one optimizer: each loss reaches its own part alone, and an
interrupted run finds both where they were.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.stepaudio.vocoder.hift.generator import Hift
from training.config import Recipe
from training.loop import STATE, Schedule, load_trained, train
from training.models.critics import Critics, critics_loss, deceit_loss, likeness_loss
from training.models.hift import (
    EDGE_SAMPLES,
    compiled,
    draw_batch,
    load_f0,
    new_hift,
    spectral_loss,
)
from training.models.sizes import vocoder_config
from training.speech.corpus import load_corpus

STAGE = "hift_critics"
LIKENESS_WEIGHT, SPECTRAL_WEIGHT = 2.0, 1.0
ALONE_STEPS = 300  # at first the critics learn alone: the vocoder is far ahead of them


class Contest(nn.Module):
    """A vocoder and its critics."""

    def __init__(self, hift: Hift, critics: Critics) -> None:
        super().__init__()
        self.hift, self.critics = hift, critics


def new_contest(recipe: Recipe) -> Contest:
    """The vocoder as the stage `hift` left it, where that has run, and new critics."""
    hift = new_hift(vocoder_config())
    if (recipe.directory("hift") / STATE).is_file():
        load_trained(hift, recipe.directory("hift"))
    return Contest(hift, Critics(int(recipe[STAGE]["channels"])))


def train_against_critics(recipe: Recipe) -> None:
    """Stage `hift_critics`."""
    torch.manual_seed(recipe.seed)
    corpus, section = load_corpus(recipe, "train"), recipe[STAGE]
    contest = new_contest(recipe).to(recipe.device)
    if section["compile"]:
        compiled(contest.hift)

    def loss_of(step: int, rng: np.random.Generator) -> tuple[Tensor, dict[str, float]]:
        batch = draw_batch(corpus, rng, int(section["batch"]), int(section["frames"]))
        mel, f0, noise, target = (x.to(recipe.device) for x in batch)
        made = contest.hift.decode(mel, contest.hift.m_source(f0, noise))
        return contest_loss(contest.critics, made, target, is_alone=step < ALONE_STEPS)

    schedule = Schedule(
        recipe.cycles(STAGE), float(section["lr"]), betas=(0.8, 0.99), weight_decay=0.0, clip=20.0
    )
    train(contest, loss_of, schedule, recipe.directory(STAGE), recipe.seed, STAGE)


def contest_loss(
    critics: Critics, made: Tensor, target: Tensor, is_alone: bool
) -> tuple[Tensor, dict[str, float]]:
    """Waveforms [B, L] → the loss of both sides, and its parts.

    is_alone: the critics alone learn; the vocoder keeps to its spectral loss.
    """
    spectral, parts = spectral_loss(made, target)
    inner = slice(EDGE_SAMPLES, -EDGE_SAMPLES)
    made, target = made[:, inner], target[:, inner]
    real = critics(target)
    told_apart = critics_loss(real, critics(made.detach()))
    total = told_apart + SPECTRAL_WEIGHT * spectral
    parts["critics"] = float(told_apart.detach())
    if not is_alone:
        seen = critics.judge_frozen(made)
        deceit, likeness = deceit_loss(seen), likeness_loss(real, seen)
        total = total + deceit + LIKENESS_WEIGHT * likeness
        parts |= {"deceit": float(deceit.detach()), "likeness": float(likeness.detach())}
    return total, parts


def load_hift(recipe: Recipe) -> Hift:
    """The generator that the critics left, with the trained F0 predictor, weight norm in place."""
    contest = new_contest(recipe)
    load_trained(contest, recipe.directory(STAGE))
    hift = contest.hift
    hift.f0_predictor.load_state_dict(load_f0(recipe).state_dict())  # the generator trains without
    return hift.eval()
