"""The recipe's settings: one YAML file as a plain tree with attribute access by stage."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from pipeline.errors import ConfigError

DEFAULT_CONFIG = Path(__file__).parent / "config.yaml"


@dataclass(frozen=True)
class Recipe:
    """One recipe and where it runs."""

    work_dir: Path
    """Directory of all outputs."""
    tree: Mapping[str, Any]
    """The YAML."""
    seed: int
    """Seed of every stage."""
    scale: float = 1.0
    """Factor on all step counts."""

    def __getitem__(self, section: str) -> Mapping[str, Any]:
        return self.tree[section]

    def cycles(self, stage: str) -> tuple[int, ...]:
        """Optimizer steps of each of a stage's learning rate cycles."""
        steps = self.tree[stage]["steps"]
        cycles = steps if isinstance(steps, list) else [steps]
        return tuple(max(1, round(int(n) * self.scale)) for n in cycles)

    def steps(self, stage: str) -> int:
        """Optimizer steps of a stage."""
        return sum(self.cycles(stage))

    @functools.cached_property
    def device(self) -> torch.device:
        """The device of training: `cpu`, `cuda`, or with `auto` a GPU if there is one."""
        name = str(self.tree.get("device", "auto"))
        if name == "auto":
            name = "cuda" if torch.cuda.is_available() else "cpu"
        return torch.device(name)

    def reduced_precision(self) -> torch.autocast:
        """Context of the forward passes of LLM and flow: bfloat16 if the recipe says so."""
        is_reduced = self.tree.get("precision", "float32") == "bfloat16"
        return torch.autocast(self.device.type, torch.bfloat16, enabled=is_reduced)

    def directory(self, stage: str) -> Path:
        """The stage's directory, created if missing."""
        path = self.work_dir / stage
        path.mkdir(parents=True, exist_ok=True)
        return path


def load_recipe(
    path: Path, *, work_dir: Path | None = None, seed: int | None = None, scale: float = 1.0
) -> Recipe:
    """Read the YAML; arguments override it.

    Raises ConfigError when the file cannot be read or lacks a section.
    """
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"the recipe {path} cannot be read: {error}") from error
    needed = ("work_dir", "seed", "threads", "text", "corpus")
    if missing := [name for name in needed if name not in tree]:
        raise ConfigError(f"the recipe {path} lacks {', '.join(missing)}")
    return Recipe(
        work_dir=work_dir or Path(tree["work_dir"]),
        tree=tree,
        seed=int(tree["seed"]) if seed is None else seed,
        scale=scale,
    )
