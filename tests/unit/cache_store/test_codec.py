"""Entries: round trip, exactness, and no wrong answer from damaged, forged or foreign bytes."""

from __future__ import annotations

import struct

import numpy as np
import pyarrow as pa
import pytest
from blake3 import blake3

from cache_store.codec import HEADER_BYTES, FieldSpec, Record, RecordCodec, RecordSchema
from cache_store.errors import CorruptEntry, EntryError, RecordError, UnreadableEntry
from cache_store.keyring import Keyring
from tests.cache_helpers import SCHEMA, make_record, same

pytestmark = pytest.mark.unit

KEY = "12" * 32
SECRETS = {"k1": "a secret of length", "k0": "an older secret ...."}


@pytest.fixture(scope="module")
def codec() -> RecordCodec:
    return RecordCodec(SCHEMA, Keyring(SECRETS))


def test_round_trip(codec):
    record = make_record(seconds=10)
    entry = codec.encode(record, KEY)
    back = codec.decode(entry, KEY)
    assert same(record, back)
    assert back.metadata == {"duration_s": "10"}
    assert [a.dtype for a in back.arrays.values()] == [np.int16, np.int16, np.float32, np.float32]
    assert len(entry) <= 1.02 * record.array_bytes


def test_arrays_are_read_only_views_of_the_entry(codec):
    entry = codec.encode(make_record(), KEY)
    start = np.frombuffer(entry, np.uint8).ctypes.data
    for array in codec.decode(entry, KEY).arrays.values():
        assert start <= array.ctypes.data < start + len(entry)
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0
        with pytest.raises(ValueError, match="WRITEABLE"):
            array.flags.writeable = True


def test_metadata_is_read_only(codec):
    back = codec.decode(codec.encode(make_record(), KEY), KEY)
    with pytest.raises(TypeError):
        back.metadata["duration_s"] = "2"
    with pytest.raises(TypeError):
        back.arrays["vq02"] = np.zeros(1)


def test_non_contiguous_and_big_arrays_encode(codec):
    record = make_record()
    strided = dict(record.arrays)
    strided["prompt_mel"] = np.asfortranarray(record.arrays["prompt_mel"])
    assert same(record, codec.decode(codec.encode(Record(strided, {}), KEY), KEY))


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("vq02", np.array([1024], np.int16), "values 1024"),
        ("vq02", np.array([-1], np.int16), "values -1"),
        ("vq02", np.array([], np.int16), "≥ 1 rows"),
        ("vq06", np.array([1], np.int32), "dtype int32"),
        ("prompt_mel", np.zeros((3, 81), np.float32), "shape"),
        ("prompt_mel", np.array([[np.nan] * 80], np.float32), "not finite"),
        ("prompt_mel", np.array([[-np.inf] * 80], np.float32), "not finite"),
        ("speaker_embedding", np.zeros(191, np.float32), "shape"),
    ],
)
def test_a_record_outside_its_schema_is_neither_written_nor_read(codec, name, value, says):
    record = make_record()
    bad = Record({**record.arrays, name: value}, {})
    with pytest.raises(RecordError, match=says):
        codec.encode(bad, KEY)
    # a writer with the right keys but without the checks
    loose_fields = tuple(
        FieldSpec(f.name, str(bad.arrays[f.name].dtype), bad.arrays[f.name].shape, finite=False)
        for f in SCHEMA.fields
    )
    loose = RecordCodec(RecordSchema("voice", 1, loose_fields), Keyring(SECRETS))
    with pytest.raises(CorruptEntry):
        codec.decode(loose.encode(bad, KEY), KEY)


def test_missing_and_extra_arrays_are_refused(codec):
    record = make_record()
    with pytest.raises(RecordError, match="extra"):
        codec.encode(Record({**record.arrays, "extra": np.zeros(1)}, {}), KEY)
    with pytest.raises(RecordError, match="vq06"):
        codec.encode(Record({"vq02": record.arrays["vq02"]}, {}), KEY)


def test_the_schemas_own_check_runs_both_ways():
    def check(record: Record) -> None:
        if len(record.arrays["a"]) != len(record.arrays["b"]):
            raise RecordError("a and b differ in length")

    fields = (FieldSpec("a", "int16", (None,)), FieldSpec("b", "int16", (None,)))
    strict = RecordCodec(RecordSchema("pair", 1, fields, check), Keyring())
    loose = RecordCodec(RecordSchema("pair", 1, fields), Keyring())
    bad = Record({"a": np.zeros(2, np.int16), "b": np.zeros(3, np.int16)}, {})
    with pytest.raises(RecordError, match="differ"):
        strict.encode(bad, KEY)
    with pytest.raises(CorruptEntry, match="differ"):
        strict.decode(loose.encode(bad, KEY), KEY)


def test_another_key_schema_or_schema_version_is_corrupt(codec):
    entry = codec.encode(make_record(), KEY)
    with pytest.raises(CorruptEntry, match="another key"):
        codec.decode(entry, "34" * 32)
    newer = RecordCodec(RecordSchema("voice", 2, SCHEMA.fields), Keyring(SECRETS))
    with pytest.raises(CorruptEntry, match="another schema"):
        newer.decode(entry, KEY)
    other = RecordCodec(RecordSchema("voice", 1, SCHEMA.fields[:3]), Keyring(SECRETS))
    with pytest.raises(CorruptEntry, match="schema"):
        other.decode(entry, KEY)


