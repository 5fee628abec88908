"""A service with keys on and two routers, as an operator starts it; two tenants have quotas."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from typer.testing import CliRunner

from deployments.cli import app
from tests.planted import plant
from tests.serve.service_client import ServiceClient
from tests.serve.services import running, write_config

ADMIN_KEY = plant("an operator's key", secrets.token_hex(20))
VARIABLE = "TIMBRE_TEST_OPERATOR"  # not one of the settings'
FEW, MANY = 5, 60  # requests a minute, of the tenants `few` and `many`


class Guarded:
    """The service and the config that its command works on."""

    def __init__(self, client: ServiceClient, config: Path) -> None:
        self.client, self.config = client, config
        self.address = client.service.url.replace("http", "ws", 1) + "/v1/audio/speech/stream"

    def keys(self, *words: str) -> Any:
        """What a command says."""
        done = CliRunner().invoke(app, ["keys", *words, "--config", str(self.config), "--json"])
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    def make(self, scope: str = "speak", tenant: str = "museum") -> tuple[str, dict[str, str]]:
        """A key's id, and the headers of a request with it."""
        made = self.keys("create", "--tenant", tenant, "--scope", scope)
        return made["id"], {"authorization": f"Bearer {made['key']}"}

    def status(self, path: str, headers: dict[str, str] | None = None) -> int:
        return self.client.http.get(path, headers=headers or {}).status_code

    def speak(self, headers: dict[str, str]) -> httpx.Response:
        body = {"input": "One two.", "voice": "aria", "seed": 1}
        return self.client.http.post("/v1/audio/speech", json=body, headers=headers)


@pytest.fixture(scope="package")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """Nobody but the tenants `few` and `many` has a quota."""
    directory = tmp_path_factory.mktemp("guarded")
    tenants = {"few": {"requests_per_minute": FEW}, "many": {"requests_per_minute": MANY}}
    config = write_config(
        directory,
        cache={"url": str(directory / "store")},
        access={"keys": "on", "admin_key_env": VARIABLE},
        quotas={"tenants": tenants},
    )
    document = yaml.safe_load(config.read_text())
    for deployment in document["applications"][0]["deployments"]:
        if deployment["name"] == "Router":
            deployment["autoscaling_config"] |= {"min_replicas": 2, "max_replicas": 2}
            deployment["ray_actor_options"]["num_cpus"] = 0.1
    config.write_text(yaml.safe_dump(document))
    with running(directory, config, **{VARIABLE: ADMIN_KEY}) as client:
        yield Guarded(client, config)
