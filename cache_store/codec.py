"""Records to bytes and back: an Arrow IPC stream behind a 64-byte header with a keyed digest.

The caller declares its arrays in a RecordSchema.

    0  4s  magic "SVC1"
    4  u16 version | 6 u16 flags, 0 | 8 u64 payload length
   16  32s keyed BLAKE3-256 of bytes 0..15, 48..63 and the payload
   48  16s key id, zero padded
   64  payload: uncompressed Arrow IPC stream, one batch of one row, one large list per array
"""

from __future__ import annotations

import hmac
import importlib
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any, Literal, cast

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from cache_store.errors import CorruptEntry, RecordError, UnreadableEntry
from cache_store.keyring import Keyring

MAGIC = b"SVC1"
VERSION = 1
HEADER_BYTES = 64
DTypeName = Literal["uint8", "int16", "int32", "int64", "float32", "float64"]
Array = NDArray[Any]

_HEAD = struct.Struct("<4sHHQ")
_KEY_FIELD = "timbre.key"
_SCHEMA_FIELD = "timbre.schema"


@dataclass(frozen=True, slots=True)
class FieldSpec:
    """One array of a record."""

    name: str
    dtype: DTypeName
    """Element type, little-endian."""
    shape: tuple[int | None, ...]
    """Only the first dimension may be None: any length from `min_rows` on."""
    minimum: float | None = None
    """Inclusive lower bound of every element."""
    maximum: float | None = None
    """Inclusive upper bound of every element."""
    finite: bool = True
    """Refuse NaN and infinities."""
    min_rows: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Record:
    """Arrays by name, with string metadata. Arrays from the cache are read-only."""

    arrays: Mapping[str, Array]
    metadata: Mapping[str, str]

    @property
    def array_bytes(self) -> int:
        return sum(array.nbytes for array in self.arrays.values())


@dataclass(frozen=True)
class RecordSchema:
    """The arrays of one kind of record; `name` and `version` are stored in every record."""

    name: str
    version: int
    fields: tuple[FieldSpec, ...]
    check: Callable[[Record], None] | None = None
    """Raises RecordError when fields contradict each other; runs on writing and on reading."""

    @cached_property
    def tag(self) -> str:
        return f"{self.name}/{self.version}"

    @cached_property
    def arrow(self) -> Any:
        """The exact Arrow schema of a stream, without metadata."""
        pa = _arrow()

        return pa.schema(
            [
                pa.field(
                    spec.name,
                    pa.large_list(
                        pa.field("item", pa.from_numpy_dtype(spec.dtype), nullable=False)
                    ),
                    nullable=False,
                )
                for spec in self.fields
            ]
        )

    def validate(self, record: Record) -> None:
        """Raises RecordError naming the field, the value found and what is allowed."""
        expected = {spec.name for spec in self.fields}
        if set(record.arrays) != expected:
            raise RecordError(f"{self.tag}: arrays {sorted(record.arrays)}, not {sorted(expected)}")
        for spec in self.fields:
            _validate_array(spec, record.arrays[spec.name])
        if self.check is not None:
            self.check(record)


