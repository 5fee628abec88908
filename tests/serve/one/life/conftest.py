"""A second service, which is updated while it serves."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT
from tests.serve.leaky import MOST_GIB
from tests.serve.ray_cluster import deploy
from tests.serve.service_client import ServiceClient
from tests.serve.services import running, write_config


@dataclass(frozen=True, slots=True)
class Updatable:
    """A service that asks for no token, its config, and a checkpoint of its own."""

    client: ServiceClient
    config: Path
    model: Path

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


@pytest.fixture(scope="package")
def updatable(
    client: ServiceClient, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Updatable]:
    """A second service on the shared one's directory of voices.

    Its tokenizer may sleep, and one vocoder is too few for more than two streams: where its config,
    which pins all stages to one replica, is edited. Its tokenizer keeps memory of long clips.
    """
    directory = tmp_path_factory.mktemp("updates")
    model = shutil.copytree(ROOT / "pipeline" / "checkpoints" / "tiny", directory / "model")
    voices = Path(client.service.log).parent / "voices"
    scaling = {"tokenizer": {"sleeps": True}, "vocoder": {"busy": 0.25}}
    config = write_config(directory, cache={"url": str(voices)}, model=str(model), scaling=scaling)
    document = yaml.safe_load(config.read_text())
    application = document["applications"][0]
    application["import_path"] = "tests.serve.leaky:build_app"
    application["args"]["memory"]["tokenizer"] = {"rss_gib": MOST_GIB}
    config.write_text(yaml.safe_dump(document))
    with running(
        directory, config, RAY_AUTH_MODE="disabled", RAY_SERVE_MAX_PER_REPLICA_RETRY_COUNT="1"
    ) as service_client:
        yield Updatable(service_client, config, model)
