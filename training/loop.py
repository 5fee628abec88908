# pyright: basic
"""One training loop for every stage: schedule, resumable checkpoints, log, progress bar.

Batches are a function of seed and step alone, so an interrupted run resumes exactly.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from training.progress import progress

SAVE_EVERY_S = 60.0
STATE = "state.pt"  # in a stage's directory
LOG_EVERY = 25  # steps
WARM_UP = 100  # steps

StepLoss = Callable[[int, np.random.Generator], tuple[Tensor, dict[str, float]]]


@dataclass(frozen=True, slots=True)
class Schedule:
    """Adam with a warm-up and a cosine, once or in several cycles (Loshchilov and Hutter 2017)."""

    cycles: tuple[int, ...]
    """Steps of each cycle."""
    lr: float
    end: float = 0.03  # of lr
    hold: float = 0.0
    """Share of a cycle at full rate before the cosine begins."""
    weight_decay: float = 0.02
    betas: tuple[float, float] = (0.9, 0.98)
    clip: float = 1.0
    ema: float = 0.0  # 0: no averaged copy

    @property
    def steps(self) -> int:
        """Steps of all cycles."""
        return sum(self.cycles)

    def rate(self, step: int) -> float:
        """Learning rate of a step."""
        number = 0
        while step >= self.cycles[number]:
            step -= self.cycles[number]
            number += 1
        length = self.cycles[number]
        share = max(0.0, (step / length - self.hold) / (1 - self.hold))
        cosine = self.end + (1 - self.end) * 0.5 * (1 + math.cos(math.pi * share))
        return self.lr * cosine * min(1.0, (step + 1) / min(WARM_UP, length))


def train(
    module: nn.Module, loss_of: StepLoss, schedule: Schedule, directory: Path, seed: int, title: str
) -> None:
    """Run all steps, or the remaining ones, on the module's device.

    The module ends with the final (averaged, if asked for) parameters.
    """
    optimizer = torch.optim.AdamW(
        [p for p in module.parameters() if p.requires_grad],
        lr=schedule.lr,
        betas=schedule.betas,
        weight_decay=schedule.weight_decay,
        fused=True,
    )
    average = _clone(module) if schedule.ema else {}
    path = directory / STATE
    first, spent_s = _resume(path, module, optimizer, average)
    saved = begun = time.monotonic()
    module.train()
    with (directory / "log.jsonl").open("a", encoding="utf-8") as log:
        for step in progress(range(first, schedule.steps), title, schedule.steps - first):
            for group in optimizer.param_groups:
                group["lr"] = schedule.rate(step)
            loss, parts = loss_of(step, np.random.default_rng((seed, step)))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            norm = nn.utils.clip_grad_norm_(module.parameters(), schedule.clip)
            optimizer.step()
            _follow(average, module, 1 - min(schedule.ema, (step + 1) / (step + 10)))
            if step % LOG_EVERY == 0 or step == schedule.steps - 1:
                took_s = round(spent_s + time.monotonic() - begun, 3)
                line = {
                    "step": step,
                    "s": took_s,
                    "loss": float(loss.detach()),
                    "norm": float(norm),
                    **parts,
                }
                log.write(json.dumps(line) + "\n")
                log.flush()
            if time.monotonic() - saved > SAVE_EVERY_S:
                saved = time.monotonic()
                _save(path, module, optimizer, average, step + 1, spent_s + saved - begun)
    if schedule.steps > first:
        _save(path, module, optimizer, average, schedule.steps, spent_s + time.monotonic() - begun)
    if average:
        module.load_state_dict(average, strict=False)
    module.eval()


def load_trained(module: nn.Module, directory: Path) -> nn.Module:
    """Load the last saved parameters of a stage, averaged if the stage averages."""
    state = torch.load(directory / STATE, weights_only=True, map_location="cpu")
    module.load_state_dict(state["module"])
    if state["average"]:
        module.load_state_dict(state["average"], strict=False)
    return module.eval()


def is_done(directory: Path, steps: int) -> bool:
    """Whether the stage in `directory` has run all its steps."""
    path = directory / STATE
    return path.is_file() and torch.load(path, weights_only=True, mmap=True)["step"] >= steps


def read_log(directory: Path) -> list[dict[str, float]]:
    """The stage's log, oldest first."""
    return [json.loads(line) for line in (directory / "log.jsonl").read_text().splitlines()]


def smoothed(values: Iterable[float], weight: float = 0.9) -> list[float]:
    """Exponential mean, for plots and messages."""
    out: list[float] = []
    for value in values:
        out.append(value if not out else weight * out[-1] + (1 - weight) * value)
    return out


def _clone(module: nn.Module) -> dict[str, Tensor]:
    return {k: v.detach().clone() for k, v in module.state_dict().items() if v.is_floating_point()}


def _follow(average: dict[str, Tensor], module: nn.Module, weight: float) -> None:
    state = module.state_dict() if average else {}
    for name, mean in average.items():
        mean.lerp_(state[name], weight)


def _resume(
    path: Path, module: nn.Module, optimizer: torch.optim.Optimizer, average: dict[str, Tensor]
) -> tuple[int, float]:
    """First step to run and seconds spent so far."""
    if not path.is_file():
        return 0, 0.0
    state = torch.load(path, weights_only=True, map_location="cpu")
    module.load_state_dict(state["module"])
    optimizer.load_state_dict(state["optimizer"])
    for name, mean in state["average"].items():
        average[name].copy_(mean)
    return int(state["step"]), float(state["seconds"])


def _save(
    path: Path,
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: dict[str, Tensor],
    step: int,
    seconds: float,
) -> None:
    """Save atomically: an interruption leaves the former state."""
    state = {
        "module": module.state_dict(),
        "optimizer": optimizer.state_dict(),
        "average": average,
        "step": step,
        "seconds": seconds,
    }
    part = path.with_suffix(".part")
    torch.save(state, part)
    os.replace(part, path)
