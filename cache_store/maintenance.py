"""Maintenance of a whole store: list, verify, collect garbage, export, import."""

from __future__ import annotations

import io
import tarfile
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cache_store.codec import EntryInfo, describe
from cache_store.errors import CorruptEntry, EntryError, StoreError
from cache_store.keyring import Keyring
from cache_store.keys import LAYOUT, EntryPath, parse_path
from cache_store.notes import CLIP, NOTES, alias_of_note, note_of_path
from cache_store.store import QUARANTINE, TMP, BlobInfo, BlobStore

HOUR_S = 3600.0
DAY_S = 24 * HOUR_S
CLOCK_SLACK_S = 60.0
Verdict = Literal["good", "corrupt", "unreadable", "gone"]


@dataclass(frozen=True, slots=True)
class Stored:
    """One record or alias in the store."""

    path: EntryPath
    blob: BlobInfo


@dataclass(frozen=True, slots=True)
class Filter:
    """Selects entries; None matches any value."""

    kind: str | None = None
    namespace: str | None = None
    fingerprint: str | None = None
    """The first digits suffice."""

    def matches(self, path: EntryPath) -> bool:
        return (
            self.kind in (None, path.kind)
            and self.namespace in (None, path.namespace)
            and (self.fingerprint is None or path.fingerprint.startswith(self.fingerprint[:16]))
        )


@dataclass(frozen=True, slots=True)
class GcPolicy:
    """What the garbage collector deletes; None disables a rule."""

    max_bytes: int | None = None
    """Delete the least recently used entries until `low_water` of this remains."""
    max_age_s: float | None = None
    """Delete entries that were not used for longer than this."""
    keep_fingerprints: tuple[str, ...] | None = None
    """Encoders whose voice records are kept; those of any other are deleted once unused for
    `dead_after_s`."""
    dead_after_s: float = 14 * DAY_S
    """See `keep_fingerprints`."""
    min_age_s: float = HOUR_S
    """Younger entries are never deleted."""
    orphan_after_s: float = DAY_S
    """Age at which orphans are deleted: files of interrupted writes, quarantined objects, notes of
    aliases that no longer exist."""
    low_water: float = 0.8
    """Share of `max_bytes` that is left after a collection."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """An object to delete, and the rule that says so."""

    blob: BlobInfo
    reason: Literal["orphan", "age", "fingerprint", "bytes"]


def scan(store: BlobStore, wanted: Filter | None = None) -> Iterator[Stored]:
    """Every entry that matches, in no order."""
    for blob in store.list(LAYOUT):
        path = parse_path(blob.path)
        if path is not None and (wanted is None or wanted.matches(path)):
            yield Stored(path, blob)


def find(store: BlobStore, digest: str) -> Stored | None:
    """The entry whose digest starts with `digest`, wherever it is. Raises ValueError if several."""
    found = [stored for stored in scan(store) if stored.path.digest.startswith(digest)]
    if len(found) > 1:
        raise ValueError(f"{len(found)} entries start with {digest}")
    return found[0] if found else None


def check(
    store: BlobStore, stored: Stored, keyring: Keyring, max_bytes: int
) -> tuple[Verdict, str, EntryInfo | None]:
    """Read and verify one entry: the verdict, the reason, and the description of a good one."""
    data = store.get(stored.blob.path, max_bytes)
    if data is None:
        return "gone", "deleted meanwhile", None
    try:
        info = describe(data, keyring, max_bytes)
        if info.key != stored.path.digest:
            raise CorruptEntry("key", "stored under another key")
    except EntryError as error:
        return "corrupt" if isinstance(error, CorruptEntry) else "unreadable", str(error), None
    return "good", "", info


def repair(store: BlobStore, stored: Stored, max_bytes: int) -> None:
    """Quarantine a damaged entry, so that it is computed again."""
    store.quarantine(stored.blob.path, store.get(stored.blob.path, max_bytes) or b"")


def plan_collection(
    store: BlobStore, policy: GcPolicy, now_unix_s: float | None = None
) -> list[Candidate]:
    """What a collection would delete now: orphans, then the least recently used first."""
    now_s = time.time() if now_unix_s is None else now_unix_s
    candidates = [
        Candidate(blob, "orphan")
        for prefix in (TMP, QUARANTINE)
        for blob in store.list(prefix)
        if now_s - blob.modified_unix_s > policy.orphan_after_s
    ]
    kept: list[Stored] = []
    for stored in sorted(scan(store), key=lambda one: one.blob.modified_unix_s):
        reason = _reason(stored, policy, now_s - stored.blob.modified_unix_s)
        if reason is None:
            kept.append(stored)
        else:
            candidates.append(Candidate(stored.blob, reason))
    there = {stored.blob.path for stored in kept}
    candidates += [
        Candidate(blob, "orphan")
        for blob in store.list(NOTES)
        if now_s - blob.modified_unix_s > policy.orphan_after_s
        and alias_of_note(blob.path) not in there
    ]
    return candidates + _over_budget(kept, policy, now_s)


def collect(
    store: BlobStore, candidates: Iterable[Candidate], progress: Callable[[], None] | None = None
) -> tuple[int, int, int]:
    """Delete them. Returns the number deleted, their bytes, and the number of failures.

    Deleting under a reader is safe: objects are immutable, and an absent one is a miss.
    """
    count = size_bytes = failed = 0
    for one in candidates:
        try:
            store.delete(one.blob.path)
        except StoreError:
            failed += 1
        else:
            count += 1
            size_bytes += one.blob.size_bytes
        if progress is not None:
            progress()
    return count, size_bytes, failed


def export_entries(
    store: BlobStore, chosen: Iterable[Stored], archive: Path, max_bytes: int
) -> int:
    """Write entries into a tar file unchanged. Returns their number."""
    count = 0
    with tarfile.open(archive, "w") as tar:
        for stored in chosen:
            data = store.get(stored.blob.path, max_bytes)
            if data is None:
                continue
            member = tarfile.TarInfo(stored.blob.path)
            member.size = len(data)
            member.mtime = int(stored.blob.modified_unix_s)
            tar.addfile(member, io.BytesIO(data))
            count += 1
    return count


def import_entries(
    store: BlobStore, archive: Path, keyring: Keyring, max_bytes: int
) -> tuple[int, int, int]:
    """Publish the entries of a tar file. Returns how many were new, known already, and refused.

    Refused: files that are no entries of ours, damaged ones, and those under unknown keys.
    """
    new = known = refused = 0
    with tarfile.open(archive, "r:") as tar:
        for member in tar:
            path = parse_path(member.name)
            file = tar.extractfile(member) if member.isfile() else None
            if path is None or file is None or member.size > max_bytes:
                refused += 1
                continue
            data = file.read()
            try:
                info = describe(data, keyring, max_bytes)
            except EntryError:
                refused += 1
                continue
            if info.key != path.digest:
                refused += 1
                continue
            note = note_of_path(path, info.metadata.get(CLIP, ""))
            if note is not None:
                store.create(note, b"")
            if store.create(member.name, data):
                new += 1
            else:
                known += 1
    return new, known, refused


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the doctor's report."""

    step: str
    is_good: bool
    says: str
    took_s: float
    """How long the step took."""


