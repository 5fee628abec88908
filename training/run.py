# pyright: basic
"""The recipe's command: `python -m training.run --stage NAME` or `--stage all`.

A finished stage is kept; an interrupted one resumes.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import torch

from training.config import DEFAULT_CONFIG, Recipe, load_recipe
from training.loop import is_done

# stage → module and function; heavy modules load when their stage runs
_FUNCTIONS = {
    "corpus": ("speech.corpus", "make_corpus"),
    "judge": ("judging.phoneme_judge", "train_judge"),
    "vq06": ("models.semantic_tokenizer", "train_semantic"),
    "vq02": ("models.linguistic_tokenizer", "train_linguistic"),
    "tokens": ("encode", "encode_tokens"),
    "llm": ("models.llm", "train_llm"),
    "speaker": ("models.speaker_encoder", "train_speaker"),
    "embeddings": ("encode", "encode_speakers"),
    "f0": ("models.hift", "train_f0"),
    "flow": ("models.flow", "train_flow"),
    "hift": ("models.hift", "train_hift"),
    "hift_critics": ("models.adversarial", "train_against_critics"),
    "voices": ("make_voices", "make_voices"),
    "export": ("export", "export_all"),
}
STAGES = tuple(_FUNCTIONS)


def run_stage(recipe: Recipe, stage: str) -> None:
    """Run one stage; a no-op when it is finished."""
    if "steps" in recipe.tree.get(stage, {}) and is_done(
        recipe.directory(stage), recipe.steps(stage)
    ):
        return
    module, function = _FUNCTIONS[stage]
    work: Callable[[Recipe], object] = getattr(import_module(f"training.{module}"), function)
    work(recipe)


def main(arguments: list[str] | None = None) -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m training.run", description=__doc__)
    parser.add_argument(
        "--stage", default="all", help=f"all, or some of {', '.join(STAGES)}, with commas"
    )
    parser.add_argument("--config", type=Path, default=DEFAULT_CONFIG)
    parser.add_argument("--work-dir", type=Path, help="instead of the config's")
    parser.add_argument("--seed", type=int, help="instead of the config's")
    parser.add_argument("--scale", type=float, default=1.0, help="factor on every stage's steps")
    chosen = parser.parse_args(arguments)
    stages = STAGES if chosen.stage == "all" else tuple(chosen.stage.split(","))
    if unknown := [stage for stage in stages if stage not in STAGES]:
        parser.error(f"no stage is called {', '.join(unknown)}; there are {', '.join(STAGES)}")
    recipe = load_recipe(
        chosen.config, work_dir=chosen.work_dir, seed=chosen.seed, scale=chosen.scale
    )
    torch.set_num_threads(int(recipe.tree["threads"]))
    for stage in stages:
        run_stage(recipe, stage)


if __name__ == "__main__":
    main()
