"""Checks of what must stay secret: files that others may read, secrets where they are copied."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

from deployments.doctor.findings import Finding, fault, good, unknown, warning
from deployments.doctor.site import Site

RAY_TOKEN_FILE = Path(".ray") / "auth_token"
_SECRET_OPTIONS = frozenset({"key", "secret", "token", "password", "aws_secret_access_key"})


def secret_files(site: Site) -> Finding:
    """Keys and tokens in files that other users of the machine may read."""
    found = {name: path for name, path in _named_files(site) if path.is_file()}
    if not found:
        return unknown("no file with a secret is in use here")
    read_by_all = _open_to(found, stat.S_IROTH | stat.S_IWOTH)
    if read_by_all:
        return fault(f"every user may read {', '.join(read_by_all)}", "chmod 600")
    if read_by_group := _open_to(found, stat.S_IRGRP | stat.S_IWGRP):
        return warning(
            f"the group may read {', '.join(read_by_group)}", "chmod 600, if it need not"
        )
    return good(f"{', '.join(found)}: this user's alone")


def secrets_in_config(site: Site) -> Finding:
    """A serve config is kept in repositories, and shown by `serve config`."""
    if (settings := site.settings) is None:
        return unknown("the config holds a mistake")
    options = settings.cache.storage_options
    client = options.get("client_kwargs")
    names = {*options, *(client if isinstance(client, dict) else ())}
    if found := sorted(name for name in names if str(name).lower() in _SECRET_OPTIONS):
        return fault(
            f"cache.storage_options holds {', '.join(found)}",
            "credentials come from the environment (AWS_…) or the machine's role",
        )
    return good("it holds no credentials")


def _named_files(site: Site) -> Iterator[tuple[str, Path]]:
    """What holds it → where it is."""
    chosen = site.environment.get("RAY_AUTH_TOKEN_PATH")
    yield "Ray's token", Path(chosen) if chosen else site.home / RAY_TOKEN_FILE
    if key := site.http_options.get("ssl_keyfile"):
        yield "http_options.ssl_keyfile", Path(str(key))
    if (settings := site.settings) is None:
        return
    if settings.access.admin_key_file is not None:
        yield "access.admin_key_file", Path(settings.access.admin_key_file)
    if settings.cache.mac_keys_file is not None:
        yield "cache.mac_keys_file", Path(settings.cache.mac_keys_file)


def _open_to(files: dict[str, Path], bits: int) -> list[str]:
    """Raises OSError for one that is gone meanwhile."""
    return [f"{name} ({path})" for name, path in files.items() if path.stat().st_mode & bits]
