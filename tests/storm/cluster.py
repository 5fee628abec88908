"""A Ray cluster on three machines of the storm tier, with the service on it as it is shipped.

Only counts of replicas, places of stores and what keeps the cluster's own state differ from
`serve_config.cpu.yaml`: timeouts and health checks are those that users get.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import httpx
import yaml

from tests.cache_helpers import free_port
from tests.conftest import ROOT
from tests.storm.machine import SESSION, Machine, network
from tests.waiting import eventually, wait_until

HEAD, WORKERS = "h", ("a", "b")
N_CPUS = 3  # for Ray to share out, on each machine
STORE_BYTES = 120 * 2**20
GCS_PORT, DASHBOARD_PORT, HTTP_PORT = 6379, 8265, 8000
TWO = ("Router", "Tokenizer", "LLM", "Vocoder")  # stages with two replicas
APPS = "/api/serve/applications/"
START_S = 240.0
GcsStorage = Literal["redis", "rocksdb"]


@dataclass
class StormCluster:
    """Machines h (Ray's head), a and b. gateway: this side's address, which all reach."""

    directory: Path
    gateway: str
    storage: GcsStorage
    shares: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """What `ray start` of a machine says it has; those not named have N_CPUS."""
    ray: Sequence[str] = (sys.executable, "-m", "ray.scripts.scripts")
    """The command whose Ray it is."""
    token: str = ""
    """What Ray asks for, if anything."""
    machines: dict[str, Machine] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)

    @property
    def head(self) -> Machine:
        return self.machines[HEAD]

    @property
    def urls(self) -> list[str]:
        """Of every machine's proxy."""
        return [f"http://{one.address}:{HTTP_PORT}" for one in self.machines.values()]

    @property
    def headers(self) -> dict[str, str]:
        """Of requests to the dashboard."""
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}

    @property
    def gcs(self) -> str:
        """Where Ray is joined."""
        return f"{self.head.address}:{GCS_PORT}"

    @property
    def dashboard(self) -> str:
        return f"http://{self.head.address}:{DASHBOARD_PORT}"

    def start(self, redis: str, variables: Mapping[str, str]) -> None:
        """Every machine with Ray on it; no service yet. variables: of every process there."""
        environment = {**_plain_environment(), **self._storage(redis), **variables}
        for number, name in enumerate((HEAD, *WORKERS), start=1):
            self.machines[name] = Machine(name, number, self.directory / "machines", environment)
        self.add(self.head)
        with ThreadPoolExecutor(len(WORKERS)) as pool:
            list(pool.map(self.add, [self.machines[name] for name in WORKERS]))

    def add(self, machine: Machine) -> None:
        """Plug a machine in, and have it join."""
        machine.start()
        words = [*self.ray, "start", "--disable-usage-stats"]
        words += [f"--node-ip-address={machine.address}"]
        words += self.shares.get(machine.name, [f"--num-cpus={N_CPUS}"])
        words += [f"--object-store-memory={STORE_BYTES}"]
        if machine is self.head:
            words += ["--head", f"--port={GCS_PORT}", f"--temp-dir={SESSION}"]
            words += ["--dashboard-host=0.0.0.0", f"--dashboard-port={DASHBOARD_PORT}"]
        else:
            words += [f"--address={self.gcs}"]
        machine.run(*words, timeout_s=START_S)

    def stop(self) -> None:
        for machine in self.machines.values():
            machine.pull_plug(silently=False)

    def deploy(self, config: dict[str, Any]) -> None:
        """As `serve deploy`; returns at once."""
        args = config["applications"][0]["args"]
        path = self.directory / "serve_config.yaml"
        args["config_file"] = str(path)
        path.write_text(yaml.safe_dump(config))
        headers = self.headers
        reply = httpx.put(f"{self.dashboard}{APPS}", json=config, headers=headers, timeout=30.0)
        assert reply.status_code == httpx.codes.OK, reply.text
        self.config = config

    def wait_until_up(self) -> None:
        """Until every replica runs and every proxy answers. Shows the reason when it does not."""
        up = eventually(lambda: self.is_whole() and self.has_proxies(), START_S, every_s=0.5)
        assert up, yaml.safe_dump(self.application())

    def replace_lost(self) -> None:
        """An empty machine for each on which Ray has ended."""
        for machine in self.machines.values():
            if not machine.processes("raylet/raylet"):
                machine.pull_plug(silently=False)
                self.add(machine)

    def application(self) -> dict[str, Any]:
        """What Serve says of it; empty while nobody says anything."""
        try:
            reply = httpx.get(f"{self.dashboard}{APPS}", headers=self.headers, timeout=5.0)
            return reply.raise_for_status().json()["applications"].get("timbre", {})
        except (httpx.HTTPError, KeyError):
            return {}

    def is_whole(self) -> bool:
        """Whether Serve runs all that is asked of it, and nothing of before."""
        application = self.application()
        if application.get("status") != "RUNNING":
            return False
        stages = application["deployments"].values()
        return all(
            one["status"] == "HEALTHY" and {r["state"] for r in one["replicas"]} == {"RUNNING"}
            for one in stages
        )

    def has_proxies(self) -> bool:
        """Whether every machine answers requests on which a replica is.

        Serve has a proxy on no others: an empty machine that took a lost one's place may stay so.
        """
        on = [one for one in self.machines.values() if one.processes("ray::ServeReplica")]
        try:
            return all(
                httpx.get(f"http://{one.address}:{HTTP_PORT}/-/healthz", timeout=1.0).is_success
                for one in on
            )
        except httpx.HTTPError:
            return False

    def replicas(self, stage: str) -> dict[int, Machine]:
        """The processes of a stage's replicas, and where each is."""
        return self.processes(f"ray::ServeReplica:timbre:{stage}")

    def processes(self, title: str) -> dict[int, Machine]:
        """Those in the cluster with this title, and where each is."""
        return {
            process.pid: machine
            for machine in self.machines.values()
            for process in machine.processes(title)
        }

    def node_id(self, machine: Machine) -> str:
        """Ray's name of it."""
        reply = httpx.get(f"{self.dashboard}/api/v0/nodes", timeout=10.0).raise_for_status()
        rows = reply.json()["data"]["result"]["result"]
        alive = {row["node_ip"]: row["node_id"] for row in rows if row["state"] == "ALIVE"}
        return alive[machine.address]

    def _storage(self, redis: str) -> dict[str, str]:
        if self.storage == "redis":
            return {"RAY_REDIS_ADDRESS": redis}
        path = self.directory / "gcs"
        path.mkdir(exist_ok=True)
        return {"RAY_gcs_storage": "rocksdb", "RAY_gcs_storage_path": str(path)}


