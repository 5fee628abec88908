"""The service that most tests of the serve tier share, one replica of each stage."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import yaml

from tests.serve.service_client import ServiceClient
from tests.serve.services import running, write_config


@dataclass(frozen=True, slots=True)
class Shared:
    """The service. asked_port: which was in use. said: during its start."""

    client: ServiceClient
    asked_port: int
    said: list[str]


@pytest.fixture(scope="package")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    """With a cache of its own."""
    directory = tmp_path_factory.mktemp("service")
    config = write_config(directory, cache={"url": str(directory / "voices")})
    port = yaml.safe_load(config.read_text())["http_options"]["port"]
    said: list[str] = []
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        with running(directory, config, said) as client:
            yield Shared(client, port, said)


@pytest.fixture(scope="package")
def client(shared: Shared) -> ServiceClient:
    """The client of the shared service."""
    return shared.client
