# pyright: basic
"""A stage of the training recipe on the device: steps a second, the loss, memory, its kernels.

On a made-up corpus: what it learns is of no use, what it costs is that of the recipe.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from load_tests.bench.report import Row
from load_tests.gpu.sections.made_up_corpus import CorpusSize, write_made_up_corpus
from load_tests.gpu.sections.profile import kernel_table
from load_tests.gpu.sections.section import Section
from pipeline.errors import ConfigError
from training.config import DEFAULT_CONFIG, Recipe, load_recipe
from training.loop import LOG_EVERY, read_log
from training.run import run_stage

FULL_CORPUS, REHEARSED_CORPUS = CorpusSize(8, 6), CorpusSize(2, 4)
MOST_THREADS = 8
CPU_STEPS = 12
TRIAL_STEPS = LOG_EVERY + 1
PROFILED_STEPS = 6
REHEARSED_STEPS = 6
LEAST_STEPS = 2 * LOG_EVERY
LAST_LINES = 4  # of the log, over which the loss at the end is averaged
RESERVE = 0.85  # share of the time that the steps are planned for
AFTER_S = 5.0  # for what comes behind the last step


def trainable() -> list[str]:
    """The recipe's stages that train."""
    tree = load_recipe(DEFAULT_CONFIG).tree
    return [name for name, part in tree.items() if isinstance(part, Mapping) and "steps" in part]


def measure_training(section: Section, stage: str, minutes: float) -> None:
    """Fill the section. Raises ConfigError for a stage that does not train."""
    if stage not in trainable():
        raise ConfigError(f"--train takes one of {', '.join(trainable())}, not {stage!r}")
    usual_threads = torch.get_num_threads()
    torch.set_num_threads(1 if section.sizes.is_rehearsal else min(MOST_THREADS, _n_cpus()))
    try:
        with tempfile.TemporaryDirectory() as name:
            _measure(section, _Subject(section, Path(name), stage), minutes)
    finally:
        torch.set_num_threads(usual_threads)


def _n_cpus() -> int:
    return os.cpu_count() or 1


def _measure(section: Section, subject: _Subject, minutes: float) -> None:
    stage, ends_s = subject.stage, time.monotonic() + 60 * minutes
    section.facts["stage"] = {stage: dict(subject.tree()[stage])}
    section.part("made-up corpus", subject.write_corpus, 5)
    section.part(f"{stage} on the CPU", lambda: subject.speed("cpu"))
    if section.is_cuda:
        section.part(f"{stage} on {section.device}", lambda: subject.speed(section.device))
        section.part(f"kernels of {stage}", subject.kernels)
    section.part(f"{stage}, {minutes:g} minutes", lambda: subject.run_until(ends_s))


class _Subject:
    """A stage, and how fast its steps were found to be."""

    def __init__(self, section: Section, directory: Path, stage: str) -> None:
        self.stage = stage
        self._section, self._directory = section, directory
        self._step_s: dict[str, float] = {}

    def tree(self, device: str = "cpu", steps: int = 1) -> dict[str, Any]:
        """The recipe's own settings, but for device and steps.

        Without torch.compile, which needs a C++ compiler and a minute.
        """
        tree = dict(load_recipe(DEFAULT_CONFIG).tree)
        changes = {"compile": False} if "compile" in tree[self.stage] else {}
        tree[self.stage] = {**tree[self.stage], "steps": steps, **changes}
        return {**tree, "device": device}

    def _recipe(self, device: str, steps: int) -> Recipe:
        tree = self.tree(device, steps)
        return Recipe(self._directory, tree, int(tree["seed"]))

    def write_corpus(self) -> None:
        """Before all else."""
        size = REHEARSED_CORPUS if self._section.sizes.is_rehearsal else FULL_CORPUS
        write_made_up_corpus(self._recipe("cpu", 1), size)

    def _train(self, device: str, steps: int) -> list[dict[str, float]]:
        """So many steps from the beginning → their log."""
        recipe = self._recipe(device, steps)
        for name in ("state.pt", "log.jsonl"):
            (recipe.directory(self.stage) / name).unlink(missing_ok=True)
        run_stage(recipe, self.stage)
        return read_log(recipe.directory(self.stage))

    def speed(self, device: str) -> list[Row]:
        """Steps a second, the first not counted; k-means is, where a stage begins codes by it."""
        if self._section.sizes.is_rehearsal:
            steps = REHEARSED_STEPS
        else:
            steps = CPU_STEPS if device == "cpu" else TRIAL_STEPS
        step_s = self._step_s[device] = _step_s(self._train(device, steps))
        rows = [_speed_row(f"{self.stage} on {self._place(device)}", step_s)]
        if device != "cpu" and "cpu" in self._step_s:
            ratio = self._step_s["cpu"] / step_s
            rows.append(Row(f"{self.stage}: {device} over CPU", ratio, "x", None, "higher"))
        return rows

    def _place(self, device: str) -> str:
        return f"cpu, {torch.get_num_threads()} threads" if device == "cpu" else device

    def kernels(self) -> list[Row]:
        """What a step launches, and which share of it the device is busy."""
        device = self._section.device
        table = kernel_table(lambda: self._train(device, PROFILED_STEPS), device, repeats=1)
        self._section.add_table(f"{self.stage}, {PROFILED_STEPS} steps", table)
        busy_s = table[-1]["us"] / 1e6 / PROFILED_STEPS
        rows = [Row(f"{self.stage}: in kernels, a step", busy_s * 1e3, "ms")]
        if device in self._step_s:
            share = 100 * busy_s / self._step_s[device]
            rows.append(Row(f"{self.stage}: {device} busy", share, "%", None, "higher"))
        return rows

    def run_until(self, ends_s: float) -> list[Row]:
        """As many steps as fit: their speed, the loss, memory."""
        device = self._section.device
        steps = self._fitting_steps(device, ends_s)
        if self._section.is_cuda:
            torch.cuda.reset_peak_memory_stats()
        log = self._train(device, steps)
        self._section.add_table("log", log[:: -(-len(log) // 100)])
        first, last = log[0]["loss"], float(np.mean([line["loss"] for line in log[-LAST_LINES:]]))
        is_long = len(log) > LAST_LINES + 1
        rows = [
            Row(f"{self.stage}: steps", steps, "steps", None, "higher"),
            _speed_row(f"{self.stage} on {self._place(device)}, all steps", _step_s(log)),
            Row(f"{self.stage}: loss of the first step", first, "loss"),
            Row(f"{self.stage}: loss at the end", last, "loss", first if is_long else None),
        ]
        if self._section.is_cuda:
            peak_bytes = torch.cuda.max_memory_allocated()
            rows.append(Row(f"{self.stage}: device memory", peak_bytes / 2**20, "MiB"))
        return rows

    def _fitting_steps(self, device: str, ends_s: float) -> int:
        """Raises KeyError where the speed is not known."""
        if self._section.sizes.is_rehearsal:
            return REHEARSED_STEPS
        left_s = min(ends_s, self._section.deadline_s - AFTER_S) - time.monotonic()
        return max(LEAST_STEPS, int(RESERVE * left_s / self._step_s[device]))


def _speed_row(name: str, step_s: float) -> Row:
    return Row(f"{name}: steps a second", 1 / step_s, "1/s", None, "higher")


def _step_s(log: list[dict[str, float]]) -> float:
    """Seconds of a step between the first line of a log, which warms up, and the last."""
    first, last = log[0], log[-1]
    return (last["s"] - first["s"]) / (last["step"] - first["step"])
