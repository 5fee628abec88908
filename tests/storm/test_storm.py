"""Everything that can go wrong, one after another, on three machines under load.

What must hold of each: nobody waits for more than ten seconds without a sign, nothing that was
taken is lost, and all is well thirty seconds after the fault has ended.
"""

from __future__ import annotations

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
CASES = [
    *[
        pytest.param(BUCKET, one, 100 + n, id=f"{one.name}, {BUCKET}")
        for n, one in enumerate(IN_BUCKET)
    ],
    *[pytest.param(DISK, one, 200 + n, id=f"{one.name}, {DISK}") for n, one in enumerate(ON_DISK)],
]


@pytest.mark.parametrize(("scene", "fault", "seed"), CASES, indirect=["scene"])
async def test_holds(scene: Scene, fault: Fault, seed: int) -> None:
    if reason := fault.missing():
        table.keep(Row(fault.name, scene.setting, skipped=reason).as_dict())
        pytest.skip(reason)
    row = await run_case(scene, fault, seed)
    table.keep(row.as_dict())
    assert not row.faults, row
    assert not (fault.is_planned and row.failed), row
