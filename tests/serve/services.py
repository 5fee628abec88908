"""Real services: `serve run` on Ray clusters of their own, as `timbre up` starts them.

A start takes half a minute of both cores, and an idle service a third of one. So few of them
serve all tests, a package of tests each, and end with it.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from deployments.local import service
from deployments.local.service import LocalService
from pipeline.errors import SetupError
from tests.cache_helpers import S3Server, free_port
from tests.conftest import ROOT
from tests.planted import plant, watch
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
LIMITS = {
    "encode_timeout_s": 300,
    "first_audio_timeout_s": 300,
    "chunk_timeout_s": 300,
    "silence_timeout_s": 60,
}
START_TIMEOUT_S = 500.0
NODE_TOO_SLOW = "The current node timed out during startup"  # Ray's 30 s, on a machine that is busy
TOKEN = plant("Ray's token", secrets.token_hex(32))
ENVIRONMENT = {
    "PYTHONPATH": str(ROOT),
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": TOKEN,
    "TIMBRE_WEBHOOK_SECRET": plant("the webhooks' secret", secrets.token_hex(16)),
    "AWS_SECRET_ACCESS_KEY": plant("a bucket's secret", secrets.token_hex(20)),
}


def write_config(directory: Path, **args: Any) -> Path:
    """The shipped CPU config on a free port, with `args` merged in, replicas pinned to one."""
    config = yaml.safe_load((ROOT / "serve_config.cpu.yaml").read_text())
    config["http_options"]["port"] = free_port()
    application = config["applications"][0]
    application["args"]["limits"] = LIMITS
    # What tests ask again is to be made again, unless they are about finished speech.
    application["args"]["speech_cache"] = {"enabled": False}
    application["args"]["admission"] = {"enabled": False}  # who asks for eight hears eight
    application["args"].update(args)
    application["args"]["cache"] = {**CACHE_PATIENCE, **application["args"]["cache"]}
    application["args"]["llm"].setdefault("queue_timeout_s", 300)
    for deployment in application["deployments"]:
        deployment["autoscaling_config"]["max_replicas"] = 1
        deployment["health_check_period_s"] = 1  # one that was killed is missed at once
    path = directory / "serve_config.yaml"
    application["args"]["config_file"] = str(path)
    directory.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(config))
    return path


@contextmanager
def running(
    directory: Path, config: Path, said: list[str] | None = None, **variables: str
) -> Iterator[ServiceClient]:
    """A service with logs and state in `directory`, killed at the end: test_wheel stops one.

    said: progress lines. variables: of its environment.
    """
    progress: list[str] = [] if said is None else said
    local = LocalService(directory)
    watch(directory)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(service, "START_TIMEOUT_S", START_TIMEOUT_S)
        environment = {**ENVIRONMENT, **variables}
        try:
            started = local.start(config, environment, progress.append, progress.append)
        except SetupError as error:
            if NODE_TOO_SLOW not in error.message:
                raise
            started = local.start(config, environment, progress.append, progress.append)
    try:
        with closing(ServiceClient(started)) as client:
            yield client
    finally:
        local.stop(drain_s=0.0)


def in_bucket(server: S3Server) -> dict[str, Any]:
    """Settings of a cache there."""
    return {"url": f"s3://{server.bucket}/service", "storage_options": server.storage_options}
