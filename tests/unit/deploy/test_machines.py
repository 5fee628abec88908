"""The unit for one machine, the Dockerfile and the directory for machines without a network.

`make image` executes the Dockerfile and installs from the directory; here is what needs no root.
"""

from __future__ import annotations

import configparser
import hashlib
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from deployments.local.process import SERVE_COMMAND
from tests.conftest import ROOT
from tests.image.dockerfile import Dockerfile, copied_from, exec_form, read_dockerfile
from tests.serve.one.life.wheel import BUILT_FROM

pytestmark = pytest.mark.unit
UNIT = ROOT / "deploy" / "timbre.service"
SCRIPTS = ("rollout", "offline/pack", "offline/install")


def unit() -> dict[str, str]:
    """Its section Service; of a key that is given again, the last."""
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment]
    parser.read_string(UNIT.read_text(encoding="utf-8"))
    return dict(parser["Service"])


def longest_stream_s() -> float:
    config = yaml.safe_load((ROOT / "serve_config.yaml").read_text())
    stages = config["applications"][0]["deployments"]
    return max(stage["graceful_shutdown_timeout_s"] for stage in stages)


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd on this machine")
    release = tmp_path / "opt" / "timbre"
    (release / "bin").mkdir(parents=True)
    for command in ("serve", "timbre", "ray"):
        (release / "bin" / command).symlink_to(Path(sys.executable).parent / command)
    here = tmp_path / UNIT.name
    here.write_text(UNIT.read_text().replace("/opt/timbre", str(release)))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(here)],
        capture_output=True,
        text=True,
        check=False,
    )
    ours = [line for line in done.stderr.splitlines() if UNIT.name in line]
    assert (done.returncode, ours) == (0, []), done.stderr


def test_the_unit_runs_what_timbre_up_runs_and_lets_streams_end() -> None:
    started = unit()["ExecStart"].split()
    assert started[:4] == ["/opt/timbre/bin/serve", "run", "--address", "local"]
    assert SERVE_COMMAND[-1].startswith("ray.serve.")
    assert float(unit()["TimeoutStopSec"]) > longest_stream_s()
    assert unit()["User"] != "root"
    assert "RAY_AUTH_MODE=token" in UNIT.read_text()


@pytest.fixture(scope="module")
def dockerfile() -> Dockerfile:
    return read_dockerfile(ROOT / "Dockerfile")


@pytest.mark.parametrize("target", ["cpu", "gpu"])
def test_an_image_is_nobodys_root_and_has_a_health_check(
    dockerfile: Dockerfile, target: str
) -> None:
    stages = dockerfile.needed(target)
    words = [(step.word, step.text) for stage in stages for step in stage.steps]
    last = {word: text for word, text in words if word in {"USER", "CMD", "HEALTHCHECK"}}
    assert last["USER"] == "timbre"
    assert exec_form(last["HEALTHCHECK"])[-1].endswith("/healthz")
    config = exec_form(last["CMD"])[-1]
    assert (ROOT / config).is_file()
    assert any(word == "COPY" and config in text for word, text in words)
    assert list(dockerfile.stages)[-1] == "gpu", "what `docker build .` makes"


def test_an_image_is_built_from_what_the_wheel_is(dockerfile: Dockerfile) -> None:
    steps = dockerfile.stages["sources"].steps
    copied = [
        word
        for step in steps
        if step.word == "COPY" and not copied_from(step)
        for word in step.text.split()[:-1]
    ]
    assert set(copied) == {*BUILT_FROM, "constraints.txt"}
    kept = {
        line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] == "!"
    }
    assert kept == set(copied)


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_are_bash_and_stop_at_the_first_fault(name: str) -> None:
    script = ROOT / "deploy" / name
    subprocess.run(["bash", "-n", str(script)], check=True)
    assert "set -euo pipefail" in script.read_text()
    assert script.stat().st_mode & 0o111


def packed(directory: Path) -> Path:
    """A directory as `pack` leaves it, with nothing in it that could be installed."""
    (directory / "wheels").mkdir(parents=True)
    (directory / "wheels" / "a.whl").write_bytes(b"a wheel")
    shutil.copy(ROOT / "deploy" / "offline" / "install", directory / "install")
    sums = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  ./{path.relative_to(directory)}"
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    ]
    (directory / "SHA256SUMS").write_text("\n".join(sums) + "\n")
    return directory


def damaged(directory: Path) -> None:
    (directory / "wheels" / "a.whl").write_bytes(b"another")


def added_to(directory: Path) -> None:
    (directory / "wheels" / "b.whl").write_bytes(b"a stranger's")


@pytest.mark.parametrize(
    ("change", "says"), [(damaged, "is damaged"), (added_to, "of which 2 are listed")]
)
def test_what_was_changed_on_the_way_is_not_installed(
    tmp_path: Path, change: Callable[[Path], None], says: str
) -> None:
    directory, release = packed(tmp_path / "packed"), tmp_path / "release"
    change(directory)
    done = subprocess.run(
        [str(directory / "install"), str(release)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert says in done.stderr
    assert not release.exists()


def test_a_release_is_never_written_over(tmp_path: Path) -> None:
    release = tmp_path / "release"
    release.mkdir()
    done = subprocess.run(
        [str(packed(tmp_path / "packed") / "install"), str(release)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, "never changed" in done.stderr) == (1, True)
