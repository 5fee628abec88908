"""A machine on which all is well."""

from __future__ import annotations

import os
import resource
import shutil
from types import SimpleNamespace

import psutil
import pytest

from deployments.doctor import bucket, machine, site
from tests.unit.deployments.doctor.sites import GIB, RAYLET


@pytest.fixture(autouse=True)
def well(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with room enough."""
    for name in [name for name in os.environ if name.startswith(("RAY_", "TIMBRE_", "AWS_"))]:
        monkeypatch.delenv(name)
    disk = SimpleNamespace(free=50 * GIB, total=50 * GIB)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: disk)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=16 * GIB))
    monkeypatch.setattr(resource, "getrlimit", lambda _: (65_536, 65_536))
    monkeypatch.setattr(machine, "usable_cores", lambda: 8)
    monkeypatch.setattr(site, "listeners", lambda: (RAYLET,))
    monkeypatch.setattr(bucket, "examine", lambda *_: ())