class RecordCodec:
    """Encodes and verifies records of one schema under one keyring; safe from any thread."""

    def __init__(
        self, schema: RecordSchema, keyring: Keyring, *, max_bytes: int = 8 * 2**20
    ) -> None:
        self.schema = schema
        self.max_bytes = max_bytes
        self._keyring = keyring

    def encode(self, record: Record, key: str) -> bytes:
        """The entry for `record` under the hex digest `key`.

        Raises RecordError for a record that `decode` would refuse.
        """
        pa = _arrow()

        self.schema.validate(record)
        metadata = {**record.metadata, _KEY_FIELD: key, _SCHEMA_FIELD: self.schema.tag}
        schema = self.schema.arrow.with_metadata(metadata)
        columns = [_column(record.arrays[spec.name]) for spec in self.schema.fields]
        batch = pa.record_batch(columns, schema=schema)
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, schema) as writer:
            writer.write_batch(batch)
        entry = self.seal(memoryview(sink.getvalue()))
        if len(entry) > self.max_bytes:
            raise RecordError(f"{self.schema.tag}: {len(entry)} bytes, over {self.max_bytes}")
        return entry

    def seal(self, payload: memoryview | bytes) -> bytes:
        """`payload` behind its header."""
        key_id, secret = self._keyring.active
        head = _HEAD.pack(MAGIC, VERSION, 0, len(payload))
        tail = key_id.encode().ljust(16, b"\0")
        return b"".join((head, _mac(secret, head, tail, payload), tail, payload))

    def decode(self, entry: bytes, key: str) -> Record:
        """The record, its arrays read-only views into `entry`.

        Raises UnreadableEntry for a newer version or an unknown key id, CorruptEntry for anything
        else that is not exactly a record of this schema stored under `key`.
        """
        payload = unseal(entry, self._keyring, self.max_bytes)
        try:
            return _parse(payload, self.schema, key)
        except CorruptEntry:
            raise
        except RecordError as error:
            raise CorruptEntry("schema", str(error)) from error
        except Exception as error:  # Arrow raises eleven unrelated types on malformed streams
            raise CorruptEntry("arrow", f"{type(error).__name__}: {error}") from error


@dataclass(frozen=True, slots=True)
class EntryInfo:
    """An entry's own description, after its digest was verified."""

    key: str
    schema: str
    key_id: str
    metadata: Mapping[str, str]
    arrays: Mapping[str, tuple[str, int]]
    """Element type and number of elements of each array."""


def describe(entry: bytes, keyring: Keyring, max_bytes: int) -> EntryInfo:
    """Look at an entry of any schema. Raises UnreadableEntry or CorruptEntry as decode does."""
    payload = unseal(entry, keyring, max_bytes)
    try:
        reader = _arrow().ipc.open_stream(_arrow().py_buffer(payload))
        batch = reader.read_next_batch()
        batch.validate(full=True)
        metadata = _metadata(reader.schema)
        arrays = {
            name: (str(column.values.type), len(column.values))
            for name, column in zip(batch.schema.names, batch.columns, strict=True)
        }
        key, schema = metadata.pop(_KEY_FIELD), metadata.pop(_SCHEMA_FIELD)
    except Exception as error:  # Arrow raises eleven unrelated types on malformed streams
        raise CorruptEntry("arrow", f"{type(error).__name__}: {error}") from error
    key_id = entry[48:64].rstrip(b"\0").decode("ascii", "replace")
    return EntryInfo(key, schema, key_id, metadata, arrays)


def unseal(entry: bytes, keyring: Keyring, max_bytes: int) -> memoryview:
    """The payload of an entry whose header and digest are right; raises as decode does."""
    if len(entry) > max_bytes:
        raise CorruptEntry("size", f"{len(entry)} bytes, over {max_bytes}")
    if len(entry) < HEADER_BYTES:
        raise CorruptEntry("short", f"{len(entry)} bytes")
    view = memoryview(entry)
    magic, version, flags, length = _HEAD.unpack_from(view)
    if magic != MAGIC:
        raise CorruptEntry("magic")
    if version > VERSION:
        raise UnreadableEntry("version", str(version))
    if version != VERSION or flags or length != len(entry) - HEADER_BYTES:
        raise CorruptEntry("header", f"version {version}, flags {flags}, length {length}")
    tail = bytes(view[48:64])
    secret = keyring.secret(tail.rstrip(b"\0").decode("ascii", "replace"))
    if secret is None:
        raise UnreadableEntry("key_id")
    payload = view[HEADER_BYTES:]
    if not hmac.compare_digest(_mac(secret, bytes(view[:16]), tail, payload), view[16:48]):
        raise CorruptEntry("digest")
    return payload


