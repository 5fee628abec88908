"""Which directory holds the recogniser, and whether it can be one. Loads nothing."""

from __future__ import annotations

from pathlib import Path

from pipeline.errors import CheckpointError
from pipeline.stepaudio.layout import TINY, CheckpointLayout, resolve_model

CONFIG, WEIGHTS, CONFIGURATION = "config.yaml", "model.pt", "configuration.json"
NO_RECOGNISER = (
    "the embedded model's tokenizer is too small a part of a recogniser to hear words; name a "
    "directory of a FunASR model in asr.model, or switch asr off"
)


def recogniser_directory(model: str, named: str | None = None) -> Path:
    """The FunASR model directory `named`; without one, what the tokenizer of `model` is a part of.

    model: as `layout.resolve_model` knows it. Raises CheckpointError when there is none.
    """
    if named is not None:
        directory = Path(named).expanduser()
        check_model_directory(directory)
        return directory
    if model == TINY:
        raise CheckpointError(NO_RECOGNISER)
    layout = CheckpointLayout.at(resolve_model(model))
    if not layout.paraformer_tokens.is_file():
        raise CheckpointError(
            f"{layout.relative(layout.paraformer_tokens)} is missing below {layout.root}: the "
            "encoder needs none, a recogniser does; `timbre checkpoint download` fetches what is "
            "missing, or copy it from the tokenizer's repository"
        )
    return layout.paraformer


def check_model_directory(directory: Path) -> None:
    """Raises CheckpointError where FunASR would take the name for one to be downloaded."""
    if not directory.is_dir():
        raise CheckpointError(f"there is no directory {directory}")
    if (directory / CONFIGURATION).is_file():
        return  # it may name other files
    lacking = [name for name in (CONFIG, WEIGHTS) if not (directory / name).is_file()]
    if lacking:
        raise CheckpointError(
            f"{directory} is no FunASR model: it has no {' and no '.join(lacking)}"
        )
