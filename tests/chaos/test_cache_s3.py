"""L3 on a real S3 server that is slow, resets, swallows, refuses, dies and comes back."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from cache_store.codec import Record, RecordCodec
from cache_store.keyring import Keyring
from cache_store.settings import CacheSettings
from cache_store.tiered import VoiceCache, open_cache
from tests.cache_helpers import SCHEMA, S3Server, make_bucket, make_key, make_record, ministack
from tests.fault_proxy import FaultProxy

pytestmark = pytest.mark.chaos

ENCODE_S = 0.01
ROOT = "rootsecretkey1234"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with ministack(tmp_path_factory.mktemp("s3")) as (endpoint, _):
        yield make_bucket(endpoint, "voices")


@pytest.fixture
def proxy(server):
    running = FaultProxy(int(server.endpoint.rpartition(":")[2]))
    yield running
    running.close()


def settings_for(server: S3Server, port: int, prefix: str, **changes) -> CacheSettings:
    client = {"endpoint_url": f"http://127.0.0.1:{port}", "region_name": "us-east-1"}
    options = {**server.storage_options, "client_kwargs": client}
    return CacheSettings(
        url=f"s3://{server.bucket}/{prefix}", storage_options=options, l2="off", **changes
    )


async def encode() -> Record:
    await asyncio.sleep(ENCODE_S)
    return make_record()


async def timed(cache: VoiceCache, name: str) -> tuple[str, float]:
    started = time.monotonic()
    result = await cache.get_or_compute(make_key(name), encode)
    return result.tier, time.monotonic() - started


async def recovered(cache: VoiceCache) -> None:
    """Wait, without any request, until L3 is read again; fails after 60 s."""
    give_up_s = time.monotonic() + 60
    while cache.stats().tiers["l3"]["read_breaker"]:
        assert time.monotonic() < give_up_s
        await asyncio.sleep(0.1)


FAULTS = {
    "black hole": {"black_hole": True},
    "refused": {"refuse": True},
    "reset in the middle": {"reset_after_bytes": 500},
    "slow": {"delay_s": 0.6},
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_sick_store_delays_five_requests_and_recovers_by_itself(server, proxy, fault):
    prefix = fault.replace(" ", "-")
    writer = open_cache(settings_for(server, proxy.port, prefix), SCHEMA)
    await writer.start()
    for i in range(40):
        await writer.get_or_compute(make_key(str(i)), encode, durable=True)
    await writer.close()

    cache = open_cache(settings_for(server, proxy.port, prefix), SCHEMA)
    await cache.start()
    assert (await timed(cache, "0"))[0] == "l3"
    proxy.set(**FAULTS[fault])
    results = [await timed(cache, str(i)) for i in range(1, 31)]
    delays_s = [took_s - ENCODE_S for tier, took_s in results]
    late = [delay_s for delay_s in delays_s if delay_s > 0.05]
    assert {tier for tier, _ in results} == {"miss"}
    assert len(late) <= 5, delays_s
    assert max(delays_s) <= 0.3, delays_s
    assert cache.stats().tiers["l3"]["read_breaker"] == 1
    assert cache.stats().requests["voice", "l3", "skipped"] >= 25
    proxy.set()
    await recovered(cache)
    assert "l3 reading" not in cache.ailments()
    assert (await timed(cache, "35"))[0] == "l3"
    await cache.close()


async def test_a_burst_into_a_black_hole_waits_for_one_deadline_only(server, proxy):
    cache = open_cache(settings_for(server, proxy.port, "burst"), SCHEMA)
    await cache.start()
    proxy.set(black_hole=True)
    results = await asyncio.gather(*(timed(cache, str(i)) for i in range(64)))
    assert max(took_s for _, took_s in results) < 0.5
    assert (await timed(cache, "later"))[1] < 0.1
    proxy.set()
    await cache.close()


async def test_what_was_computed_during_an_outage_is_written_afterwards(server, proxy):
    settings = settings_for(server, proxy.port, "outage")
    cache = open_cache(settings, SCHEMA)
    await cache.start()
    proxy.set(refuse=True)
    for i in range(20):
        await timed(cache, str(i))
    await asyncio.sleep(1)
    queue = cache.stats().tiers["l3"]
    assert queue["writeback_entries"] == 20
    proxy.set()
    await cache.close()
    fresh = open_cache(settings, SCHEMA)
    await fresh.start()
    tiers = [(await timed(fresh, str(i)))[0] for i in range(20)]
    assert tiers == ["l3"] * 20
    await fresh.close()


async def test_wrong_credentials_delay_one_request_and_are_named(server, proxy, caplog):
    caplog.set_level(logging.WARNING)
    settings = settings_for(server, proxy.port, "denied", flush_deadline_s=0.2)
    options = {**settings.storage_options, "secret": "wrong"}
    cache = open_cache(settings.model_copy(update={"storage_options": options}), SCHEMA)
    await cache.start()
    results = [await timed(cache, str(i)) for i in range(10)]
    assert {tier for tier, _ in results} == {"miss"}
    assert cache.stats().requests["voice", "l3", "error"] == 1
    assert cache.stats().requests["voice", "l3", "skipped"] == 9
    assert "set aside" in caplog.text
    assert "signature" in cache.ailments()["l3 reading"].lower()
    await cache.close()


async def test_a_read_only_user_still_reads(server, proxy):
    prefix = "read-only"
    owner = open_cache(settings_for(server, proxy.port, prefix), SCHEMA)
    await owner.get_or_compute(make_key("a"), encode, durable=True)
    await owner.close()
    reader = read_only_user(server)
    cache = open_cache(settings_for(reader, proxy.port, prefix, flush_deadline_s=0.2), SCHEMA)
    await cache.start()
    assert (await timed(cache, "new"))[0] == "miss"
    await asyncio.sleep(0.3)
    assert cache.stats().tiers["l3"]["write_breaker"] == 1
    assert (await timed(cache, "a"))[0] == "l3"
    result = await cache.get_or_compute(make_key("b"), encode, durable=True)
    assert (result.tier, result.is_durable) == ("miss", False)
    await cache.close()


def read_only_user(server: S3Server) -> S3Server:
    import boto3

    iam = boto3.client(
        "iam",
        endpoint_url=server.endpoint,
        aws_access_key_id="rootkey",
        aws_secret_access_key=ROOT,
        region_name="us-east-1",
    )
    iam.create_user(UserName="reader")
    resources = [f"arn:aws:s3:::{server.bucket}", f"arn:aws:s3:::{server.bucket}/*"]
    statement = {
        "Effect": "Allow",
        "Action": ["s3:GetObject", "s3:ListBucket"],
        "Resource": resources,
    }
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    iam.put_user_policy(UserName="reader", PolicyName="read", PolicyDocument=policy)
    key = iam.create_access_key(UserName="reader")["AccessKey"]
    return S3Server(server.endpoint, server.bucket, key["AccessKeyId"], key["SecretAccessKey"])


async def test_a_server_that_is_paused_killed_and_restarted(tmp_path):
    with ministack(tmp_path) as (endpoint, process):
        # The root user: ministack forgets IAM users when it is killed.
        server = replace(make_bucket(endpoint, "voices"), access_key_id="rootkey", secret=ROOT)
        port = int(endpoint.rpartition(":")[2])
        settings = settings_for(server, port, "restart")
        cache = open_cache(settings, SCHEMA)
        await cache.start()
        await cache.get_or_compute(make_key("before"), encode, durable=True)
        process.send_signal(signal.SIGSTOP)
        results = [await timed(cache, str(i)) for i in range(8)]
        assert {tier for tier, _ in results} == {"miss"}
        assert sum(took_s > 0.1 for _, took_s in results) <= 5
        process.kill()
        process.wait()
        assert (await timed(cache, "dead"))[0] == "miss"
        with ministack(tmp_path, port):
            await recovered(cache)
            await cache.close()
            fresh = open_cache(settings, SCHEMA)
            await fresh.start()
            assert (await timed(fresh, "before"))[0] == "l3"
            assert (await timed(fresh, "dead"))[0] == "l3"
            await fresh.close()


WRITER = """
import asyncio, itertools, os, signal, sys, time
import pyarrow
from cache_store.settings import CacheSettings
from cache_store.tiered import open_cache
from tests.cache_helpers import SCHEMA, make_key, make_record

async def write(first):
    cache = open_cache(CacheSettings(url=sys.argv[1], l2="off"), SCHEMA)
    async def encode():
        return make_record(seconds=5)
    for i in itertools.count(first):
        await cache.get_or_compute(make_key(str(i)), encode, durable=True)

for number in range(int(sys.argv[2])):
    child = os.fork()
    if child == 0:
        asyncio.run(write(number * 100_000))
    time.sleep(0.1 + 0.0031 * (number % 13))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
"""


def test_kill_9_during_writes_never_leaves_a_torn_record(tmp_path):
    rounds = 100
    root = Path(__file__).parents[2]
    subprocess.run(
        [sys.executable, "-c", WRITER, str(tmp_path), str(rounds)],
        env={**os.environ, "PYTHONPATH": str(root)},
        check=True,
        timeout=120,
    )
    written = list((tmp_path / "v1").rglob("*.sva"))
    assert len(written) > rounds
    codec = RecordCodec(SCHEMA, Keyring())
    for file in written:
        codec.decode(file.read_bytes(), file.stem)
