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

from cache_store.cache import VoiceCache
from cache_store.codec import Record, RecordCodec
from cache_store.keyring import Keyring
from cache_store.opening import open_cache
from cache_store.settings import CacheSettings
from tests.cache_helpers import SCHEMA, S3Server, make_bucket, make_key, make_record, ministack
from tests.fault_proxy import FaultProxy
from tests.waiting import until

pytestmark = pytest.mark.chaos

ROOT = "rootsecretkey1234"
# What a test is not about: a busy machine may take its time.
PATIENCE = {
    "l3_read_deadline_s": 30.0,
    "l3_write_deadline_s": 60.0,
    "connect_timeout_s": 30.0,
    "read_timeout_s": 30.0,
    "flush_deadline_s": 60.0,
}
DEADLINE_S = 1.5  # where a request is to wait for it; the client would wait for 30 s


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
        url=f"s3://{server.bucket}/{prefix}",
        storage_options=options,
        l2="off",
        **{**PATIENCE, **changes},
    )


async def encode() -> Record:
    return make_record()


async def ask(cache: VoiceCache, name: str) -> str:
    """The tier that answers."""
    return (await cache.get_or_compute(make_key(name), encode)).tier


def looked_up(cache: VoiceCache, result: str) -> int:
    """Requests for which L3 gave this result."""
    return cache.stats().requests.get(("voice", "l3", result), 0)


async def recovered(cache: VoiceCache) -> None:
    """Wait, without any request, until L3 is read again."""
    await until(lambda: not cache.stats().tiers["l3"]["read_breaker"])


