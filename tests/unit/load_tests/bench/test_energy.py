"""The processor's energy counters: summed over packages, and over their going round."""

from __future__ import annotations

from pathlib import Path

import pytest

from load_tests.bench.energy import rapl_meter

pytestmark = pytest.mark.unit


def package(powercap: Path, name: str, energy_uj: int) -> Path:
    directory = powercap / name
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "energy_uj").write_text(f"{energy_uj}\n")
    (directory / "max_energy_range_uj").write_text("9999999\n")
    return directory


def test_packages_are_summed_and_counters_may_start_over(tmp_path: Path) -> None:
    package(tmp_path, "intel-rapl:0", 9_000_000)
    package(tmp_path, "intel-rapl:1", 0)
    package(tmp_path, "intel-rapl:0:0", 5)  # part of a package: not counted twice
    meter = rapl_meter(tmp_path)
    assert meter is not None
    start = meter()
    package(tmp_path, "intel-rapl:0", 1_000_000)
    package(tmp_path, "intel-rapl:1", 500_000)
    package(tmp_path, "intel-rapl:0:0", 900_000)
    assert meter() - start == pytest.approx(2.5)
    package(tmp_path, "intel-rapl:1", 750_000)
    assert meter() - start == pytest.approx(2.75)


def test_without_counters_nothing_is_told(tmp_path: Path) -> None:
    assert rapl_meter(tmp_path) is None
    package(tmp_path, "intel-rapl:0", 1)
    (tmp_path / "intel-rapl:0" / "energy_uj").unlink()
    assert rapl_meter(tmp_path) is None
