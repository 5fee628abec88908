"""The Ray cluster under a service, as its operator sees it: dashboard and `serve` command."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.serve.service_client import TIMEOUT_S, ServiceClient

DASHBOARD = re.compile(r"View the dashboard at .*?(http://[\w.:]+)")


@dataclass(frozen=True, slots=True)
class Stage:
    """What Ray says of a deployment. states: of its replicas, by their ids."""

    app_status: str
    message: str
    states: dict[str, str]

    @property
    def serving(self) -> set[str]:
        return {replica for replica, state in self.states.items() if state == "RUNNING"}


def dashboard(client: ServiceClient) -> str:
    """The address of the dashboard, which may be another than Ray's usual one."""
    (address,) = DASHBOARD.findall(client.log())
    return address


def serve(client: ServiceClient, *words: str, **variables: str) -> tuple[int, str]:
    """Exit status and output of `serve WORDS` against the service's cluster."""
    return serve_at(dashboard(client), *words, **variables)


def serve_at(address: str, *words: str, **variables: str) -> tuple[int, str]:
    """The same against the cluster with this dashboard."""
    others = {name: value for name, value in os.environ.items() if "RAY_AUTH" not in name}
    done = subprocess.run(
        [sys.executable, "-m", "ray.serve.scripts", *words],
        env={**others, "RAY_DASHBOARD_ADDRESS": address, **variables},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def stage(client: ServiceClient, name: str) -> Stage:
    """The deployment as it is now, of a cluster that asks for no token."""
    reply = httpx.get(f"{dashboard(client)}/api/serve/applications/", timeout=TIMEOUT_S)
    application: dict[str, Any] = reply.raise_for_status().json()["applications"]["timbre"]
    # an application that is built anew has none for a while
    deployment = application["deployments"].get(name, {"message": "", "replicas": []})
    return Stage(
        application["status"],
        deployment["message"],
        {replica["replica_id"]: replica["state"] for replica in deployment["replicas"]},
    )


def deploy(client: ServiceClient, config: Path) -> None:
    """`serve deploy CONFIG`, of a cluster that asks for no token."""
    status, output = serve(client, "deploy", str(config))
    assert status == 0, output
