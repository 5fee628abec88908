"""A second service, by the wheel's own command in an empty directory, and updates of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import yaml

from deployments.local.service import LocalService
from tests.serve.one.life.wheel import built, installed, run
from tests.serve.ray_cluster import deploy
from tests.serve.service_client import ServiceClient


@dataclass(frozen=True, slots=True)
class Updatable:
    """A service that `timbre up` started with what the wheel ships.

    It asks for no token. said: by that command. directory: where it was given, empty until then.
    config: what updates it. model: its checkpoint, which no other service has.
    """

    client: ServiceClient
    timbre: Path
    said: str
    directory: Path
    config: Path
    model: Path

    def restart_llm(self, num_cpus: float) -> None:
        """An update that only the LLM restarts for."""
        document = yaml.safe_load(self.config.read_text())
        for deployment in document["applications"][0]["deployments"]:
            if deployment["name"] == "LLM":
                deployment["ray_actor_options"]["num_cpus"] = num_cpus
        self.config.write_text(yaml.safe_dump(document))
        deploy(self.client, self.config)


@pytest.fixture(scope="package")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(tmp_path_factory.mktemp("source"))


@pytest.fixture(scope="package")
def timbre(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command of an environment that has the wheel."""
    return installed(wheel, tmp_path_factory.mktemp("environment"))


@pytest.fixture(scope="package")
def updatable(
    client: ServiceClient, timbre: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Updatable]:
    """A second service, whose user keeps voices where the shared one does."""
    directory, home = tmp_path_factory.mktemp("empty"), tmp_path_factory.mktemp("home")
    (home / ".cache" / "timbre").mkdir(parents=True)
    (home / ".cache" / "timbre" / "voices").symlink_to(
        Path(client.service.log).parent / "voices", target_is_directory=True
    )
    variables = {
        "HOME": str(home),
        "RAY_AUTH_MODE": "disabled",
        "RAY_SERVE_MAX_PER_REPLICA_RETRY_COUNT": "1",
    }
    local = LocalService(directory / "out")
    try:
        said = run(str(timbre), "up", cwd=directory, **variables)
        started = local.running()
        assert started is not None, said
        service = replace(started, log=str(directory / started.log))
        config = tmp_path_factory.mktemp("updates") / "serve_config.yaml"
        config.write_text((directory / "out" / "serve_config.running.yaml").read_text())
        (package,) = timbre.parents[1].glob("lib/python*/site-packages/pipeline")
        model = package / "checkpoints" / "tiny"
        with closing(ServiceClient(service)) as to_it:
            yield Updatable(to_it, timbre, said, directory, config, model)
    finally:
        local.stop(drain_s=0.0)


@pytest.fixture
def later(request: pytest.FixtureRequest) -> Callable[[], Updatable]:
    """Starts the second service when it is called, unless it runs."""
    return lambda: request.getfixturevalue("updatable")
