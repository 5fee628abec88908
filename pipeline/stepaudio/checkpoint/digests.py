"""Sizes and digests that a checkpoint's files must have, official or by our own manifest."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import CheckpointError
from pipeline.stepaudio.checkpoint.progress import ByteProgress, NoProgress
from pipeline.stepaudio.layout import (
    EDITX_REPOSITORIES,
    PARAFORMER,
    SINGLE_SHARD,
    TOKENIZER_REPOSITORY,
    VOCODER,
    CheckpointLayout,
)

BLOCK_BYTES = 1 << 20
MANIFEST_FORMAT = "timbre-checkpoint-1"
EDITX, EDITX_AWQ = EDITX_REPOSITORIES
OFFICIAL_LM_WIDTH = 3072  # hidden_size of the published model, which identifies it


@dataclass(frozen=True, slots=True)
class Expected:
    """Expected size and digest of a file."""

    size_bytes: int
    """Exact."""
    sha256: str
    """Hex digest, or its published first digits."""


_TOKENIZER_FILES = {
    "linguistic_tokenizer.npy": Expected(
        2_097_280, "d3f240ec9a524644ffd3790b6c568dd1554adfc366e76ddc4d6309a121a05fcc"
    ),
    "speech_tokenizer_v1.onnx": Expected(
        522_625_011, "56285ddd4a83e883ee0cb9f8d69c1089b53a94b1f78ff7e4a0224a27eb4cb486"
    ),
    f"{PARAFORMER}/model.pt": Expected(
        881_120_125, "5d8c231bf4c6c2643577b87c7eeb4c5f1a8175996540c41aa87b06acf55a6d0c"
    ),
    f"{PARAFORMER}/am.mvn": Expected(11_203, "29b3c740"),
    f"{PARAFORMER}/config.yaml": Expected(2_940, "35e6bf41"),
}
_EDITX_FILES = {
    "tokenizer.model": Expected(
        1_264_044, "25e122d9205d035033a9994c4d46a6a1b467a938654e4178fc0e5f4f5d610674"
    ),
    f"{VOCODER}/flow.pt": Expected(
        615_274_252, "8ed68d0cf1bc13c86da5cb73241da37e8d7cebdfd13b92a620c6b3cb3aab872b"
    ),
    f"{VOCODER}/hift.pt": Expected(117_228_443, "10bb4b49"),
    f"{VOCODER}/campplus.onnx": Expected(28_303_423, "a6ac6a63"),
    f"{VOCODER}/cosyvoice.yaml": Expected(1_980, "c1173590"),
}
_AWQ_FILES = {
    SINGLE_SHARD: Expected(
        2_502_127_032, "e262d33715b336a7b8a7f9e8f165da9c015775432b864a0fffa2226068996e45"
    ),
}
# Path below a checkpoint directory → the published file. bf16 shards are pinned by revision only.
OFFICIAL: dict[str, Expected] = {
    **{f"{TOKENIZER_REPOSITORY}/{path}": file for path, file in _TOKENIZER_FILES.items()},
    **{f"{name}/{path}": f for name in EDITX_REPOSITORIES for path, f in _EDITX_FILES.items()},
    **{f"{EDITX_AWQ}/{path}": file for path, file in _AWQ_FILES.items()},
}


def sha256_of(path: Path, progress: ByteProgress | None = None) -> str:
    """Hex digest of a file, read in blocks."""
    progress = progress or NoProgress()
    progress.begin(f"checking {path.name}", path.stat().st_size)
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
            progress.advance(len(block))
    return digest.hexdigest()


def write_manifest(layout: CheckpointLayout, name: str, seed: int) -> None:
    """Write size and digest of every file in the directory to its timbre.json."""
    paths = sorted(path for path in layout.root.rglob("*") if path.is_file())
    files = {
        layout.relative(path): {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
        for path in paths
        if path != layout.manifest
    }
    manifest = {"format": MANIFEST_FORMAT, "name": name, "seed": seed, "files": files}
    layout.manifest.write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")


def read_manifest(layout: CheckpointLayout) -> dict[str, Expected] | None:
    """The manifest of our own writer, by path below the root; None without one.

    Raises CheckpointError when it is damaged.
    """
    if not layout.manifest.is_file():
        return None
    try:
        manifest = json.loads(layout.manifest.read_text(encoding="utf-8"))
        return {
            path: Expected(int(file["bytes"]), str(file["sha256"]))
            for path, file in manifest["files"].items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{layout.manifest.name} is damaged: {error!r}") from error


def is_official(layout: CheckpointLayout) -> bool:
    """Whether this is meant to be the published checkpoint.

    Recognised by the LLM's width or the exact size of a large file.
    """
    try:
        width = json.loads(layout.lm_config.read_text(encoding="utf-8"))["hidden_size"]
    except (OSError, ValueError, KeyError, TypeError):
        width = None  # the check of configs reports a damaged config
    large = (layout.speech_tokenizer, layout.paraformer_weights, layout.flow_weights)
    return width == OFFICIAL_LM_WIDTH or any(
        path.is_file() and path.stat().st_size == OFFICIAL[layout.relative(path)].size_bytes
        for path in large
    )
