"""The token that Ray's processes of a local service require of every connection.

Without it, any program that reaches one of Ray's ports can run code as this user.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from pipeline.errors import ConfigError, SetupError

MODE, TOKEN, TOKEN_PATH = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"
ON, OFF = "token", "disabled"
TOKEN_BYTES = 32


def token_variables(environment: Mapping[str, str], state_dir: Path) -> dict[str, str]:
    """Variables that make Ray require a token, unless `environment` switches it off.

    The token comes from the environment, else from the file that Ray's own commands read; a missing
    file is created, readable by this user alone (in `state_dir` when the home cannot be written).
    Raises ConfigError for a mode that Ray would silently treat as off, SetupError for an unusable
    token file.
    """
    mode = environment.get(MODE) or ON
    if mode.lower() == OFF:
        return {MODE: OFF}
    if mode.lower() != ON:
        raise ConfigError(f"{MODE} is {mode!r}; Ray knows {ON} and {OFF}")
    if environment.get(TOKEN):
        return {MODE: ON}
    return {MODE: ON, TOKEN_PATH: str(_token_file(environment.get(TOKEN_PATH), state_dir))}


def _token_file(chosen: str | None, state_dir: Path) -> Path:
    if chosen:
        path = Path(chosen).absolute()  # Ray's processes run in other directories
        try:
            _make_token(path)
        except OSError as error:
            raise SetupError(
                f"{TOKEN_PATH} is {chosen}, and no token can be kept there: {error.strerror}"
            ) from error
        return path
    try:
        path = Path.home() / ".ray" / "auth_token"
        _make_token(path)
    except (OSError, RuntimeError):  # no home, or not writable
        path = state_dir.absolute() / "ray_auth_token"
        _make_token(path)
    return path


def _make_token(path: Path) -> None:
    """Keep an existing file. Ray would create one too, but readable by every user."""
    if path.exists() and path.read_bytes().strip():
        return
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with open(path, "w", opener=_private, encoding="ascii") as file:
        file.write(secrets.token_hex(TOKEN_BYTES))


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, mode=0o600)
