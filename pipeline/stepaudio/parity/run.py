# pyright: basic
"""Compares our modules with every golden file of a directory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from pipeline.errors import ConfigError
from pipeline.stepaudio.parity.golden import Check

SUFFIXES = {"vocoder": ".json", "lm": ".json", "vq02": ".json", "frontend": ".npz"}  # by kind


Comparison = Callable[[Path, str], list[Check]]


def golden_files(directory: Path) -> list[tuple[Path, str]]:
    """The golden files of a directory with their kinds, by name.

    Names are KIND_ANYTHING.
    """
    found = []
    for path in sorted(directory.iterdir()):
        kind = path.name.partition("_")[0]
        if path.suffix == ".json" and path.name.startswith("prompts"):
            found.append((path, "prompts"))
        elif path.name.endswith(".names.json") or "_" not in path.name:
            continue
        elif SUFFIXES.get(kind) == path.suffix:
            found.append((path, kind))
    return found


def run_parity(directory: Path, device: str = "cpu") -> list[tuple[str, Check]]:
    """Compare with every golden file of a directory: (file name, check) in order.

    A comparison that crashes is one failed check with its message; the others still run.
    TF32 is off meanwhile. Raises ConfigError when there is no directory or it holds nothing to
    compare with.
    """
    if not directory.is_dir():
        raise ConfigError(f"there is no directory {directory}")
    files = golden_files(directory)
    if not files:
        patterns = ", ".join(f"{kind}_*{suffix}" for kind, suffix in SUFFIXES.items())
        raise ConfigError(f"{directory} holds no golden file ({patterns}, prompts*.json)")
    return [(path.name, check) for path, kind in files for check in _run(path, kind, device)]


def compare_file(
    path: Path, kind: str, device: str = "cpu", *, allow_tf32: bool = False
) -> list[Check]:
    """Compare with one golden file of `golden_files`. Errors of the comparison propagate."""
    with tf32(allow_tf32):
        return _comparisons()[kind](path, device)


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Whether a GPU may use TF32 in float32 products; convolutions do by default."""
    products, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn
    before = bool(products.allow_tf32), bool(convolutions.allow_tf32)
    _set_tf32(allowed, allowed)
    try:
        yield
    finally:
        _set_tf32(*before)


def _set_tf32(products: bool, convolutions: bool) -> None:
    torch.backends.cuda.matmul.allow_tf32 = products
    torch.backends.cudnn.allow_tf32 = convolutions


def _run(path: Path, kind: str, device: str) -> list[Check]:
    try:
        return compare_file(path, kind, device)
    except Exception as error:  # noqa: BLE001 — whatever goes wrong is this file's result, not the run's end
        message = str(error).strip().partition("\n")[0]
        return [Check("crashed", float("inf"), 0.0, f"{type(error).__name__}: {message}")]


def _comparisons() -> dict[str, Comparison]:
    """The comparison of each kind.

    Imported here: funasr takes seconds.
    """
    from pipeline.stepaudio.parity.frontend import check_frontend, check_vq02
    from pipeline.stepaudio.parity.lm import check_lm, check_prompts
    from pipeline.stepaudio.parity.vocoder import check_vocoder

    return {
        "vocoder": check_vocoder,
        "lm": check_lm,
        "vq02": check_vq02,
        "frontend": check_frontend,
        "prompts": lambda path, _: check_prompts(path),
    }
