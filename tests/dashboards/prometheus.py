"""A Prometheus of the tests' own, with the shipped configuration, and its answers."""

from __future__ import annotations

import math
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.cache_helpers import free_port
from tests.conftest import ROOT
from tests.waiting import wait_until

MONITORING = ROOT / "deploy" / "monitoring"
DASHBOARDS = sorted((MONITORING / "dashboards").glob("*.json"))
SCRAPE_S = 3
# What Grafana puts in place of its variables; an hour has not gone by in a test.
VARIABLES = {"$__rate_interval": "2m", "$gpu_hour_price": "1.20"}


@dataclass(frozen=True, slots=True)
class Prometheus:
    """One that runs."""

    http: httpx.Client

    def values(self, expression: str) -> list[float]:
        """Of every series that an expression gives now; those that are no number are left out."""
        reply = self.http.get("/api/v1/query", params={"query": expression}).json()
        assert reply["status"] == "success", (expression, reply)
        values = [float(one["value"][1]) for one in reply["data"]["result"]]
        return [value for value in values if not math.isnan(value)]

    def rules(self) -> list[dict[str, Any]]:
        """Every rule, as it was evaluated last."""
        groups = self.http.get("/api/v1/rules").json()["data"]["groups"]
        return [rule for group in groups for rule in group["rules"]]


def resolved(expression: str) -> str:
    """An expression of a panel without Grafana's variables."""
    for name, value in VARIABLES.items():
        expression = expression.replace(name, value)
    return expression


@contextmanager
def scraping(directory: Path, port: int) -> Iterator[Prometheus]:
    """The shipped configuration, with one target in place of Ray's list, in less time."""
    config = yaml.safe_load((MONITORING / "prometheus.yaml").read_text())
    config["global"] |= {"scrape_interval": f"{SCRAPE_S}s", "scrape_timeout": f"{SCRAPE_S}s"}
    config["global"]["evaluation_interval"] = f"{SCRAPE_S}s"
    (job,) = config["scrape_configs"]
    del job["file_sd_configs"]
    job["static_configs"] = [{"targets": [f"127.0.0.1:{port}"]}]
    shutil.copy(MONITORING / "alerts.yaml", directory)
    path = directory / "prometheus.yaml"
    path.write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{free_port()}"
    command = ["prometheus", f"--config.file={path}", f"--storage.tsdb.path={directory / 'data'}"]
    with (directory / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, f"--web.listen-address={address}"], stdout=log, stderr=log
        )
        try:
            with httpx.Client(base_url=f"http://{address}", timeout=30.0) as client:
                wait_until(lambda: _is_ready(client))
                yield Prometheus(client)
        finally:
            process.terminate()
            process.wait()


def _is_ready(client: httpx.Client) -> bool:
    try:
        return client.get("/-/ready").status_code == httpx.codes.OK
    except httpx.TransportError:
        return False
