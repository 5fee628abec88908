"""The token that the processes of a local service ask of each other, and of whoever talks to Ray.

Without one, any program that reaches a port of Ray's runs code as this user.
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
    """Variables that have Ray ask for a token, unless `environment` says not to.

    The token is the environment's, else the file's that Ray's own commands read, which is made
    where it is missing, for this user alone. It is in `state_dir` only where the home cannot be
    written. Raises ConfigError for a mode that Ray would silently take for off, SetupError for a
    token file of the user's that does not work.
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
    except (OSError, RuntimeError):  # no home, or none that can be written
        path = state_dir.absolute() / "ray_auth_token"
        _make_token(path)
    return path


def _make_token(path: Path) -> None:
    """Keep what is there. Ray would make one too, but any user of the machine could read it."""
    if path.exists() and path.read_bytes().strip():
        return
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with open(path, "w", opener=_private, encoding="ascii") as file:
        file.write(secrets.token_hex(TOKEN_BYTES))


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, mode=0o600)
