"""Settings of the cache; unknown fields and invalid values are refused at start-up."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from cache_store.keys import check_namespace

MIB = 2**20
_SECRET_IN_URL = re.compile(r"[a-z][a-z0-9+.:-]*://[^/@]*:[^/]*@", re.IGNORECASE)
STATE_MARGIN_BYTES = 64 * 1024  # of a stage's record, beyond the state itself
SPEECH_RECORD_BYTES = 32 * MIB  # largest finished answer unless settings say otherwise


def speech_url(url: str) -> str:
    """Where speech lies, of a service whose voices lie at `url`."""
    return url if url == "none" else f"{url.rstrip('/')}/speech"


class CacheSettings(BaseModel):
    """Where records live, and how long anything may wait for them."""

    # Errors are logged, and what they would quote may be a secret.
    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, hide_input_in_errors=True
    )

    url: str = "~/.cache/timbre/voices"
    """Directory, or any fsspec URL such as `s3://bucket/prefix`; `none` keeps records in memory
    only."""
    storage_options: dict[str, Any] = Field(default_factory=dict[str, Any], repr=False)
    """Passed to the fsspec file system. Credentials belong in the environment, not here."""
    namespace: str = "shared"
    """Tenant of the requests that the server assigns to no other."""
    mac_keys_file: str | None = None
    """File of `id:secret` items, the active one first. Without this and `mac_keys_env` damage is
    detected, forgery is not."""
    mac_keys_env: str | None = None
    """Environment variable with `id:secret` items, the active one first."""
    l1_bytes: int = Field(default=256 * MIB, ge=0)
    """Memory budget of records in this process."""
    alias_bytes: int = Field(default=4 * MIB, ge=0)
    """Memory budget of aliases in this process."""
    max_record_bytes: int = Field(default=8 * MIB, ge=1024)
    """Larger records are neither stored nor read."""
    max_state_bytes: int = Field(default=32 * MIB, ge=0)
    """Larger states of the vocoder are not stored (of the embedded model, a clip of 15 s fits); 0
    stores none."""
    l3_read_deadline_s: float = Field(default=0.25, gt=0)
    """Longest time that a request waits for L3."""
    l3_write_deadline_s: float = Field(default=10.0, gt=0)
    """Longest time that one write to L3 may take."""
    connect_timeout_s: float = Field(default=0.5, gt=0)
    """Of a connection to S3."""
    read_timeout_s: float = Field(default=1.0, gt=0)
    """Of one read from a connection to S3."""
    io_threads: int = Field(default=16, ge=1)
    """Threads that read from L3, and as many that write."""
    l2: Literal["auto", "on", "off"] = "auto"
    """Share records between the processes of a Ray cluster; auto: when this process is in one."""
    l2_name: str = Field(default="voices", pattern=r"[a-z0-9_-]{1,40}")
    """Name of the index actors."""
    l2_bytes: int = Field(default=512 * MIB, ge=0)
    """Budget of all shards together in the object store."""
    l2_shards: int = Field(default=1, ge=1, le=64)
    """Index actors that share the keys."""
    l2_deadline_s: float = Field(default=0.25, gt=0)
    """Longest time that a request waits for the index."""
    lease_s: float = Field(default=1.0, gt=0)
    """How long the death of a process that computes a record may go unnoticed."""
    claim_wait_s: float = Field(default=10.0, gt=0)
    """Longest wait for another process's computation."""
    l3_max_bytes: int | None = Field(default=20_000 * MIB, ge=0)
    """Budget of a local directory, kept by deleting the least recently used entries; None:
    unbounded. A bucket is bounded by `timbre cache gc` or by its own lifecycle rules; replicas need
    the rights to list and delete only to remove clips."""
    gc_interval_s: float = Field(default=3600.0, gt=0)
    """How often a local directory is checked against its budget."""
    fsync: bool = False
    """Local records survive a power loss, at several times the cost."""
    writeback_bytes: int = Field(default=32 * MIB, ge=0)
    """Bytes that may wait to be written to L3; further entries are dropped and counted."""
    writeback_entries: int = Field(default=512, ge=1)
    """Entries that may wait to be written to L3."""
    writeback_workers: int = Field(default=4, ge=1)
    """Concurrent writes to L3."""
    writeback_tries: int = Field(default=5, ge=1)
    """Attempts before an entry is dropped."""
    flush_deadline_s: float = Field(default=10.0, ge=0)
    """How long closing the cache may take to write entries that wait."""

    @field_validator("url")
    @classmethod
    def _url_has_no_secret(cls, url: str) -> str:
        """Logs and commands show it."""
        if _SECRET_IN_URL.match(url):
            raise ValueError("credentials belong in the environment, not into the url")
        return url

    @field_validator("namespace")
    @classmethod
    def _namespace_is_valid(cls, namespace: str) -> str:
        return check_namespace(namespace)
