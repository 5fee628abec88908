"""A real service per session: `serve run` on a Ray cluster of its own, as `timbre up` starts it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from deployments.service import LocalService, find_free_port
from tests.conftest import ROOT
from tests.serve.service_client import ServiceClient


def write_config(directory: Path, **args: Any) -> Path:
    """The shipped CPU config on a free port, with `args` merged in, replicas pinned to one."""
    config = yaml.safe_load((ROOT / "serve_config.cpu.yaml").read_text())
    config["http_options"]["port"] = find_free_port("127.0.0.1", 0)
    application = config["applications"][0]
    application["args"].update(args)
    path = directory / "serve_config.yaml"
    application["args"]["config_file"] = str(path)
    directory.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(config))
    return path


@contextmanager
def running(
    directory: Path, config: Path, said: list[str] | None = None
) -> Iterator[ServiceClient]:
    """A service with logs and state in `directory`, stopped at the end. said: progress lines."""
    progress: list[str] = [] if said is None else said
    local = LocalService(directory)
    service = local.start(config, {"PYTHONPATH": str(ROOT)}, progress.append, progress.append)
    try:
        with closing(ServiceClient(service)) as client:
            yield client
    finally:
        local.stop()


@pytest.fixture(scope="session")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceClient]:
    """The service that most tests share, with a cache of its own."""
    directory = tmp_path_factory.mktemp("service")
    config = write_config(directory, cache={"url": str(directory / "voices")})
    with running(directory, config) as service_client:
        yield service_client
