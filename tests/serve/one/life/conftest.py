"""Services that are updated: by the wheel's own command in an empty directory; one that leaks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from deployments.local.service import LocalService
from tests.serve.leaky import MOST_GIB
from tests.serve.one.life.wheel import built, installed, run
from tests.serve.ray_cluster import deploy
from tests.serve.service_client import ServiceClient
from tests.serve.services import NODE_TOO_SLOW, running, write_config


@dataclass(frozen=True, slots=True)
class Updatable:
    """A service that asks for no token, and the config that updates it."""

    client: ServiceClient
    config: Path

    def restart_llm(self, num_cpus: float) -> None:
        """An update that only the LLM restarts for."""
        self.update("LLM", ray_actor_options={"num_cpus": num_cpus})

    def scale(self, stage: str, **scaling: float) -> None:
        """An update that nothing restarts for."""
        self.update(stage, autoscaling_config=scaling)

    def update(self, stage: str, **changes: Any) -> None:
        """Edit a stage's part of the config, and deploy it."""
        document = yaml.safe_load(self.config.read_text())
        for deployment in document["applications"][0]["deployments"]:
            if deployment["name"] == stage:
                for key, value in changes.items():
                    is_part = isinstance(value, dict)
                    deployment[key] = {**deployment[key], **value} if is_part else value
        self.config.write_text(yaml.safe_dump(document))
        deploy(self.client, self.config)


@dataclass(frozen=True, slots=True)
class FromWheel(Updatable):
    """A service that `timbre up` started with what the wheel ships.

    said: by that command. directory: where it was given, empty until then. model: its checkpoint,
    which no other service has.
    """

    timbre: Path
    said: str
    directory: Path
    model: Path


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
) -> Iterator[FromWheel]:
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
        "TIMBRE_ADMISSION__ENABLED": "false",  # who asks during an update is served
    }
    local = LocalService(directory / "out")
    try:
        said = _up(timbre, directory, variables)
        started = local.running()
        assert started is not None, said
        service = replace(started, log=str(directory / started.log))
        config = tmp_path_factory.mktemp("updates") / "serve_config.yaml"
        config.write_text((directory / "out" / "serve_config.running.yaml").read_text())
        (package,) = timbre.parents[1].glob("lib/python*/site-packages/pipeline")
        model = package / "checkpoints" / "tiny"
        with closing(ServiceClient(service)) as to_it:
            yield FromWheel(to_it, config, timbre, said, directory, model)
    finally:
        local.stop(drain_s=0.0)


def _up(timbre: Path, directory: Path, variables: dict[str, str]) -> str:
    """What `timbre up` says; a machine that is too busy for Ray's own start is asked once more."""
    try:
        return run(str(timbre), "up", cwd=directory, **variables)
    except AssertionError as error:
        if NODE_TOO_SLOW not in str(error):
            raise
        return run(str(timbre), "up", cwd=directory, **variables)


@pytest.fixture
def later(request: pytest.FixtureRequest) -> Callable[[], FromWheel]:
    """Starts the second service when it is called, unless it runs."""
    return lambda: request.getfixturevalue("updatable")


@pytest.fixture(scope="module")
def scalable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Updatable]:
    """A service whose tokenizer may sleep, and whose one vocoder is too few for three streams.

    Where its config, which pins all stages to one replica, is edited. Its tokenizer keeps memory of
    long clips.
    """
    directory = tmp_path_factory.mktemp("scales")
    scaling = {"tokenizer": {"sleeps": True}, "vocoder": {"busy": 0.25}}
    config = write_config(directory, cache={"url": str(directory / "voices")}, scaling=scaling)
    document = yaml.safe_load(config.read_text())
    application = document["applications"][0]
    application["import_path"] = "tests.serve.leaky:build_app"
    application["args"]["memory"]["tokenizer"] = {"rss_gib": MOST_GIB}
    config.write_text(yaml.safe_dump(document))
    without_token = {"RAY_AUTH_MODE": "disabled"}
    with running(directory, config, **without_token) as client:
        yield Updatable(client, config)
