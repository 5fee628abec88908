"""Cores that may be used: the scheduler's mask and a container's quota, whichever is less."""

from __future__ import annotations

import psutil
import pytest

from deployments.local import cores

pytestmark = pytest.mark.unit


@pytest.fixture
def eight_cores(monkeypatch, tmp_path):
    monkeypatch.setattr(psutil.Process, "cpu_affinity", lambda self: list(range(8)), raising=False)
    monkeypatch.setattr(cores, "CGROUP", tmp_path)
    return tmp_path


def test_the_mask_counts(eight_cores):
    assert cores.usable_cores() == 8


@pytest.mark.parametrize(
    ("quota", "expected"),
    [("max 100000", 8), ("200000 100000", 2), ("250000 100000", 2), ("50000 100000", 1), ("", 8)],
)
def test_a_quota_of_cgroups_2_counts(eight_cores, quota, expected):
    (eight_cores / "cpu.max").write_text(quota + "\n")
    assert cores.usable_cores() == expected


@pytest.mark.parametrize(("quota", "expected"), [("-1", 8), ("300000", 3)])
def test_a_quota_of_cgroups_1_counts(eight_cores, quota, expected):
    (eight_cores / "cpu").mkdir()
    (eight_cores / "cpu/cpu.cfs_quota_us").write_text(quota + "\n")
    (eight_cores / "cpu/cpu.cfs_period_us").write_text("100000\n")
    assert cores.usable_cores() == expected


def test_a_system_without_masks_counts_its_cores(monkeypatch, tmp_path):
    monkeypatch.delattr(psutil.Process, "cpu_affinity", raising=False)
    monkeypatch.setattr(cores, "CGROUP", tmp_path)
    assert cores.usable_cores() == psutil.cpu_count()