FAULTS = {
    "black hole": {"black_hole": True},
    "refused": {"refuse": True},
    "reset in the middle": {"reset_after_bytes": 200},
    "slow": {"delay_s": 4 * DEADLINE_S},
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_sick_store_delays_five_requests_and_recovers_by_itself(server, proxy, fault):
    """Requests that are not let through to the store wait for nothing."""
    prefix = fault.replace(" ", "-")
    writer = open_cache(settings_for(server, proxy.port, prefix), SCHEMA)
    await writer.start()
    for i in range(40):
        await writer.get_or_compute(make_key(str(i)), encode, durable=True)
    await writer.close()

    settings = settings_for(server, proxy.port, prefix, l3_read_deadline_s=DEADLINE_S)
    cache = open_cache(settings, SCHEMA)
    await cache.start()
    assert await ask(cache, "0") == "l3"
    proxy.set(**FAULTS[fault])
    started_s = time.monotonic()
    tiers = [await ask(cache, str(i)) for i in range(1, 31)]
    took_s = time.monotonic() - started_s
    assert tiers == ["miss"] * 30
    assert (looked_up(cache, "error"), looked_up(cache, "skipped")) == (5, 25)
    assert took_s < 2 * 5 * DEADLINE_S
    assert cache.stats().tiers["l3"]["read_breaker"] == 1
    proxy.set()
    await recovered(cache)
    assert "l3 reading" not in cache.unhealthy_tiers()
    assert await ask(cache, "35") == "l3"
    await cache.close()


async def test_a_burst_into_a_black_hole_waits_for_one_deadline_only(server, proxy):
    """64 requests for 16 threads: each would have to wait for the fourth turn of a thread."""
    deadline_s = 2 * DEADLINE_S
    settings = settings_for(server, proxy.port, "burst", l3_read_deadline_s=deadline_s)
    cache = open_cache(settings, SCHEMA)
    await cache.start()
    proxy.set(black_hole=True)
    started_s = time.monotonic()
    tiers = await asyncio.gather(*(ask(cache, str(i)) for i in range(64)))
    took_s = time.monotonic() - started_s
    assert tiers == ["miss"] * 64
    assert looked_up(cache, "error") == 64
    assert took_s < 3 * deadline_s
    assert await ask(cache, "later") == "miss"
    assert looked_up(cache, "skipped") == 1
    proxy.set()
    await cache.close()


async def test_what_was_computed_during_an_outage_is_written_afterwards(server, proxy):
    settings = settings_for(server, proxy.port, "outage")
    cache = open_cache(settings, SCHEMA)
    await cache.start()
    proxy.set(refuse=True)
    for i in range(20):
        await ask(cache, str(i))
    await until(lambda: cache.stats().tiers["l3"]["write_breaker"] == 1)
    assert cache.stats().tiers["l3"]["writeback_entries"] == 20
    proxy.set()
    await cache.close()
    fresh = open_cache(settings, SCHEMA)
    await fresh.start()
    tiers = [await ask(fresh, str(i)) for i in range(20)]
    assert tiers == ["l3"] * 20
    await fresh.close()


async def test_wrong_credentials_delay_one_request_and_are_named(server, proxy, caplog):
    caplog.set_level(logging.WARNING)
    settings = settings_for(server, proxy.port, "denied", flush_deadline_s=0.2)
    options = {**settings.storage_options, "secret": "wrong"}
    cache = open_cache(settings.model_copy(update={"storage_options": options}), SCHEMA)
    await cache.start()
    assert [await ask(cache, str(i)) for i in range(10)] == ["miss"] * 10
    assert (looked_up(cache, "error"), looked_up(cache, "skipped")) == (1, 9)
    assert "set aside" in caplog.text
    assert "signature" in cache.unhealthy_tiers()["l3 reading"].lower()
    await cache.close()


async def test_a_read_only_user_still_reads(server, proxy):
    prefix = "read-only"
    owner = open_cache(settings_for(server, proxy.port, prefix), SCHEMA)
    await owner.get_or_compute(make_key("a"), encode, durable=True)
    await owner.close()
    reader = read_only_user(server)
    cache = open_cache(settings_for(reader, proxy.port, prefix, flush_deadline_s=0.2), SCHEMA)
    await cache.start()
    assert await ask(cache, "new") == "miss"
    await until(lambda: cache.stats().tiers["l3"]["write_breaker"] == 1)
    assert await ask(cache, "a") == "l3"
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
        settings = settings_for(server, port, "restart", l3_read_deadline_s=DEADLINE_S)
        cache = open_cache(settings, SCHEMA)
        await cache.start()
        await cache.get_or_compute(make_key("before"), encode, durable=True)
        process.send_signal(signal.SIGSTOP)
        assert [await ask(cache, str(i)) for i in range(8)] == ["miss"] * 8
        assert (looked_up(cache, "error"), looked_up(cache, "skipped")) == (5, 3)
        process.kill()
        process.wait()
        assert await ask(cache, "dead") == "miss"
        with ministack(tmp_path, port):
            await recovered(cache)
            await cache.close()
            fresh = open_cache(settings_for(server, port, "restart"), SCHEMA)
            await fresh.start()
            assert await ask(fresh, "before") == "l3"
            assert await ask(fresh, "dead") == "l3"
            await fresh.close()


WRITER = """
import asyncio, itertools, os, signal, sys, time
import pyarrow
from cache_store.settings import CacheSettings
from cache_store.opening import open_cache
from tests.cache_helpers import SCHEMA, make_key, make_record

async def write(first, told):
    cache = open_cache(CacheSettings(url=sys.argv[1], l2="off"), SCHEMA)
    async def encode():
        return make_record(seconds=5)
    for i in itertools.count(first):
        await cache.get_or_compute(make_key(str(i)), encode, durable=True)
        os.write(told, b".")

for number in range(int(sys.argv[2])):
    heard, told = os.pipe()
    child = os.fork()
    if child == 0:
        asyncio.run(write(number * 100_000, told))
    os.close(told)
    for _ in range(2):  # it writes; somewhere in a later write it dies
        assert os.read(heard, 1)
    time.sleep(0.0031 * (number % 13))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(heard)
"""


def test_kill_9_during_writes_never_leaves_a_torn_record(tmp_path):
    rounds = 100
    root = Path(__file__).parents[2]
    subprocess.run(
        [sys.executable, "-c", WRITER, str(tmp_path), str(rounds)],
        env={**os.environ, "PYTHONPATH": str(root)},
        check=True,
        timeout=500,
    )
    written = list((tmp_path / "v1").rglob("*.sva"))
    assert len(written) > rounds
    codec = RecordCodec(SCHEMA, Keyring())
    for file in written:
        codec.decode(file.read_bytes(), file.stem)
