"""Real services: `serve run` on Ray clusters of their own, as `timbre up` starts them.

A start takes half a minute of both cores, so few of them serve all tests.
"""

from __future__ import annotations

import copy
import secrets
import shutil
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from deployments.local import service
from deployments.local.service import LocalService
from tests.cache_helpers import S3Server, free_port
from tests.conftest import ROOT
from tests.serve.ray_cluster import deploy
from tests.serve.service_client import ServiceClient

# What no test here is about: a busy machine may take its time.
CACHE_PATIENCE = {
    "l2_deadline_s": 30.0,
    "l3_read_deadline_s": 30.0,
    "l3_write_deadline_s": 60.0,
    "connect_timeout_s": 30.0,
    "read_timeout_s": 30.0,
    "lease_s": 10.0,
    "claim_wait_s": 120.0,
    "flush_deadline_s": 30.0,
}
LIMITS = {"encode_timeout_s": 300, "first_audio_timeout_s": 300, "chunk_timeout_s": 300}
START_TIMEOUT_S = 500.0
TOKEN = secrets.token_hex(32)
ENVIRONMENT = {"PYTHONPATH": str(ROOT), "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN}


def write_config(directory: Path, **args: Any) -> Path:
    """The shipped CPU config on a free port, with `args` merged in, replicas pinned to one."""
    config = yaml.safe_load((ROOT / "serve_config.cpu.yaml").read_text())
    config["http_options"]["port"] = free_port()
    application = config["applications"][0]
    application["args"]["limits"] = LIMITS
    # What tests ask again is to be made again, unless they are about finished speech.
    application["args"]["speech_cache"] = {"enabled": False}
    application["args"].update(args)
    application["args"]["cache"] = {**CACHE_PATIENCE, **application["args"]["cache"]}
    application["args"]["llm"].setdefault("queue_timeout_s", 300)
    for deployment in application["deployments"]:
        deployment["autoscaling_config"]["max_replicas"] = 1
    path = directory / "serve_config.yaml"
    application["args"]["config_file"] = str(path)
    directory.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(config))
    return path


@contextmanager
def running(
    directory: Path, config: Path, said: list[str] | None = None, **variables: str
) -> Iterator[ServiceClient]:
    """A service with logs and state in `directory`, stopped at the end.

    said: progress lines. variables: of its environment.
    """
    progress: list[str] = [] if said is None else said
    local = LocalService(directory)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(service, "START_TIMEOUT_S", START_TIMEOUT_S)
        environment = {**ENVIRONMENT, **variables}
        started = local.start(config, environment, progress.append, progress.append)
    try:
        with closing(ServiceClient(started)) as client:
            yield client
    finally:
        local.stop()


@dataclass(frozen=True, slots=True)
class Shared:
    """The service that most tests share. asked_port: which was in use. said: during its start."""

    client: ServiceClient
    asked_port: int
    said: list[str]


@contextmanager
def shared_service(directory: Path) -> Iterator[Shared]:
    """The service of tests/conftest.py, with a cache of its own."""
    config = write_config(directory, cache={"url": str(directory / "voices")})
    port = yaml.safe_load(config.read_text())["http_options"]["port"]
    said: list[str] = []
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        with running(directory, config, said) as client:
            yield Shared(client, port, said)


@dataclass(frozen=True, slots=True)
class Updatable:
    """A service that asks for no token, its config, and a checkpoint of its own."""

    client: ServiceClient
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
def updatable(
    client: ServiceClient, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Updatable]:
    """A second service on the shared one's directory of voices."""
    directory = tmp_path_factory.mktemp("updates")
    model = shutil.copytree(ROOT / "pipeline" / "checkpoints" / "tiny", directory / "model")
    voices = Path(client.service.log).parent / "voices"
    config = write_config(directory, cache={"url": str(voices)}, model=str(model))
    with running(
        directory, config, RAY_AUTH_MODE="disabled", RAY_SERVE_MAX_PER_REPLICA_RETRY_COUNT="1"
    ) as service_client:
        yield Updatable(service_client, config, model)


@pytest.fixture(scope="package")
def many(tmp_path_factory: pytest.TempPathFactory, s3_server: S3Server) -> Iterator[ServiceClient]:
    """Two routers, two vocoders and two variants of the LLM, one small; voices in a bucket.

    Requests are routed by voice.
    """
    directory = tmp_path_factory.mktemp("many")
    llm = {"device": "cpu", "threads": 1, "slots": 8, "queue_size": 1, "voice_affinity": True}
    variants = {"int8": {"quantization": "int8", "slots": 1}}
    path = write_config(directory, cache=in_bucket(s3_server), llm=llm, llm_variants=variants)
    config = yaml.safe_load(path.read_text())
    config["applications"][0]["args"]["vocoder"]["voice_affinity"] = True
    deployments = config["applications"][0]["deployments"]
    by_name = {deployment["name"]: deployment for deployment in deployments}
    for name in ("Router", "Vocoder"):
        by_name[name]["autoscaling_config"] |= {"min_replicas": 2, "max_replicas": 2}
        by_name[name]["ray_actor_options"]["num_cpus"] = 0.1
    by_name["LLM"]["ray_actor_options"]["num_cpus"] = 0.3  # so that all stages fit two cores
    deployments.append({**copy.deepcopy(by_name["LLM"]), "name": "LLM-int8"})
    path.write_text(yaml.safe_dump(config))
    with running(directory, path) as service_client:
        yield service_client


def in_bucket(server: S3Server) -> dict[str, Any]:
    """Settings of a cache there."""
    return {"url": f"s3://{server.bucket}/service", "storage_options": server.storage_options}
