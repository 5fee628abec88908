"""The clusters of the storm tier: one with its voices in a bucket, one with them on a disk."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cache_helpers import free_port, make_bucket, ministack
from tests.fault_proxy import FaultProxy
from tests.storm import disk, machine
from tests.storm.cluster import service_config, storm_cluster
from tests.storm.faults import Bucket, Scene, built_clock

BUCKET, DISK = "S3, Redis", "disk, RocksDB"  # where voices are, and the cluster's state
ROOT_KEY, ROOT_SECRET = "rootkey", "rootsecretkey1234"  # a killed server forgets all other users


def storage_options(endpoint: str) -> dict[str, Any]:
    """How machines reach the server of buckets there."""
    client = {"endpoint_url": endpoint, "region_name": "us-east-1"}
    return {"key": ROOT_KEY, "secret": ROOT_SECRET, "client_kwargs": client}


@pytest.fixture(scope="module")
def scene(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Scene]:
    """The cluster of a setting; one at a time, for all have the same addresses."""
    if reason := machine.missing():
        pytest.skip(reason)
    setting: str = request.param
    with _SCENES[setting](tmp_path_factory.mktemp("storm")) as made:
        yield made


@contextlib.contextmanager
def _in_bucket(directory: Path) -> Iterator[Scene]:
    with contextlib.ExitStack() as ends:
        store = directory / "s3"
        store.mkdir()
        port = free_port()
        endpoint, server = ends.enter_context(ministack(store, port))
        bucket = make_bucket(endpoint, "voices").bucket
        variables = built_clock(directory)
        cluster = ends.enter_context(storm_cluster(directory, "redis", variables))
        proxy = FaultProxy(port, cluster.gateway)
        ends.callback(proxy.close)
        options = storage_options(f"http://{cluster.gateway}:{proxy.port}")
        cluster.deploy(service_config({"url": f"s3://{bucket}/storm", "storage_options": options}))
        cluster.wait_until_up()
        yield Scene(BUCKET, cluster, Bucket(store, port, proxy, server, ends))


@contextlib.contextmanager
def _on_disk(directory: Path) -> Iterator[Scene]:
    if reason := disk.missing():
        pytest.skip(reason)
    with (
        disk.mounted_disk(directory) as place,
        storm_cluster(directory, "rocksdb", {}) as cluster,
    ):
        cluster.deploy(service_config({"url": str(place.path / "voices")}))
        cluster.wait_until_up()
        yield Scene(DISK, cluster, disk=place)


_SCENES = {BUCKET: _in_bucket, DISK: _on_disk}
