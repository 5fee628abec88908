"""Faults that are planted one by one: each is found, and its remedy named."""

from __future__ import annotations

import email.utils
import shutil
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import psutil
import pytest

from cache_store.maintenance import Finding as Tried
from deployments.doctor import bucket, machine
from deployments.doctor.findings import Level
from deployments.doctor.listeners import DASHBOARD, Listener
from tests.unit.deployments.doctor.sites import (
    GIB,
    LLM_AWAY,
    PUBLIC,
    SERVICE,
    args,
    examined,
    host,
    listener,
    no_hook,
)

pytestmark = pytest.mark.unit


def _is_full(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=2**20, total=50 * GIB))


def _is_low(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=GIB))


def _is_old(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(machine.sys, "version_info", (3, 10, 2))


def _is_late(patch: pytest.MonkeyPatch) -> None:
    told = email.utils.formatdate(time.time() - 3600, usegmt=True)
    patch.setattr(httpx, "head", lambda *_, **__: httpx.Response(403, headers={"date": told}))


def _is_forbidden(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(httpx, "head", lambda *_, **__: httpx.Response(403))
    patch.setattr(bucket, "examine", lambda *_: [Tried("write", False, "403 Forbidden", 0.0)])


def _is_not_ready(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(httpx, "get", lambda *_, **__: httpx.Response(503, json=LLM_AWAY))


def _has_no_gpu(patch: pytest.MonkeyPatch) -> None:
    patch.setenv("PATH", "/nowhere")


def _is_readable_by_all(directory: Path) -> None:
    (directory / ".ray").mkdir()
    (directory / ".ray" / "auth_token").write_text("x" * 40)
    (directory / ".ray" / "auth_token").chmod(0o644)


def _has_a_namesake(directory: Path) -> None:
    (directory / "pipeline").mkdir()
    (directory / "pipeline" / "__init__.py").touch()


BUCKET = args(cache={"url": "s3://b/c"})
OPEN_RAYLET = listener(PUBLIC, has_token=False)
OPEN_DASHBOARD = listener(PUBLIC, DASHBOARD, has_token=False)
NOTEBOOK = Listener("127.0.0.1", 8000, "jupyter")
# name → the check that must find it, words of its remedy, and how it is planted: in the config, in
# the machine, in files, or in what listens.
FAULTS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "a misspelt setting": ("config", "timbre lint", {"plant": args(limits={"max_request": 1})}),
    "a voice that is none": ("config", "timbre lint", {"plant": args(voices={"default": "x"})}),
    "no checkpoint": ("checkpoint", "timbre checkpoint download", {"plant": args(model="/no")}),
    "a package of our name": ("packages", "start elsewhere", {"files": _has_a_namesake}),
    "a taken port": ("port", "another http_options.port", {"ports": (NOTEBOOK,)}),
    "a stage that is away": (
        "service", "timbre logs", {"ports": (SERVICE,), "machine": _is_not_ready}
    ),
    "an old Python": ("python", "3.11 or newer", {"machine": _is_old}),
    "little memory": ("memory", "the smallest config takes", {"machine": _is_low}),
    "a full disk": ("disk", "free some", {"machine": _is_full}),
    "a forbidden bucket": ("bucket", "policy", {"plant": BUCKET, "machine": _is_forbidden}),
    "a clock an hour off": ("clock", "NTP", {"plant": BUCKET, "machine": _is_late}),
    "no GPU where one is asked for": (
        "gpu", "the NVIDIA driver", {"wants_gpu": True, "machine": _has_no_gpu}
    ),
    "no keys on a network": ("keys", "timbre keys create", {"plant": host(PUBLIC)}),
    "an open Ray": ("ray token", "RAY_AUTH_MODE=token", {"ports": (OPEN_RAYLET,)}),
    "Ray told to ask nobody": (
        "ray token", "unset it", {"ports": (), "environment": {"RAY_AUTH_MODE": "disabled"}}
    ),
    "an open dashboard": ("dashboard", "--dashboard-host", {"ports": (OPEN_DASHBOARD,)}),
    "a proxy that obeys callers": ("proxy", "controller_options", {"plant": no_hook}),
    "webhooks without a secret": (
        "outbound", "TIMBRE_WEBHOOK_SECRET", {"plant": args(jobs={"webhook_hosts": ["a.example"]})}
    ),
    "a token that all may read": ("secret files", "chmod 600", {"files": _is_readable_by_all}),
    "credentials in the config": (
        "secrets", "the environment",
        {"plant": args(cache={"url": "s3://b/c", "storage_options": {"secret": "x"}}),
         "machine": _is_forbidden},
    ),
}  # fmt: skip


@pytest.mark.parametrize(("check", "remedy", "how"), FAULTS.values(), ids=FAULTS)
def test_a_planted_fault_is_found_with_its_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, check: str, remedy: str, how: dict[str, Any]
):
    how = dict(how)
    how.pop("machine", lambda _: None)(monkeypatch)
    how.pop("files", lambda _: None)(tmp_path)
    found = examined(tmp_path, how.pop("plant", lambda _: None), **how)[check]
    assert (found.level, remedy in found.remedy) == (Level.FAULT, True), found


def test_planted_faults_are_enough():
    assert len(FAULTS) >= 15
    assert len({check for check, _, _ in FAULTS.values()}) >= 15
