"""`timbre doctor`: what is planted is found, with a remedy, and what is well is left alone."""

from __future__ import annotations

import email.utils
import json
import os
import resource
import shutil
import socket
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import psutil
import pytest
from typer.testing import CliRunner

from cache_store.maintenance import Finding as Tried
from deployments.cli import app
from deployments.doctor import bucket, machine
from deployments.doctor.examine import CHECKS
from deployments.doctor.findings import Finding, Level, Result, has_fault
from deployments.doctor.listeners import DASHBOARD, PROXY, Listener, listeners
from tests.unit.deployments.doctor.sites import (
    GIB,
    LLM_AWAY,
    PUBLIC,
    SERVICE,
    Plant,
    args,
    both,
    examined,
    host,
    is_found,
    listener,
    no_hook,
    tls,
)

pytestmark = pytest.mark.unit


def test_a_machine_that_is_well(tmp_path: Path):
    found = examined(tmp_path)
    assert list(found) == list(CHECKS)
    bad = {name: one for name, one in found.items() if one.level in {Level.FAULT, Level.WARNING}}
    assert not bad


PLANTED: dict[str, tuple[str, Level, str, Plant]] = {
    "a misspelt key": ("config", Level.FAULT, "max_request", args(limits={"max_request": 1})),
    "a voice that is none": ("config", Level.FAULT, "default", args(voices={"default": "nobody"})),
    "no checkpoint": ("checkpoint", Level.FAULT, "model", args(model="/nowhere/at/all")),
    "keys off on a network": ("keys", Level.FAULT, "whoever reaches it", host("0.0.0.0")),  # noqa: S104
    "keys off on one address": ("keys", Level.FAULT, PUBLIC, host(PUBLIC)),
    "keys off on purpose": (
        "keys", Level.WARNING, "on purpose",
        both(host(PUBLIC), args(access={"keys": "off-on-purpose"})),
    ),
    "keys on": ("keys", Level.GOOD, "a key", both(host(PUBLIC), args(access={"keys": "on"}))),
    "plain HTTP": ("tls", Level.WARNING, "plain HTTP", host(PUBLIC)),
    "TLS of Serve": ("tls", Level.GOOD, "itself", tls),
    "no hook in the proxy": ("proxy", Level.FAULT, "obeys", no_hook),
    "webhooks without a secret": (
        "outbound", Level.FAULT, "TIMBRE_WEBHOOK_SECRET",
        args(jobs={"webhook_hosts": ["hooks.example"]}),
    ),
    "clips without TLS": (
        "outbound", Level.WARNING, "http://media.example",
        args(clips={"hosts": ["http://media.example"]}),
    ),
    "clips with TLS": ("outbound", Level.GOOD, "media", args(clips={"hosts": ["media.example"]})),
    "credentials in the config": (
        "secrets", Level.FAULT, "secret",
        args(cache={"url": "s3://b/c", "storage_options": {"key": "a", "secret": "b"}}),
    ),
    "more cores asked for than there are": (
        "cores", Level.WARNING, "may be used",
        lambda d: d["applications"][0]["deployments"][2]["ray_actor_options"].update(num_cpus=64),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("check", "level", "says", "plant"), PLANTED.values(), ids=PLANTED)
def test_what_is_planted_in_a_config_is_found(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    check: str,
    level: Level,
    says: str,
    plant: Plant,
):
    monkeypatch.setattr(httpx, "head", lambda *_, **__: httpx.Response(403))
    is_found(examined(tmp_path, plant)[check], level, says)


PORTS: dict[str, tuple[str, Level, str, Listener]] = {
    "on a network": ("listening", Level.WARNING, "raylet on 10.1.2.3:8265", listener(PUBLIC)),
    "on every interface": ("listening", Level.WARNING, "[::]:8265", listener("::")),
    "without a token": ("ray token", Level.FAULT, "runs code", listener(PUBLIC, has_token=False)),
    "without a token, on loopback": (
        "ray token", Level.WARNING, "programs of this machine", listener("::1", has_token=False),
    ),
    "with a token": ("ray token", Level.GOOD, "asks for the token", listener(PUBLIC)),
    "the proxy asks for none": (
        "ray token", Level.GOOD, "token", listener(PUBLIC, PROXY, has_token=False)
    ),
    "an open dashboard": (
        "dashboard", Level.FAULT, "others can", listener(PUBLIC, DASHBOARD, has_token=False)
    ),
    "one of which nothing is known": (
        "dashboard", Level.FAULT, "others can", listener(PUBLIC, DASHBOARD, has_token=None)
    ),
    "a dashboard with the token": (
        "dashboard", Level.WARNING, "with the token", listener(PUBLIC, DASHBOARD)
    ),
    "a dashboard on loopback": ("dashboard", Level.GOOD, "alone", listener("127.0.0.1", DASHBOARD)),
    "another program on the port": (
        "port", Level.FAULT, "is taken: jupyter", Listener("127.0.0.1", 8000, "jupyter")
    ),
    "the service on the port": (
        "port", Level.GOOD, "own", Listener("127.0.0.1", 8000, PROXY, is_rays=True)
    ),
    "an edge before a service on loopback": (
        "tls", Level.GOOD, "an edge is there", Listener("0.0.0.0", 443, "nginx")  # noqa: S104
    ),
}  # fmt: skip


@pytest.mark.parametrize(("check", "level", "says", "port"), PORTS.values(), ids=PORTS)
def test_who_listens_is_judged(tmp_path: Path, check: str, level: Level, says: str, port: Listener):
    is_found(examined(tmp_path, ports=(port,))[check], level, says)


def test_an_edge_that_can_be_gone_around(tmp_path: Path):
    edge = Listener("::", 8443, "haproxy")
    found = examined(tmp_path, host(PUBLIC), ports=(edge,))
    is_found(found["tls"], Level.WARNING, "goes around it")


def test_where_ports_cannot_be_seen_it_says_so(tmp_path: Path):
    found = examined(tmp_path, ports=None)
    assert {found[name].level for name in ("listening", "dashboard", "port")} == {Level.UNKNOWN}


@pytest.mark.parametrize(("mode", "level"), [("disabled", Level.FAULT), ("token", Level.GOOD)])
def test_the_token_before_anything_runs(tmp_path: Path, mode: str, level: Level):
    found = examined(tmp_path, ports=(), environment={"RAY_AUTH_MODE": mode})
    assert found["ray token"].level is level


@pytest.mark.parametrize(
    ("mode", "level"), [(0o644, Level.FAULT), (0o640, Level.WARNING), (0o600, Level.GOOD)]
)
@pytest.mark.parametrize("holder", ["Ray's token", "access.admin_key_file", "RAY_AUTH_TOKEN_PATH"])
def test_secrets_that_others_may_read(tmp_path: Path, holder: str, mode: int, level: Level):
    secret = tmp_path / ".ray" / "auth_token" if holder == "Ray's token" else tmp_path / "key"
    secret.parent.mkdir(exist_ok=True)
    secret.write_text("x" * 40)
    secret.chmod(mode)
    plant = args(access={"keys": "on", "admin_key_file": str(secret)})
    is_key = holder == "access.admin_key_file"
    variables = {"RAY_AUTH_TOKEN_PATH": str(secret)} if holder.startswith("RAY") else {}
    found = examined(tmp_path, plant if is_key else lambda _: None, environment=variables)
    is_found(found["secret files"], level, "this user's" if level is Level.GOOD else str(secret))


@pytest.mark.parametrize(
    ("free_gib", "level"), [(0.2, Level.FAULT), (3.0, Level.WARNING), (50.0, Level.GOOD)]
)
@pytest.mark.parametrize("what", ["memory", "disk"])
def test_little_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, free_gib: float, level: Level
):
    free = SimpleNamespace(available=free_gib * GIB, free=free_gib * GIB, total=50 * GIB)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: free)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free)
    is_found(examined(tmp_path)[what], level, "GiB are free")


