"""Everything that can go wrong, one after another, on three machines under load.

What must hold of each: nobody waits for more than ten seconds without a sign, nothing that was
taken is lost, and all is well thirty seconds after the fault has ended.
"""

from __future__ import annotations

import pytest

from tests.storm import faults, table
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


def _named(cases: list[Fault]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("fault", cases, ids=[case.name for case in cases])


async def _holds(scene: Scene, fault: Fault, setting: str, seed: int) -> None:
    if reason := fault.missing():
        table.keep(Row(fault.name, setting, skipped=reason).as_dict())
        pytest.skip(reason)
    row = await run_case(scene, fault, setting, seed)
    table.keep(row.as_dict())
    assert not row.faults, row
    assert not (fault.is_planned and row.failed), row


@_named(IN_BUCKET)
async def test_with_a_bucket_and_redis(in_bucket: Scene, fault: Fault) -> None:
    await _holds(in_bucket, fault, "S3, Redis", 100 + IN_BUCKET.index(fault))


@_named(ON_DISK)
async def test_with_a_disk_and_rocksdb(on_disk: Scene, fault: Fault) -> None:
    await _holds(on_disk, fault, "disk, RocksDB", 200 + ON_DISK.index(fault))
