"""Everything that can go wrong, one after another, on three machines under load.

What must hold of each: nobody waits for more than ten seconds without a sign, nothing that was
taken is lost, and all is well thirty seconds after the fault has ended.
"""

from __future__ import annotations

import os
import shlex

import pytest

from tests.storm import faults, table
from tests.storm.conftest import BUCKET, DISK
from tests.storm.faults import Fault, Scene
from tests.storm.harness import run_case
from tests.storm.rows import Row

pytestmark = [pytest.mark.storm, pytest.mark.timeout(900)]
CALM = Fault("nothing", faults.nothing, lasts_s=5.0)
IN_BUCKET = [
    CALM,
    *faults.REPLICAS,
    *faults.CONTROL,
    *faults.STORE,
    *faults.INSIDE,
    *faults.NETWORK,
    *faults.MACHINES,
    *faults.UPDATES,
    *faults.GCS,
]
ON_DISK = [CALM, *faults.DISK, *faults.GCS]


def _keep(row: Row) -> None:
    test = os.environ["PYTEST_CURRENT_TEST"].rpartition(" ")[0]
    table.keep({**row.as_dict(), "command": f"python -m pytest -m storm {shlex.quote(test)}"})


async def _holds(scene: Scene, fault: Fault, seed: int) -> None:
    if reason := fault.missing():
        _keep(Row(fault.name, scene.setting, skipped=reason))
        pytest.skip(reason)
    row = await run_case(scene, fault, seed)
    _keep(row)
    assert not row.faults, row
    assert not (fault.is_planned and row.failed), row


@pytest.mark.parametrize("scene", [BUCKET], indirect=True)
@pytest.mark.parametrize("fault", IN_BUCKET, ids=str)
async def test_with_a_bucket(scene: Scene, fault: Fault) -> None:
    await _holds(scene, fault, 100 + IN_BUCKET.index(fault))


@pytest.mark.parametrize("scene", [DISK], indirect=True)
@pytest.mark.parametrize("fault", ON_DISK, ids=str)
async def test_on_a_disk(scene: Scene, fault: Fault) -> None:
    await _holds(scene, fault, 200 + ON_DISK.index(fault))
