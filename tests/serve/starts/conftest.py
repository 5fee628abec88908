"""The production config itself, on a cluster that only says it has GPUs, with the embedded model.

Nothing of `serve_config.yaml` differs but its address: models, stores and two tenants' quotas come
from the environment of Ray, as on an operator's machines. tests/storm/test_production.py has
several machines.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import yaml
from typer.testing import CliRunner

from deployments.cli import app
from deployments.local.process import RESOURCES, end_session, spawn
from tests.cache_helpers import free_port
from tests.conftest import ROOT
from tests.planted import plant, watch
from tests.rehearsal import rehearsal_variables
from tests.serve.ray_cluster import DASHBOARD, serve_at
from tests.serve.service_client import body
from tests.serve.services import ENVIRONMENT, START_TIMEOUT_S, TOKEN
from tests.waiting import eventually, wait_until

KEY = plant("an operator's key", secrets.token_hex(20))
KEY_VARIABLE = "OPERATORS_KEY"
# Three machines of cluster.yaml: two for the replicas at start, one for an update's.
MACHINES = {"CPU": 48, "GPU": 3, "accelerator_type:L40S": 3}
FEW, MANY = 5, 60  # requests a minute, of the tenants `few` and `many`
AT_START = {"Router": 2, "Tokenizer": 1, "LLM": 2, "Vocoder": 2, "Jobs": 1}


@dataclass(frozen=True, slots=True)
class Production:
    """The service, and the config that it runs. variables: of its environment, not secret."""

    config: Path
    log: Path
    url: str
    variables: Mapping[str, str]
    pid: int
    token: dict[str, str] = field(default_factory=lambda: {"Authorization": f"Bearer {TOKEN}"})

    @property
    def dashboard(self) -> str:
        return DASHBOARD.findall(self.log.read_text(errors="replace"))[-1]

    def application(self) -> dict[str, Any]:
        """What Serve says of it; without stages while nobody says anything."""
        try:
            reply = httpx.get(f"{self.dashboard}/api/serve/applications/", headers=self.token)
            return reply.raise_for_status().json()["applications"]["timbre"]
        except (httpx.HTTPError, KeyError, IndexError):
            return {"deployments": {}}

    def running(self) -> dict[str, set[int]]:
        """The processes of each stage's replicas that serve."""
        return {
            name: {one["pid"] for one in stage["replicas"] if one["state"] == "RUNNING"}
            for name, stage in self.application()["deployments"].items()
        }

    def has(self, replicas: Mapping[str, int]) -> bool:
        """Whether the last deployment is over, and so many replicas of each stage serve."""
        is_over = self.application().get("status") == "RUNNING"
        return is_over and {name: len(pids) for name, pids in self.running().items()} == replicas

    def speak(self, key: str) -> httpx.Response:
        headers = {"Authorization": f"Bearer {key}"}
        return httpx.post(
            f"{self.url}/v1/audio/speech", json=body(), headers=headers, timeout=120.0
        )

    def deploy(self) -> None:
        variables = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN}
        status, said = serve_at(self.dashboard, "deploy", str(self.config), **variables)
        assert status == 0, said


@pytest.fixture(scope="package")
def production(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Production]:
    directory = tmp_path_factory.mktemp("production")
    watch(directory)
    document = yaml.safe_load((ROOT / "serve_config.yaml").read_text())
    port = free_port()
    document["http_options"] |= {"host": "127.0.0.1", "port": port}
    config, log = directory / "serve_config.yaml", directory / "serve.log"
    document["applications"][0]["args"]["config_file"] = str(config)
    config.write_text(yaml.safe_dump(document))
    rehearsal = rehearsal_variables(str(directory / "voices"))
    variables = {
        **ENVIRONMENT,
        **rehearsal,
        RESOURCES: json.dumps(MACHINES),
        "TIMBRE_ACCESS__ADMIN_KEY_ENV": KEY_VARIABLE,
        KEY_VARIABLE: KEY,
        "TIMBRE_QUOTAS__TENANTS": json.dumps(
            {"few": {"requests_per_minute": FEW}, "many": {"requests_per_minute": MANY}}
        ),
    }
    process = spawn(config, log, variables, n_cpus=2)
    started_unix_s = psutil.Process(process.pid).create_time()
    one = Production(config, log, f"http://127.0.0.1:{port}", rehearsal, process.pid)
    try:
        up = eventually(lambda: one.has(AT_START), START_TIMEOUT_S, every_s=0.5)
        assert up, log.read_text(errors="replace")[-3000:]
        wait_until(lambda: one.speak(KEY).status_code == httpx.codes.OK)
        yield one
    finally:
        end_session(process.pid, started_unix_s, drain_s=0.0)
        process.wait()


class Guarded:
    """The service, and what its command does."""

    def __init__(self, production: Production, http: httpx.Client) -> None:
        self.production, self.http = production, http
        self.address = production.url.replace("http", "ws", 1) + "/v1/audio/speech/stream"

    def keys(self, *words: str) -> Any:
        """What a command says."""
        command = ["keys", *words, "--config", str(self.production.config), "--json"]
        done = CliRunner().invoke(app, command, env=self.production.variables)
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    def make(self, scope: str = "speak", tenant: str = "museum") -> tuple[str, dict[str, str]]:
        """A key's id, and the headers of a request with it."""
        made = self.keys("create", "--tenant", tenant, "--scope", scope)
        return made["id"], {"authorization": f"Bearer {made['key']}"}

    def status(self, path: str, headers: dict[str, str] | None = None) -> int:
        return self.http.get(path, headers=headers or {}).status_code

    def speak(self, headers: dict[str, str]) -> httpx.Response:
        body = {"input": "One two.", "voice": "aria", "seed": 1}
        return self.http.post("/v1/audio/speech", json=body, headers=headers)


@pytest.fixture
def guarded(production: Production) -> Iterator[Guarded]:
    with httpx.Client(base_url=production.url, timeout=120.0) as http:
        yield Guarded(production, http)