@contextlib.contextmanager
def storm_cluster(
    directory: Path, storage: GcsStorage, variables: Mapping[str, str]
) -> Iterator[StormCluster]:
    """Three machines with Ray, whose state `storage` keeps; all ends with the block."""
    with network() as gateway, redis_server(directory, gateway) as redis:
        cluster = StormCluster(directory, gateway, storage)
        try:
            cluster.start(redis, variables)
            yield cluster
        finally:
            cluster.stop()


def service_config(cache: dict[str, Any]) -> dict[str, Any]:
    """The shipped CPU config with two replicas of every stage on all machines."""
    config = yaml.safe_load((ROOT / "serve_config.cpu.yaml").read_text())
    config["proxy_location"] = "EveryNode"
    config["http_options"] |= {"host": "0.0.0.0", "port": HTTP_PORT}  # noqa: S104 - a closed network
    application = config["applications"][0]
    application["import_path"] = "tests.storm.sick_device:build_app"
    application["args"]["cache"] = cache
    application["args"]["voices"] = {"consent": "optional"}
    application["args"]["access"] = {"keys": "off-on-purpose"}
    for deployment in application["deployments"]:
        count = 2 if deployment["name"] in TWO else 1
        deployment["autoscaling_config"] |= {"min_replicas": count, "max_replicas": count}
    return config


def shipped_variables() -> dict[str, str]:
    """Of Ray's processes in production, as cluster.yaml has them."""
    document = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    words = shlex.split(document["head_start_ray_commands"][-1])
    return dict(word.split("=", 1) for word in words[: words.index("ray")])


def _plain_environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return {
        **kept,
        **shipped_variables(),
        "RAY_AUTH_MODE": "disabled",  # nobody else is on this network
        "RAY_worker_niceness": "0",  # as `timbre up` has it: all machines share these cores
        "RAY_prestart_worker_first_driver": "0",
        "RAY_raylet_start_wait_time_s": "180",  # beside other work 30 are too few
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
    }


@contextlib.contextmanager
def redis_server(directory: Path, host: str) -> Iterator[str]:
    """Debian's redis-server, which keeps what it is told; its address."""
    port = free_port()
    words = ["redis-server", "--bind", host, "--port", str(port), "--protected-mode", "no"]
    words += ["--dir", str(directory), "--appendonly", "yes", "--save", ""]
    with (directory / "redis.log").open("ab") as log:
        process = subprocess.Popen(words, stdout=log, stderr=log)
        try:
            wait_until(lambda: _answers(host, port))
            yield f"{host}:{port}"
        finally:
            process.terminate()
            process.wait(30)


def _answers(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=1.0).close()
    except OSError:
        return False
    return True
