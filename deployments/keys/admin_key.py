"""The first key, from a file or the environment: with it an operator makes the others."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from deployments.config.access.access_settings import AccessSettings
from deployments.keys.secrets import digest_of, is_key
from pipeline.errors import ConfigError

logger = logging.getLogger(__name__)

ADMIN_KEY_ID = "admin"
LEAST_CHARS = 32


class AdminKey:
    """Known by its digest alone; the file is read again when it changes.

    Raises ConfigError for a file or a variable that holds no key.
    """

    def __init__(self, settings: AccessSettings) -> None:
        self._file = None if settings.admin_key_file is None else Path(settings.admin_key_file)
        self._digest: str | None = None
        self._stamp: tuple[int, int] | None = None
        if self._file is not None:
            self._read(self._file)
        elif settings.admin_key_env is not None:
            name = settings.admin_key_env
            self._digest = _digest(os.environ.get(name, ""), f"environment variable {name}")

    @property
    def is_there(self) -> bool:
        return self._digest is not None

    def is_(self, key: str) -> bool:
        """Whether this is it."""
        return self._digest is not None and is_key(key, self._digest)

    def follow(self) -> None:
        """Read the file if it was changed; a bad one changes nothing, and the log tells."""
        if self._file is None:
            return
        try:
            if self._stamp != _stamp(self._file):
                self._read(self._file)
                logger.info("the admin key was read again")
        except (OSError, ConfigError) as error:
            self._stamp = None
            logger.warning("the admin key is that of before: %s", error)

    def _read(self, file: Path) -> None:
        try:
            stamp = _stamp(file)
            text = file.expanduser().read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"access.admin_key_file cannot be read: {error}") from error
        self._digest = _digest(text, f"file {file}")
        self._stamp = stamp


def _stamp(file: Path) -> tuple[int, int]:
    found = file.expanduser().stat()
    return found.st_mtime_ns, found.st_ino


def _digest(text: str, where: str) -> str:
    key = text.strip()
    if len(key) < LEAST_CHARS or not key.isascii() or any(char.isspace() for char in key):
        raise ConfigError(
            f"the {where} must hold one key of {LEAST_CHARS} characters or more, without spaces"
        )
    return digest_of(key)
