"""What a command of `timbre cache` works on: settings, the store they name, keys."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import typer
import yaml
from pydantic import ValidationError

from cache_store.keyring import Keyring
from cache_store.opening import open_store
from cache_store.settings import (
    SPEECH_RECORD_BYTES,
    STATE_MARGIN_BYTES,
    CacheSettings,
    speech_url,
)
from cache_store.store import BlobStore


@dataclass(frozen=True, slots=True)
class OpenedStore:
    """What every command needs."""

    settings: CacheSettings
    store: BlobStore
    keyring: Keyring


class UsageError(typer.BadParameter):
    """A mistake of the caller, shown in one line."""


def open_workplace(config: Path | None, url: str | None, *, is_speech: bool) -> OpenedStore:
    """The store of a serve config, or at a URL. is_speech: that of speech, below the voices'.

    Raises UsageError.
    """
    try:
        settings = CacheSettings.model_validate(_section(config, "cache") if config else {})
        if url is not None:
            settings = settings.model_copy(update={"url": url})
        if is_speech:
            settings = _of_speech(settings, _section(config, "speech_cache") if config else {})
        else:
            settings = _with_states(settings)
        keyring = Keyring.load(file=settings.mac_keys_file, env=settings.mac_keys_env)
    except (ValidationError, ValueError, OSError) as error:
        raise UsageError(str(error)) from error
    store = open_store(settings)
    if store is None:
        raise UsageError("these settings keep records in memory only (url: none)")
    return OpenedStore(settings, store, keyring)


def _of_speech(voices: CacheSettings, section: dict[str, Any]) -> CacheSettings:
    max_bytes = section.get("max_record_bytes", SPEECH_RECORD_BYTES)
    return voices.model_copy(
        update={"url": speech_url(voices.url), "max_record_bytes": int(max_bytes)}
    )


def _with_states(voices: CacheSettings) -> CacheSettings:
    """What stages keep of a clip lies beside its voice, and may be larger."""
    largest = max(voices.max_record_bytes, voices.max_state_bytes + STATE_MARGIN_BYTES)
    return voices.model_copy(update={"max_record_bytes": largest})


def _section(config: Path, name: str) -> dict[str, Any]:
    """A mapping in the args of a serve config's applications; only `cache` must be there."""
    document = cast("dict[str, Any]", yaml.safe_load(config.read_text(encoding="utf-8")) or {})
    for application in document.get("applications", []):
        section = application.get("args", {}).get(name)
        if section is not None:
            return cast("dict[str, Any]", section)
    if name == "cache":
        raise ValueError(f"{config} has no args.cache in any application")
    return {}