def test_a_newer_version_or_unknown_key_id_is_left_alone(codec):
    entry = codec.encode(make_record(), KEY)
    newer = entry[:4] + struct.pack("<H", 2) + entry[6:]
    with pytest.raises(UnreadableEntry, match="version"):
        codec.decode(newer, KEY)
    with pytest.raises(UnreadableEntry, match="key_id"):
        RecordCodec(SCHEMA, Keyring({"k9": "quite another secret"})).decode(entry, KEY)


def test_keys_rotate(codec):
    old = RecordCodec(SCHEMA, Keyring({"k0": SECRETS["k0"]})).encode(make_record(), KEY)
    assert same(make_record(), codec.decode(old, KEY))
    assert codec.encode(make_record(), KEY)[48:64] == b"k1".ljust(16, b"\0")


def test_a_record_without_the_secret_is_not_accepted(codec):
    """Neither under the public key of caches that have no secret, nor under a stolen key id."""
    with pytest.raises(UnreadableEntry):
        codec.decode(RecordCodec(SCHEMA, Keyring()).encode(make_record(), KEY), KEY)
    thief = RecordCodec(SCHEMA, Keyring({"k1": "a guess at the secret"}))
    with pytest.raises(CorruptEntry, match="digest"):
        codec.decode(thief.encode(make_record(), KEY), KEY)


def test_sizes_are_bounded(codec):
    small = RecordCodec(SCHEMA, Keyring(SECRETS), max_bytes=4096)
    with pytest.raises(RecordError, match="over 4096"):
        small.encode(make_record(), KEY)
    with pytest.raises(CorruptEntry, match="over 4096"):
        small.decode(codec.encode(make_record(), KEY), KEY)


@pytest.mark.parametrize("compression", ["zstd", "lz4"])
def test_a_compressed_stream_is_refused_even_when_sealed(codec, compression):
    entry = codec.encode(make_record(), KEY)
    reader = pa.ipc.open_stream(entry[HEADER_BYTES:])
    batch = reader.read_next_batch()
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.ipc.new_stream(sink, batch.schema, options=options) as writer:
        writer.write_batch(batch)
    with pytest.raises(CorruptEntry, match="compressed"):
        codec.decode(codec.seal(sink.getvalue().to_pybytes()), KEY)


def mutants(entry: bytes, count: int):
    """Bit flips, byte runs, truncations, extensions, and copies of one part over another."""
    rng = np.random.default_rng(7)
    for index in range(count):
        data = bytearray(entry)
        at, other = (int(x) for x in rng.integers(0, len(data), 2))
        if rng.random() < 0.2:
            at = int(rng.integers(0, HEADER_BYTES))
        match index % 5:
            case 0:
                data[at] ^= 1 << int(rng.integers(8))
            case 1:
                data[at : at + 8] = rng.bytes(min(8, len(data) - at))
            case 2:
                del data[at:]
            case 3:
                data += rng.bytes(1 + at % 64)
            case _:
                size = 1 + at % 64
                data[at : at + size] = data[other : other + size]
        if data != entry:
            yield bytes(data)


@pytest.mark.slow
def test_no_mutant_is_accepted(codec):
    entry = codec.encode(make_record(seconds=0.2), KEY)
    tried = 0
    for mutant in mutants(entry, 20_000):
        tried += 1
        with pytest.raises(EntryError):
            codec.decode(mutant, KEY)
    assert tried > 19_000


def test_the_parser_survives_sealed_garbage(codec):
    """Damage before sealing: the parser must refuse it, or give a record of the schema."""
    payload = codec.encode(make_record(seconds=0.2), KEY)[HEADER_BYTES:]
    accepted = 0
    for mutant in mutants(payload, 3_000):
        try:
            record = codec.decode(codec.seal(mutant), KEY)
        except EntryError:
            continue
        accepted += 1
        SCHEMA.validate(record)
    assert accepted < 2_500  # changes of plain numbers pass, changes of structure must not


def test_the_digest_covers_the_header(codec):
    entry = bytearray(codec.encode(make_record(), KEY))
    secret = Keyring(SECRETS).secret("k1")
    body, tail = bytes(entry[HEADER_BYTES:]), bytes(entry[48:HEADER_BYTES])
    for covered in (body, tail + body):
        entry[16:48] = blake3(covered, key=secret).digest()
        with pytest.raises(CorruptEntry, match="digest"):
            codec.decode(bytes(entry), KEY)


def test_keyring_sources(tmp_path, monkeypatch):
    file = tmp_path / "keys"
    file.write_text("k2: a secret in a file \nk1:a secret of length\n")
    assert Keyring.load(file=str(file)).active[0] == "k2"
    monkeypatch.setenv("CACHE_KEYS", "k3:a secret of sixteen,k1:a secret of length")
    ring = Keyring.load(env="CACHE_KEYS")
    assert ring.active[0] == "k3"
    assert ring.secret("k1") == Keyring(SECRETS).secret("k1")
    assert not Keyring.load().is_secret
    monkeypatch.setenv("CACHE_KEYS", "")
    with pytest.raises(ValueError, match="CACHE_KEYS"):
        Keyring.load(env="CACHE_KEYS")
    with pytest.raises(ValueError, match="shorter than 16"):
        Keyring({"k": "short"})
    with pytest.raises(ValueError, match="key id"):
        Keyring({"a key id that is too long": "a secret of length"})