def examine(store: BlobStore, keyring: Keyring) -> Iterator[Finding]:
    """Try every operation of a replica, on objects that are deleted afterwards."""
    path = f"{LAYOUT}/.doctor/{uuid.uuid4().hex}"
    yield _try("reach it", lambda: store.get(path, 0) is None, "an absent object is absent")
    yield _try("write", lambda: store.create(path, b"first"), "a new object is accepted")
    yield _try("read", lambda: store.get(path, 100) == b"first", "and read back as it was")
    yield _try(
        "create only",
        lambda: not store.create(path, b"second") and store.get(path, 100) == b"first",
        "an object that exists is not overwritten",
    )
    yield _try(
        "list",
        lambda: [blob.path for blob in store.list(f"{LAYOUT}/.doctor")] == [path],
        "the object is listed (stats, verify, gc and removing a clip need it)",
    )
    yield _try("clock", lambda: _clock_agrees(store), "its clock agrees with ours within a minute")
    yield _try(
        "delete",
        lambda: store.delete(path) is None,
        "and can be removed (gc and removing a clip need it)",
    )
    says = (
        "forged records are refused" if keyring.is_secret else "no secret: forgery goes unnoticed"
    )
    yield Finding("sealing key", keyring.is_secret, says, 0.0)


def _try(step: str, action: Callable[[], bool], says: str) -> Finding:
    started_s = time.perf_counter()
    try:
        is_good = action()
    except StoreError as error:
        return Finding(step, False, str(error), time.perf_counter() - started_s)
    took_s = time.perf_counter() - started_s
    return Finding(step, is_good, says if is_good else f"not so: {says}", took_s)


def _clock_agrees(store: BlobStore) -> bool:
    now_s = time.time()
    blobs = store.list(f"{LAYOUT}/.doctor")
    return all(abs(blob.modified_unix_s - now_s) < CLOCK_SLACK_S for blob in blobs)


def _reason(stored: Stored, policy: GcPolicy, age_s: float) -> Literal["age", "fingerprint"] | None:
    if age_s < policy.min_age_s:
        return None
    if policy.max_age_s is not None and age_s > policy.max_age_s:
        return "age"
    if policy.keep_fingerprints is None or stored.path.kind != "voice":
        return None
    is_kept = any(kept[:16] == stored.path.fingerprint for kept in policy.keep_fingerprints)
    return None if is_kept or age_s < policy.dead_after_s else "fingerprint"


def _over_budget(kept: list[Stored], policy: GcPolicy, now_s: float) -> list[Candidate]:
    """The least recently used of `kept` (which is in that order) beyond the budget."""
    total = sum(stored.blob.size_bytes for stored in kept)
    if policy.max_bytes is None or total <= policy.max_bytes:
        return []
    candidates: list[Candidate] = []
    for stored in kept:
        is_young = now_s - stored.blob.modified_unix_s < policy.min_age_s
        if total <= policy.low_water * policy.max_bytes or is_young:
            break
        candidates.append(Candidate(stored.blob, "bytes"))
        total -= stored.blob.size_bytes
    return candidates
