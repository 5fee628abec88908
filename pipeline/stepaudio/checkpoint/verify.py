"""Verifies a checkpoint: files, sizes, digests, contents."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import CheckpointError
from pipeline.stepaudio.checkpoint.digests import (
    OFFICIAL,
    Expected,
    is_official,
    read_manifest,
    sha256_of,
)
from pipeline.stepaudio.checkpoint.progress import ByteProgress, NoProgress
from pipeline.stepaudio.layout import CheckpointLayout

LFS_HEADER = b"version https://git-lfs.github.com/spec/"


@dataclass(frozen=True, slots=True)
class Report:
    """The result of a verification."""

    root: Path
    """The directory."""
    known_by: str
    """The table that sizes and digests were judged by."""
    problems: tuple[str, ...]
    """One sentence each; none means sound."""
    notes: tuple[str, ...] = ()
    """Checks that could not be made."""

    @property
    def ok(self) -> bool:
        return not self.problems


def verify_checkpoint(
    root: Path | str, *, digests: bool = True, progress: ByteProgress | None = None
) -> Report:
    """Check every file of a checkpoint directory; never raises for a bad checkpoint.

    digests: also hash the files (minutes for the official ones); sizes and contents are always
    checked.
    """
    layout = CheckpointLayout.expected(root)
    if not layout.root.is_dir():
        return Report(layout.root, "nothing", (f"there is no directory {layout.root}",))
    problems = [f"{name} is missing" for name in layout.missing()]
    notes: list[str] = []
    known_by, expected = _expected_files(layout, problems, notes)

    incomplete: set[Path] = set()
    for path in _files(layout, expected):
        known = expected.get(layout.relative(path))
        problem = _incomplete(layout, path, known)
        if problem:
            incomplete.add(path)
        elif known:
            problem = _other(layout, path, known, digests, progress or NoProgress())
        if problem:
            problems.append(problem)
    problems.extend(_content_problems(layout, incomplete))
    return Report(layout.root, known_by, tuple(problems), tuple(notes))


def _expected_files(
    layout: CheckpointLayout, problems: list[str], notes: list[str]
) -> tuple[str, dict[str, Expected]]:
    """The table of sizes and digests, and its name in words."""
    try:
        manifest = read_manifest(layout)
    except CheckpointError as error:
        problems.append(error.message)
        return "nothing", {}
    if manifest is not None:
        problems.extend(
            f"{name} is missing, and {layout.manifest.name} lists it"
            for name in manifest
            if not (layout.root / name).is_file() and (layout.root / name) not in layout.required()
        )
        return layout.manifest.name, manifest
    if is_official(layout):
        if any(layout.relative(shard) not in OFFICIAL for shard in layout.lm_shards):
            notes.append(
                "digests of the LLM's shards were never published: only headers are checked"
            )
        return "the published digests", OFFICIAL
    notes.append(
        f"not the published checkpoint and no {layout.manifest.name}: "
        "sizes and digests cannot be judged"
    )
    return "nothing", {}


def _files(layout: CheckpointLayout, expected: dict[str, Expected]) -> list[Path]:
    """Every file to check, once, in a stable order."""
    listed = [layout.root / name for name in expected]
    candidates = [*layout.required(), layout.lm_index, *layout.lm_shards, *listed]
    return [path for path in dict.fromkeys(candidates) if path.is_file()]


def _incomplete(layout: CheckpointLayout, path: Path, known: Expected | None) -> str | None:
    """Why a file cannot be read at all; None if it can."""
    name = layout.relative(path)
    size = path.stat().st_size
    if size == 0:
        return f"{name} is empty"
    with path.open("rb") as file:
        if file.read(len(LFS_HEADER)) == LFS_HEADER:
            return (
                f"{name} is a Git LFS pointer, not the file itself: "
                "run `git lfs pull` in its repository, or download it"
            )
    if known and size < known.size_bytes:
        return f"{name} is cut off: {size:,} of {known.size_bytes:,} bytes"
    return None


def _other(
    layout: CheckpointLayout, path: Path, known: Expected, digests: bool, progress: ByteProgress
) -> str | None:
    """Why a file differs from the known one; its contents are checked all the same."""
    name = layout.relative(path)
    size = path.stat().st_size
    if size > known.size_bytes:
        return f"{name} is another file: {size:,} bytes instead of {known.size_bytes:,}"
    if digests:
        digest = sha256_of(path, progress)
        if not digest.startswith(known.sha256):
            return (
                f"{name} is damaged or another version: its SHA-256 is {digest}, not {known.sha256}"
            )
    return None


def _content_problems(layout: CheckpointLayout, incomplete: set[Path]) -> Iterator[str]:
    """Run the checks of contents whose files are all present and complete."""
    from pipeline.stepaudio.checkpoint import checks

    linguistic = (
        layout.paraformer_config,
        layout.linguistic_codebook,
        layout.paraformer_cmvn,
        layout.paraformer_weights,
    )
    vocoder = (layout.vocoder_config, layout.flow_weights, layout.hift_weights)
    plan: tuple[tuple[Callable[[CheckpointLayout], Iterator[str]], tuple[Path, ...]], ...] = (
        (checks.check_linguistic, linguistic),
        (checks.check_semantic, (layout.speech_tokenizer,)),
        (checks.check_speaker, (layout.speaker_encoder,)),
        (checks.check_text_tokenizer, (layout.text_tokenizer, layout.lm_config)),
        (checks.check_lm, (layout.lm_config, *(layout.lm_shards or [layout.lm_index]))),
        (checks.check_vocoder, vocoder),
    )
    for check, files in plan:
        if incomplete.intersection(files) or not all(path.is_file() for path in files):
            continue  # reported already
        try:
            yield from check(layout)
        except checks.UNREADABLE as error:
            names = ", ".join(path.name for path in files)
            yield f"{names} cannot be read together: {_sentence(error)}"


def _sentence(error: BaseException) -> str:
    """An error in one line; a KeyError holds only the key."""
    if isinstance(error, KeyError):
        return f"{error.args[0]!r} is not there"
    return str(error).strip().partition("\n")[0] or type(error).__name__