def _arrow() -> Any:
    """pyarrow as Any; imported at first use."""
    return importlib.import_module("pyarrow")


def _mac(secret: bytes, head: bytes, tail: bytes, payload: memoryview | bytes) -> bytes:
    hasher = blake3(key=secret)
    hasher.update(head)
    hasher.update(tail)
    hasher.update(payload)
    return hasher.digest()


def _column(array: Array) -> Any:
    pa = _arrow()
    flat = np.ascontiguousarray(array).reshape(-1)
    offsets = pa.array([0, flat.size], type=pa.int64())
    item = pa.field("item", pa.from_numpy_dtype(flat.dtype), nullable=False)
    return pa.LargeListArray.from_arrays(offsets, pa.array(flat), type=pa.large_list(item))


def _parse(payload: memoryview, schema: RecordSchema, key: str) -> Record:
    pa = _arrow()

    buffer = pa.py_buffer(payload)
    reader = pa.ipc.open_stream(buffer)
    if not reader.schema.equals(schema.arrow, check_metadata=False):
        raise CorruptEntry("schema", str(reader.schema))
    metadata = _metadata(reader.schema)
    if metadata.pop(_SCHEMA_FIELD, None) != schema.tag:
        raise CorruptEntry("schema", "another schema or version")
    if metadata.pop(_KEY_FIELD, None) != key:
        raise CorruptEntry("key", "stored under another key")
    batch = reader.read_next_batch()
    batch.validate(full=True)
    if batch.num_rows != 1:
        raise CorruptEntry("rows", str(batch.num_rows))
    arrays = {
        spec.name: _view(batch.column(i), spec, buffer) for i, spec in enumerate(schema.fields)
    }
    record = Record(MappingProxyType(arrays), MappingProxyType(metadata))
    schema.validate(record)
    return record


def _metadata(schema: Any) -> dict[str, str]:
    stored = cast("Mapping[bytes, bytes]", schema.metadata or {})
    return {name.decode(): value.decode() for name, value in stored.items()}


def _view(column: Any, spec: FieldSpec, payload: Any) -> Array:
    """The column's numbers, read-only and inside `payload` (so they were not compressed)."""
    values = column.values
    start, stop = column.offsets.to_pylist()
    if column.null_count or values.null_count or start != 0 or stop != len(values):
        raise CorruptEntry("layout", spec.name)
    data = values.buffers()[1]
    if data is not None and data.size:
        end = payload.address + payload.size
        if not payload.address <= data.address <= data.address + data.size <= end:
            raise CorruptEntry("compressed", spec.name)
    shape = (-1, *spec.shape[1:]) if spec.shape[0] is None else spec.shape
    # Without a copy, hence read-only.
    array = values.to_numpy(zero_copy_only=True).reshape(cast("tuple[int, ...]", shape))
    return cast("Array", array)


def _validate_array(spec: FieldSpec, array: Array) -> None:
    if array.dtype != np.dtype(spec.dtype):
        raise RecordError(f"{spec.name}: dtype {array.dtype}, not {spec.dtype}")
    rows = array.shape[0] if array.ndim else 0
    wanted = tuple(rows if size is None else size for size in spec.shape)
    if array.shape != wanted or rows < spec.min_rows:
        raise RecordError(
            f"{spec.name}: shape {array.shape}, not {spec.shape} with ≥ {spec.min_rows} rows"
        )
    if not array.size:
        return
    # NaN travels through min and max, so these two numbers answer for every element.
    low, high = float(array.min()), float(array.max())
    if spec.finite and not (np.isfinite(low) and np.isfinite(high)):
        raise RecordError(f"{spec.name}: not finite")
    if (spec.minimum is not None and low < spec.minimum) or (
        spec.maximum is not None and high > spec.maximum
    ):
        allowed = f"{spec.minimum} to {spec.maximum}"
        raise RecordError(f"{spec.name}: values {low} to {high}, allowed {allowed}")