def test_small_shared_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    small = SimpleNamespace(free=50 * GIB, total=2**26)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: small)
    is_found(examined(tmp_path)["shared memory"], Level.WARNING, "goes to the disk")


def test_few_open_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 1024))
    is_found(examined(tmp_path)["open files"], Level.WARNING, "1024 files")


def test_an_old_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(machine.sys, "version_info", (3, 10, 2))
    is_found(examined(tmp_path)["python"], Level.FAULT, "3.10.2")


def test_more_threads_than_cores(tmp_path: Path):
    found = examined(tmp_path, environment={"OMP_NUM_THREADS": "64"})
    is_found(found["threads"], Level.WARNING, "64")


def test_a_package_of_the_same_name(tmp_path: Path):
    (tmp_path / "pipeline").mkdir()
    (tmp_path / "pipeline" / "__init__.py").touch()
    is_found(examined(tmp_path)["packages"], Level.FAULT, "its own package 'pipeline'")


def test_a_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Asked for by name: whoever runs the tests may be root, who writes everywhere."""
    monkeypatch.setattr(machine.os, "access", lambda path, _: path != tmp_path)
    is_found(examined(tmp_path)["store"], Level.FAULT, "cannot be written")


def nvidia_smi(directory: Path, says: str, code: int) -> str:
    directory.mkdir(exist_ok=True)
    program = directory / "nvidia-smi"
    program.write_text(f"#!/bin/sh\necho '{says}'\nexit {code}\n")
    program.chmod(0o755)
    return str(directory)


def test_a_gpu_that_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = os.environ["PATH"]
    monkeypatch.setenv("PATH", str(tmp_path))
    is_found(examined(tmp_path, wants_gpu=True)["gpu"], Level.FAULT, "no nvidia-smi")
    monkeypatch.setenv("PATH", f"{nvidia_smi(tmp_path / 'bin', 'No devices', 6)}:{path}")
    is_found(examined(tmp_path, wants_gpu=True)["gpu"], Level.FAULT, "No devices")
    nvidia_smi(tmp_path / "bin", "NVIDIA L40S, 46068 MiB, 3 MiB", 0)
    is_found(examined(tmp_path, wants_gpu=True)["gpu"], Level.GOOD, "L40S")
    is_found(examined(tmp_path)["gpu"], Level.GOOD, "none is asked for")


@pytest.mark.parametrize(
    ("off_s", "level"), [(0, Level.GOOD), (-120, Level.WARNING), (3600, Level.FAULT)]
)
def test_a_clock_that_is_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, off_s: float, level: Level
):
    asked: list[str] = []

    def head(url: str, **_: Any) -> httpx.Response:
        asked.append(url)
        told = email.utils.formatdate(time.time() + off_s, usegmt=True)
        return httpx.Response(403, headers={"date": told})

    monkeypatch.setattr(httpx, "head", head)
    bucket = {"url": "s3://b/c", "storage_options": {"endpoint_url": "https://s3.example"}}
    is_found(examined(tmp_path, args(cache=bucket))["clock"], level, "s apart")
    assert asked == ["https://s3.example"]


def test_a_bucket_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def head(*_: Any, **__: Any) -> httpx.Response:
        raise httpx.ConnectError("no route")

    monkeypatch.setattr(httpx, "head", head)
    found = examined(tmp_path, args(cache={"url": "s3://b/c"}))
    is_found(found["clock"], Level.UNKNOWN, "no route")


def test_a_listener_of_this_process_is_seen():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        (found,) = [one for one in listeners() if one.port == port]
    assert (found.host, found.is_reachable, found.is_rays) == ("127.0.0.1", False, False)
    assert found.program


def test_faults_alone_make_an_exit_code():
    told = [Result("x", Finding(level, "found")) for level in Level]
    assert has_fault(told)
    assert not has_fault([one for one in told if one.finding.level is not Level.FAULT])


@pytest.fixture
def started_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.mark.usefixtures("started_elsewhere")
def test_the_command_tells_people_and_programs(tmp_path: Path):
    told = CliRunner().invoke(app, ["doctor"])
    assert told.exit_code == 0, told.output
    lines = told.output.strip().splitlines()
    assert len(lines) == len(CHECKS)
    assert lines[0].split() == ["good", "config", *lines[0].split()[2:]]
    path = tmp_path / "bad.yaml"
    path.write_text("applications: 7")
    told = CliRunner().invoke(app, ["doctor", str(path), "--json"])
    assert told.exit_code == 1
    checks = {one["check"]: one for one in json.loads(told.output)["checks"]}
    assert checks["config"]["level"] == "fault"
    assert set(checks["config"]) == {"check", "level", "found", "remedy"}


@pytest.mark.parametrize(
    ("step", "level", "remedy"),
    [
        ("", Level.GOOD, ""),
        ("reach it", Level.FAULT, "its credentials"),
        ("list", Level.FAULT, "policy"),
        ("sealing key", Level.WARNING, "mac_keys_file"),
    ],
)
def test_a_bucket_that_does_not_do_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, level: Level, remedy: str
):
    monkeypatch.setattr(httpx, "head", lambda *_, **__: httpx.Response(403))
    steps = ("reach it", "write", "list", "sealing key")
    tried = [Tried(one, one != step, "403 Forbidden", 0.0) for one in steps]
    monkeypatch.setattr(bucket, "examine", lambda *_: tried)
    found = examined(tmp_path, args(cache={"url": "s3://b/c"}))["bucket"]
    assert found.level is level
    assert remedy in found.remedy


@pytest.mark.parametrize(
    ("reply", "level", "says"),
    [
        (httpx.Response(200, json={"ready": True}), Level.GOOD, "is ready"),
        (httpx.Response(503, json=LLM_AWAY), Level.FAULT, "not ready: llm (no replica)"),
        (httpx.Response(200, text="<html>"), Level.FAULT, "as a service does"),
        (httpx.ConnectError("refused"), Level.FAULT, "refused"),
    ],
)
def test_a_service_that_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reply: Any, level: Level, says: str
):
    def get(url: str, **_: Any) -> httpx.Response:
        assert url == "http://127.0.0.1:8000/readyz"
        if isinstance(reply, Exception):
            raise reply
        return reply

    monkeypatch.setattr(httpx, "get", get)
    is_found(examined(tmp_path, ports=(SERVICE,))["service"], level, says)
    assert examined(tmp_path)["service"].level is Level.UNKNOWN


@pytest.mark.parametrize(
    ("listens", "asked"),
    [("0.0.0.0", "127.0.0.1"), ("::", "127.0.0.1"), (PUBLIC, PUBLIC), ("::1", "[::1]")],  # noqa: S104
)
def test_a_service_is_asked_where_it_listens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listens: str, asked: str
):
    addresses: list[str] = []

    def get(url: str, **_: Any) -> httpx.Response:
        addresses.append(url)
        return httpx.Response(200, json={"ready": True})

    monkeypatch.setattr(httpx, "get", get)
    is_found(examined(tmp_path, ports=(replace(SERVICE, host=listens),))["service"], Level.GOOD, "")
    assert addresses == [f"http://{asked}:8000/readyz"]


def test_sealing_keys_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(httpx, "head", lambda *_, **__: httpx.Response(403))
    cache = {"url": "s3://b/c", "mac_keys_file": str(tmp_path / "no_keys")}
    found = examined(tmp_path, args(cache=cache))["bucket"]
    is_found(found, Level.FAULT, "no_keys")
