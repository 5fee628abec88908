"""Checks that voices, stores, checkpoints and keys named by settings exist.

Loads nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import fsspec

from cache_store.keyring import Keyring
from deployments.config.settings import Settings
from pipeline.errors import CheckpointError
from pipeline.libraries import ESPEAK, ONNX_RUNTIME, missing
from pipeline.stepaudio.asr.directory import NO_RECOGNISER, recogniser_directory
from pipeline.stepaudio.layout import TINY, CheckpointLayout, resolve_model
from pipeline.voice_list import load_voices


def unknown_names(settings: Settings) -> list[str]:
    """Names that are wrong on every machine, as sentences: location, name, valid names."""
    return [*_unknown_voices(settings), *_unknown_stores(settings), *_no_recogniser(settings)]


def missing_here(settings: Settings) -> list[str]:
    """Named things that this machine lacks, as sentences.

    Only for a service of one machine: elsewhere a checkpoint is needed only where its stage runs.
    """
    return [
        *_missing_checkpoints(settings),
        *_missing_recogniser(settings),
        *_missing_libraries(settings),
        *_missing_keys(settings),
        *_missing_marks(settings),
    ]


def _unknown_voices(settings: Settings) -> Iterator[str]:
    listed, voices = load_voices(), settings.voices
    known = f"listed voices: {', '.join(listed)}"
    for alias, name in voices.aliases.items():
        if name not in listed:
            yield f"voices.aliases.{alias}: no voice is named {name!r}; {known}"
        if alias != alias.lower():
            yield f"voices.aliases.{alias}: requests are compared in lower case; so write it"
    default = voices.default.lower()
    if voices.aliases.get(default, default) not in listed:
        yield f"voices.default: no voice is named {voices.default!r}; {known}"


def _unknown_stores(settings: Settings) -> Iterator[str]:
    url = settings.cache.url
    scheme, separator, _ = url.partition("://")
    schemes = fsspec.available_protocols()
    for part in scheme.split("::") if separator else ():
        if part not in schemes:
            yield (
                f"cache.url: {url!r} has the scheme {part!r}, which no store speaks; give none, a "
                f"directory, or a URL such as s3://bucket/prefix"
            )


def _no_recogniser(settings: Settings) -> Iterator[str]:
    if settings.asr.enabled and settings.asr.model is None and settings.model == TINY:
        yield f"asr.enabled: {NO_RECOGNISER}"


def _missing_recogniser(settings: Settings) -> Iterator[str]:
    asr = settings.asr
    if not asr.enabled or (asr.model is None and settings.model == TINY):
        return
    try:
        recogniser_directory(settings.model, asr.model)
    except CheckpointError as error:
        yield f"{'asr.enabled' if asr.model is None else 'asr.model'}: {error.message}"


def _missing_checkpoints(settings: Settings) -> Iterator[str]:
    for where, model in _models(settings).items():
        try:
            CheckpointLayout.at(resolve_model(model))
        except CheckpointError as error:
            yield f"{where}: {error.message}"


def _models(settings: Settings) -> dict[str, str]:
    """Names or directories of checkpoints, by setting."""
    return {"model": settings.model} | {
        f"llm_variants.{name}.model": variant.model
        for name, variant in settings.llm_variants.items()
        if variant.model is not None
    }


def _missing_libraries(settings: Settings) -> Iterator[str]:
    if (sentence := missing(ONNX_RUNTIME)) is not None:
        yield f"tokenizer: {sentence}"
    for where, model in _models(settings).items():
        if model == TINY and (sentence := missing(ESPEAK)) is not None:
            yield f"{where}: {sentence}"


def _missing_marks(settings: Settings) -> Iterator[str]:
    marks = settings.marks
    if marks.enabled and find_spec("perth") is None:
        yield "marks.enabled: the package resemble-perth is not installed; install it, or say false"
    for name in ("c2pa_certificate", "c2pa_key"):
        path: str | None = getattr(marks, name)
        if path is not None and not Path(path).expanduser().is_file():
            yield f"marks.{name}: there is no file {path}"
    if marks.c2pa_certificate is not None and find_spec("c2pa") is None:
        yield "marks.c2pa_certificate: the extra `c2pa` (package c2pa-python) is not installed"


def _missing_keys(settings: Settings) -> Iterator[str]:
    cache = settings.cache
    try:
        Keyring.load(file=cache.mac_keys_file, env=cache.mac_keys_env)
    except (OSError, ValueError) as error:
        yield f"cache.mac_keys: {error}"
