"""Secrets for the keyed digest of entries, by id."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from blake3 import blake3

OPEN_KEY_ID = "open"
_ID = re.compile(r"[A-Za-z0-9._-]{1,16}")
_MIN_SECRET_CHARACTERS = 16


class Keyring:
    """An active key for writing and every key that reading accepts.

    secrets: key id (1 to 16 of letters, digits, `.`, `_`, `-`) to secret text (16 characters or
    more), the active one first. Without secrets the key is a public constant: damage is still
    detected, forgery is not.
    Raises ValueError for a malformed id or a short secret.
    """

    def __init__(self, secrets: Mapping[str, str] | None = None) -> None:
        source = secrets or {OPEN_KEY_ID: "timbre-cache open key"}
        self._keys = {key_id: _derive(key_id, secret) for key_id, secret in source.items()}
        self._active_id = next(iter(source))
        self.is_secret = bool(secrets)

    @classmethod
    def load(cls, *, file: str | None = None, env: str | None = None) -> Keyring:
        """Read `id:secret` items, one per line or comma-separated, the active one first.

        Raises ValueError when a source is named and empty or malformed, OSError when the file
        cannot be read.
        """
        if file is not None:
            items = Path(file).expanduser().read_text(encoding="utf-8").split("\n")
            where = f"file {file}"
        elif env is not None:
            items = os.environ.get(env, "").split(",")
            where = f"environment variable {env}"
        else:
            return cls()
        pairs = [item.strip().partition(":") for item in items if item.strip()]
        if not pairs or any(not separator for _, separator, _ in pairs):
            raise ValueError(f"{where} must hold one or more id:secret items")
        return cls({key_id.strip(): secret.strip() for key_id, _, secret in pairs})

    @property
    def active(self) -> tuple[str, bytes]:
        """Id and 32-byte key for writing new entries."""
        return self._active_id, self._keys[self._active_id]

    def secret(self, key_id: str) -> bytes | None:
        """The 32-byte key of `key_id`, or None when it is not known here."""
        return self._keys.get(key_id)


def _derive(key_id: str, secret: str) -> bytes:
    if not _ID.fullmatch(key_id):
        raise ValueError(f"key id {key_id!r} must be 1 to 16 letters, digits, '.', '_' or '-'")
    if len(secret) < _MIN_SECRET_CHARACTERS:
        raise ValueError(f"secret of key id {key_id!r} is shorter than {_MIN_SECRET_CHARACTERS}")
    return blake3(secret.encode(), derive_key_context="timbre-cache/v1/mac").digest()
