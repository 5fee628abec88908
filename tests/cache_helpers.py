"""A voice-shaped schema, records, a real S3 server and a scripted tier for the cache's tests."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cache_store.codec import FieldSpec, Record, RecordSchema
from cache_store.errors import StoreError
from cache_store.keys import ClipKey, EntryKey, VoiceKey
from tests.waiting import wait_until

FINGERPRINT = "ab" * 32
SCHEMA = RecordSchema(
    "voice",
    1,
    (
        FieldSpec("vq02", "int16", (None,), minimum=0, maximum=1023, min_rows=1),
        FieldSpec("vq06", "int16", (None,), minimum=0, maximum=4095, min_rows=1),
        FieldSpec("prompt_mel", "float32", (None, 80)),
        FieldSpec("speaker_embedding", "float32", (192,)),
    ),
)


def make_record(seed: int = 0, seconds: float = 1.0) -> Record:
    rng = np.random.default_rng(seed)
    arrays = {
        "vq02": rng.integers(0, 1024, int(seconds * 50 / 3), dtype=np.int16),
        "vq06": rng.integers(0, 4096, int(seconds * 25), dtype=np.int16),
        "prompt_mel": rng.standard_normal((int(seconds * 50), 80), dtype=np.float32),
        "speaker_embedding": rng.standard_normal(192, dtype=np.float32),
    }
    return Record(arrays, {"duration_s": str(seconds)})


def make_key(name: str = "clip", namespace: str = "shared") -> VoiceKey:
    return VoiceKey(namespace, name.encode().hex().zfill(64), FINGERPRINT)


def same(one: Record, other: Record) -> bool:
    return one.arrays.keys() == other.arrays.keys() and all(
        np.array_equal(one.arrays[name], other.arrays[name]) for name in one.arrays
    )


@dataclass
class ScriptedTier:
    """A tier in a dict that fails or hangs when told to."""

    name: str = "l3"
    is_durable: bool = True
    entries: dict[str, bytes] = field(default_factory=dict)
    owners: dict[str, str] = field(default_factory=dict)
    rejected: list[str] = field(default_factory=list)
    fails: bool = False
    delay_s: float = 0.0
    gets: int = 0

    async def _act(self) -> None:
        await asyncio.sleep(self.delay_s)
        if self.fails:
            raise StoreError("told to fail")

    async def start(self) -> None: ...

    async def get(self, key: EntryKey) -> bytes | None:
        self.gets += 1
        await self._act()
        return self.entries.get(key.path)

    def offer(self, key: EntryKey, entry: bytes) -> None:
        if not self.fails:
            self._keep(key, entry)

    async def put(self, key: EntryKey, entry: bytes) -> None:
        await self._act()
        self._keep(key, entry)

    def _keep(self, key: EntryKey, entry: bytes) -> None:
        self.entries.setdefault(key.path, entry)
        self.owners[key.path] = key.owner

    def reject(self, key: EntryKey, entry: bytes) -> None:
        self.rejected.append(key.path)
        self.entries.pop(key.path, None)

    async def forget(self, clip: ClipKey) -> None:
        await self._act()
        for path in [path for path, owner in self.owners.items() if owner == clip.owner]:
            self.entries.pop(path, None)

    async def close(self, deadline_s: float) -> None: ...

    def unhealthy_tiers(self) -> Mapping[str, str]:
        return {}

    def stats(self) -> Mapping[str, float]:
        return {"entries": len(self.entries)}


@dataclass(frozen=True)
class S3Server:
    """A running S3 server. access_key_id, secret: of an IAM user that may use `bucket` only."""

    endpoint: str
    bucket: str
    access_key_id: str
    secret: str

    @property
    def storage_options(self) -> dict[str, object]:
        return {
            "key": self.access_key_id,
            "secret": self.secret,
            "client_kwargs": {"endpoint_url": self.endpoint, "region_name": "us-east-1"},
        }


def free_port() -> int:
    """A port on loopback that stays free until it is used.

    Between Ray's workers and the ports that the system gives out to whoever asks for any.
    """
    for port in random.sample(range(20_000, 32_000), 100):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no free port among a hundred")


@contextlib.contextmanager
def ministack(directory: Path, port: int | None = None) -> Iterator[tuple[str, subprocess.Popen]]:
    """Run ministack on loopback, signatures enforced; data in `directory` survives a restart."""
    port = port or free_port()
    executable = shutil.which("ministack", path=str(Path(sys.executable).parent))
    assert executable, "ministack is a development dependency: install the dev extra"
    environment = {
        **os.environ,
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        "AUTH": "true",
        "AWS_ACCESS_KEY_ID": "rootkey",
        "AWS_SECRET_ACCESS_KEY": "rootsecretkey1234",
        "S3_PERSIST": "1",
        "S3_DATA_DIR": str(directory / "data"),
        "PERSIST_STATE": "1",
        "STATE_DIR": str(directory / "state"),
    }
    endpoint = f"http://127.0.0.1:{port}"
    with (directory / f"ministack-{port}.log").open("ab") as log:
        process = subprocess.Popen([executable], env=environment, stdout=log, stderr=log)
        try:
            _wait_until_ready(port, process)
            yield endpoint, process
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT)  # a paused process cannot be asked to stop
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_until_ready(port: int, process: subprocess.Popen) -> None:
    def answers() -> bool:
        assert process.poll() is None, "ministack exited at start"
        try:
            socket.create_connection(("127.0.0.1", port), timeout=10).close()
        except OSError:
            return False
        return True

    wait_until(answers)


def make_bucket(endpoint: str, bucket: str) -> S3Server:
    """A bucket, and an IAM user that may use it and nothing else."""
    import boto3

    root = {
        "endpoint_url": endpoint,
        "aws_access_key_id": "rootkey",
        "aws_secret_access_key": "rootsecretkey1234",
        "region_name": "us-east-1",
    }
    boto3.client("s3", **root).create_bucket(Bucket=bucket)
    iam = boto3.client("iam", **root)
    iam.create_user(UserName="replica")
    actions = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:ListBucket"]
    resources = [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"]
    policy = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": actions, "Resource": resources}],
    }
    iam.put_user_policy(UserName="replica", PolicyName="cache", PolicyDocument=json.dumps(policy))
    access = iam.create_access_key(UserName="replica")["AccessKey"]
    return S3Server(endpoint, bucket, access["AccessKeyId"], access["SecretAccessKey"])
