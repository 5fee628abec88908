"""Settings of the cache. Knows no backend; every field is used and a mistake stops the start."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from cache_store.keys import check_namespace

MIB = 2**20
SPEECH_RECORD_BYTES = 32 * MIB  # largest finished answer unless settings say otherwise


def speech_url(url: str) -> str:
    """Where speech lies, of a service whose voices lie at `url`."""
    return url if url == "none" else f"{url.rstrip('/')}/speech"


class CacheSettings(BaseModel):
    """Where records live and how long anything may wait for them.

    url: directory, or any fsspec URL such as `s3://bucket/prefix`; `none` keeps records in memory
    only.
    storage_options: passed to the fsspec file system; credentials belong in the environment, not
    here.
    namespace: tenant of requests that the server assigns to no other.
    mac_keys_file, mac_keys_env: where `id:secret` items are read from, the active one first;
    neither: damage is detected but forgery is not.
    l1_bytes, alias_bytes: budgets of this process. l3_read_deadline_s: longest wait of a request
    for L3.
    l2: share records between the processes of a Ray cluster; auto: if this process is in one.
    l2_name: names the index actors. l2_bytes: their budget in the object store, over all shards.
    l2_deadline_s: longest wait of a request for the index. lease_s: how long the death of whoever
    computes goes unnoticed. claim_wait_s: longest wait for another process's computation.
    l3_max_bytes: budget of a local directory, kept by deleting what was not used for longest,
    looked after every gc_interval_s; None: unbounded. A bucket is bounded by `timbre cache gc` or
    by its own lifecycle rules: replicas need the rights to list and delete for removing clips only.
    fsync: a local record survives power loss, at several times the cost.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str = "~/.cache/timbre/voices"
    storage_options: dict[str, Any] = Field(default_factory=dict[str, Any])
    namespace: str = "shared"
    mac_keys_file: str | None = None
    mac_keys_env: str | None = None
    l1_bytes: int = Field(default=256 * MIB, ge=0)
    alias_bytes: int = Field(default=4 * MIB, ge=0)
    max_record_bytes: int = Field(default=8 * MIB, ge=1024)
    l3_read_deadline_s: float = Field(default=0.25, gt=0)
    l3_write_deadline_s: float = Field(default=10.0, gt=0)
    connect_timeout_s: float = Field(default=0.5, gt=0)
    read_timeout_s: float = Field(default=1.0, gt=0)
    io_threads: int = Field(default=16, ge=1)
    l2: Literal["auto", "on", "off"] = "auto"
    l2_name: str = Field(default="voices", pattern=r"[a-z0-9_-]{1,40}")
    l2_bytes: int = Field(default=512 * MIB, ge=0)
    l2_shards: int = Field(default=1, ge=1, le=64)
    l2_deadline_s: float = Field(default=0.25, gt=0)
    lease_s: float = Field(default=1.0, gt=0)
    claim_wait_s: float = Field(default=10.0, gt=0)
    l3_max_bytes: int | None = Field(default=20_000 * MIB, ge=0)
    gc_interval_s: float = Field(default=3600.0, gt=0)
    fsync: bool = False
    writeback_bytes: int = Field(default=32 * MIB, ge=0)
    writeback_entries: int = Field(default=512, ge=1)
    writeback_workers: int = Field(default=4, ge=1)
    writeback_tries: int = Field(default=5, ge=1)
    flush_deadline_s: float = Field(default=10.0, ge=0)

    @field_validator("namespace")
    @classmethod
    def _namespace_is_valid(cls, namespace: str) -> str:
        return check_namespace(namespace)
