"""What the checks look at, looked up once: a config, the environment, the machine's ports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from deployments.config.serve_config import (
    SERVE_HOST,
    SERVE_PORT,
    ServeConfig,
    given_or_shipped,
    read_serve_config,
)
from deployments.config.settings import Settings
from deployments.doctor.listeners import Listener, listeners
from pipeline.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Site:
    """A machine, and the serve config that is to run on it.

    config: None where it holds a mistake, which is `mistake` then. environment: variables of
    whoever starts the service. home: of that user. ports: what listens here; None where that cannot
    be seen. wants_gpu: a GPU is asked for, whatever the config says. where: it would start.
    """

    path: Path
    config: ServeConfig | None
    mistake: str
    environment: Mapping[str, str]
    home: Path
    ports: Sequence[Listener] | None = ()
    wants_gpu: bool = False
    where: Path = field(default_factory=Path.cwd)

    @property
    def settings(self) -> Settings | None:
        return None if self.config is None else self.config.settings

    @property
    def http_options(self) -> Mapping[str, Any]:
        return {} if self.config is None else self.config.document.get("http_options", {})

    @property
    def host(self) -> str:
        """Where the service listens, by its config."""
        return str(self.http_options.get("host", SERVE_HOST))

    @property
    def port(self) -> int:
        return int(self.http_options.get("port", SERVE_PORT))


def look(path: Path, environment: Mapping[str, str], *, wants_gpu: bool = False) -> Site:
    """At this machine, with the serve config that is meant to run here."""
    path = given_or_shipped(path)
    config, mistake = None, ""
    try:
        config = read_serve_config(path)
    except ConfigError as error:
        mistake = error.message
    try:
        ports = listeners()
    except (psutil.Error, OSError):
        ports = None
    home = Path(environment.get("HOME", "")) if environment.get("HOME") else Path.home()
    return Site(path, config, mistake, environment, home, ports, wants_gpu)
