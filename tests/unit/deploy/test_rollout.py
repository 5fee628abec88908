"""deploy/rollout, with commands that say what Serve would: when it ends, and what it tells."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.unit
WHOLE = "status: RUNNING\nstatus: HEALTHY\nreplica_states: {RUNNING: 2}"
UNDER_WAY = "status: DEPLOYING\nstatus: UPDATING\nreplica_states: {RUNNING: 2, STARTING: 2}"
ENDING = "status: RUNNING\nstatus: HEALTHY\nreplica_states: {RUNNING: 2, STOPPING: 1}"
FAILED = "status: DEPLOY_FAILED\nmessage: a weight file cannot be read"


def rolled_out(
    tmp_path: Path, *statuses: str, lint: int = 0, deploy: int = 0, most_s: int = 60
) -> tuple[int, str, list[str]]:
    """Its exit status, what it said, and the commands that it ran. statuses: the last one stays."""
    for number, status in enumerate(statuses):
        (tmp_path / f"status.{number}").write_text(status)
    commands = {
        "timbre": f"exit {lint}",
        "serve": f"""
            [ "$1" = status ] || exit {deploy}
            n=$(grep -c 'serve status' ran); [ "$n" -le {len(statuses)} ] || n={len(statuses)}
            cat "status.$((n - 1))" """,
        "sleep": "true",
    }
    (tmp_path / "bin").mkdir()
    for name, body in commands.items():
        command = tmp_path / "bin" / name
        command.write_text(f'#!/bin/bash\necho "{name} $*" >> ran\n{body}\n')
        command.chmod(0o755)
    done = subprocess.run(
        [str(ROOT / "deploy" / "rollout"), "serve_config.yaml", str(most_s)],
        cwd=tmp_path,
        env={**os.environ, "PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    ran = (tmp_path / "ran").read_text().splitlines()
    return done.returncode, done.stdout, [one for one in ran if not one.startswith("sleep")]


def test_it_waits_until_every_old_replica_has_ended(tmp_path: Path) -> None:
    status, said, ran = rolled_out(tmp_path, UNDER_WAY, "", ENDING, WHOLE)
    assert (status, "rolled out in" in said) == (0, True)
    assert ran == [
        "timbre lint serve_config.yaml",
        "serve deploy serve_config.yaml",
        *["serve status"] * 4,
    ]


def test_a_failed_one_says_why_and_what_to_do(tmp_path: Path) -> None:
    status, said, _ = rolled_out(tmp_path, UNDER_WAY, FAILED)
    assert status == 1
    assert "a weight file cannot be read" in said
    assert "deploy/rollout CONFIG.before" in said


@pytest.mark.parametrize("refuses", ["lint", "deploy"])
def test_a_config_that_is_refused_is_not_waited_for(tmp_path: Path, refuses: str) -> None:
    status, _, ran = rolled_out(tmp_path, WHOLE, **{refuses: 1})
    assert status == 1
    assert "serve status" not in ran


def test_it_gives_up_after_its_time(tmp_path: Path) -> None:
    status, said, _ = rolled_out(tmp_path, UNDER_WAY, most_s=-1)
    assert (status, "not done in" in said) == (2, True)
