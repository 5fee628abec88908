"""Maintenance and its commands: what is listed, collected, verified, moved; exit codes and JSON."""

from __future__ import annotations

import io
import json
import os
import tarfile
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from typer.testing import CliRunner

from cache_store import maintenance
from cache_store.aliases import Alias
from cache_store.cli import app
from cache_store.codec import RecordCodec
from cache_store.erasing import ClipEraser
from cache_store.keyring import Keyring
from cache_store.keys import AliasKey, ClipKey, SpeechKey, VoiceKey, parse_path, raw_key
from cache_store.local_store import LocalStore
from cache_store.maintenance import DAY_S, HOUR_S, Filter, GcPolicy
from cache_store.notes import note_path
from cache_store.opening import open_cache
from cache_store.settings import MIB, CacheSettings
from cache_store.workplace import open_workplace
from tests.cache_helpers import FINGERPRINT, SCHEMA, make_key, make_record

pytestmark = pytest.mark.unit

OTHER = "cd" * 32


@pytest.fixture
def store(tmp_path):
    return LocalStore(tmp_path / "store")


@pytest.fixture
def run(tmp_path):
    def invoke(*args: str, code: int = 0):
        os.environ.pop("TIMBRE_CONFIG", None)
        result = CliRunner().invoke(app, [*args, "--url", str(tmp_path / "store")])
        assert result.exit_code == code, result.output
        return json.loads(result.stdout) if "--json" in args else result.output

    return invoke


def add(store, key, *, age_s: float = 0.0, seconds: float = 0.2) -> str:
    data = RecordCodec(SCHEMA, Keyring()).encode(make_record(seconds=seconds), key.digest)
    store.create(key.path, data)
    file = store._root / key.path
    os.utime(file, (time.time() - age_s,) * 2)
    return key.path


def voice(name: str, fingerprint: str = FINGERPRINT, namespace: str = "shared") -> VoiceKey:
    return VoiceKey(namespace, make_key(name).clip_digest, fingerprint)


def test_paths_parse_back():
    key = voice("a", namespace="team-1")
    parsed = parse_path(key.path)
    assert (parsed.kind, parsed.namespace, parsed.digest) == ("voice", "team-1", key.digest)
    alias = AliasKey("shared", "ab" * 32, "cd" * 32)
    assert parse_path(alias.path).kind == "alias"
    for other in ("v1/.probe", "tmp/x", "v1/zz/shared/00/x.sva", key.path + ".part"):
        assert parse_path(other) is None


def test_reading_marks_a_file_as_used_once_a_day(store):
    path = add(store, voice("a"), age_s=3 * DAY_S)
    recent = add(store, voice("b"), age_s=3 * HOUR_S)
    store.get(path, 10)
    store.get(recent, 10)
    ages_s = {b.path: time.time() - b.modified_unix_s for b in store.list("v1")}
    assert ages_s[path] < 60
    assert ages_s[recent] > 2 * HOUR_S


def test_the_collector_takes_the_longest_unused_down_to_its_low_water(store):
    paths = [add(store, voice(str(i)), age_s=(100 - i) * HOUR_S) for i in range(10)]
    size = next(store.list("v1")).size_bytes
    candidates = maintenance.plan_collection(store, GcPolicy(max_bytes=9 * size))
    assert [one.blob.path for one in candidates] == paths[:3]  # 10 → 7 ≤ 0.8 × 9
    assert {one.reason for one in candidates} == {"bytes"}
    assert maintenance.plan_collection(store, GcPolicy(max_bytes=10 * size)) == []
    assert maintenance.collect(store, candidates) == (3, 3 * size, 0)
    assert {b.path for b in store.list("v1")} == set(paths[3:])


def test_young_entries_stay_whatever_the_budget(store):
    for i in range(5):
        add(store, voice(str(i)), age_s=60)
    assert maintenance.plan_collection(store, GcPolicy(max_bytes=1, max_age_s=1)) == []


def test_age_and_dead_encoders(store):
    add(store, voice("fresh"), age_s=2 * DAY_S)
    old = add(store, voice("old"), age_s=40 * DAY_S)
    dead = add(store, voice("dead", OTHER), age_s=20 * DAY_S)
    add(store, voice("dying", OTHER), age_s=10 * DAY_S)
    policy = GcPolicy(max_age_s=30 * DAY_S, keep_fingerprints=(FINGERPRINT,))
    candidates = maintenance.plan_collection(store, policy)
    assert {(one.blob.path, one.reason) for one in candidates} == {
        (old, "age"),
        (dead, "fingerprint"),
    }


def test_orphans_are_collected_after_a_day(store):
    for name, age_s in (("tmp/1-a", 2 * DAY_S), ("tmp/1-b", 60), ("quarantine/x", 2 * DAY_S)):
        file = store._root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"x")
        os.utime(file, (time.time() - age_s,) * 2)
    candidates = maintenance.plan_collection(store, GcPolicy())
    assert {one.blob.path for one in candidates} == {"tmp/1-a", "quarantine/x"}


def test_a_note_lives_as_long_as_its_alias(store):
    clips = {name: make_key(name).clip_digest for name in ("kept", "gone")}
    for name, clip in clips.items():
        key = AliasKey("shared", raw_key(name.encode()), "01" * 32).leading_to(clip)
        store.create(note_path(key), b"")
        os.utime(store._root / note_path(key), (time.time() - 40 * DAY_S,) * 2)
        if name == "kept":
            add(store, key, age_s=2 * DAY_S)
    candidates = maintenance.plan_collection(store, GcPolicy(max_age_s=30 * DAY_S))
    assert [clips["gone"] in one.blob.path for one in candidates] == [True]


def test_gc_changes_nothing_without_apply(store, run):
    add(store, voice("old"), age_s=40 * DAY_S)
    shown = run("gc", "--max-age-days", "30", "--json")
    assert shown["reasons"]["age"]["objects"] == 1
    assert not shown["applied"]
    assert len(list(store.list("v1"))) == 1
    assert "would go" in run("gc", "--max-age-days", "30")
    assert run("gc", "--max-age-days", "30", "--apply", "--json")["applied"]
    assert list(store.list("v1")) == []


def test_sizes(store, run):
    add(store, voice("a"), age_s=40 * DAY_S)
    assert run("gc", "--max-bytes", "1KiB", "--json")["reasons"]["bytes"]["objects"] == 1
    assert run("gc", "--max-bytes", "1.5 MB", "--json")["reasons"] == {}
    assert "no size" in run("gc", "--max-bytes", "lots", code=2)


def test_stats_and_ls(store, run):
    add(store, voice("a"))
    add(store, voice("b", namespace="team-1"))
    add(store, voice("c", OTHER))
    shown = run("stats", "--json")
    assert shown["entries"] == 3
    assert len(shown["groups"]) == 3
    assert shown["bytes"] == sum(group["bytes"] for group in shown["groups"])
    assert [row["namespace"] for row in run("ls", "--namespace", "team-1", "--json")] == ["team-1"]
    assert len(run("ls", "--fingerprint", OTHER, "--json")) == 1
    assert len(run("ls", "--limit", "2", "--json")) == 2
    assert "3 entries" in run("stats")
    assert voice("a").digest in run("ls")


def test_inspect(store, run):
    path = add(store, voice("a"))
    shown = run("inspect", voice("a").digest[:12], "--json")
    assert shown["key"] == voice("a").digest
    assert shown["arrays"]["speaker_embedding"] == ["float", 192]
    assert "speaker_embedding: 192" in run("inspect", str(store._root / path))
    assert "no entry" in run("inspect", "ff" * 20, code=2)
    (store._root / path).write_bytes(b"garbage" * 20)
    assert "magic" in run("inspect", voice("a").digest, code=1)


def test_verify_finds_damage_and_swapped_objects(store, run):
    add(store, voice("good"))
    damaged = store._root / add(store, voice("damaged"))
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"\xff")
    store.create(voice("swapped").path, (store._root / voice("good").path).read_bytes())
    shown = run("verify", "--json", code=1)
    assert (shown["good"], shown["corrupt"]) == (1, 2)
    assert run("verify", "--repair", "--json")["corrupt"] == 2
    assert run("verify", "--json")["corrupt"] == 0
    assert store.create(voice("damaged").path, b"free again")


def test_states_of_the_vocoder_are_not_damaged_because_they_are_large(store, run):
    key = voice("long")
    record = make_record(seconds=560)
    codec = RecordCodec(SCHEMA, Keyring(), max_bytes=16 * MIB)
    data = codec.encode(record, key.digest)
    assert CacheSettings().max_record_bytes < len(data) < CacheSettings().max_state_bytes
    store.create(key.path, data)
    assert run("verify", "--json")["good"] == 1


def test_verify_leaves_what_others_sealed(store, run):
    key = voice("theirs")
    theirs = RecordCodec(SCHEMA, Keyring({"k9": "quite another secret"}))
    store.create(key.path, theirs.encode(make_record(), key.digest))
    shown = run("verify", "--repair", "--json")
    assert shown["unreadable"] == 1
    assert len(list(store.list("v1"))) == 1


def test_rm(store, run):
    for name in ("a", "b"):
        add(store, voice(name))
    add(store, voice("c", namespace="team-1"))
    assert run("rm", voice("a").digest, "--yes", "--json") == {"removed": 1}
    assert run("rm", "--namespace", "team-1", "--yes", "--json") == {"removed": 1}
    assert "say what" in run("rm", "--yes", code=2)
    run("rm", voice("b").digest, code=1)  # nobody answered the question
    assert [stored.path.digest for stored in maintenance.scan(store)] == [voice("b").digest]


def test_export_and_import(store, run, tmp_path):
    for name in ("a", "b"):
        add(store, voice(name))
    archive = tmp_path / "voices.tar"
    assert run("export", str(archive), "--json") == {"exported": 2}
    run("rm", voice("a").digest, "--yes")
    shown = run("import", str(archive), "--json")
    assert shown == {"imported": 1, "known": 1, "refused": 0}
    assert run("verify", "--json")["good"] == 2


async def test_an_imported_alias_is_removed_with_its_clip(store, run, tmp_path):
    key, clip = AliasKey("shared", "ab" * 32, "cd" * 32), ClipKey("shared", make_key().clip_digest)
    settings = CacheSettings(url=str(tmp_path / "elsewhere"))
    cache = open_cache(settings, SCHEMA)
    cache.publish_alias(key, Alias(clip.clip_digest, 1.0))
    await cache.close()
    elsewhere, archive = LocalStore(tmp_path / "elsewhere"), tmp_path / "aliases.tar"
    maintenance.export_entries(elsewhere, maintenance.scan(elsewhere), archive, 10**6)
    assert run("import", str(archive), "--json") == {"imported": 1, "known": 0, "refused": 0}
    ClipEraser(store, Keyring(), 10**6).erase(clip)
    assert list(store.list("")) == []


def test_import_refuses_what_is_not_a_good_entry(store, run, tmp_path):
    archive = tmp_path / "bad.tar"
    good = RecordCodec(SCHEMA, Keyring()).encode(make_record(), voice("a").digest)
    with tarfile.open(archive, "w") as tar:
        for name, data in (
            ("../../etc/passwd", good),
            (voice("b").path, good),
            (voice("a").path, good[:-1]),
        ):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    assert run("import", str(archive), "--json", code=1)["refused"] == 3
    assert list(store.list("")) == []


def test_doctor(store, run):
    findings = {finding["step"]: finding for finding in run("doctor", "--json")}
    assert all(f["is_good"] for step, f in findings.items() if step != "sealing key")
    assert not findings["sealing key"]["is_good"]
    assert list(store.list("v1")) == []
    (store._root).chmod(0o500)
    assert "LOOK reach it" not in run("doctor") or os.geteuid() == 0
    (store._root).chmod(0o700)


def test_doctor_sees_a_store_that_overwrites(store, monkeypatch):
    def overwrite(path: str, data: bytes) -> bool:
        file = store._root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
        return True

    monkeypatch.setattr(store, "create", overwrite)
    findings = {f.step: f for f in maintenance.examine(store, Keyring())}
    assert not findings["create only"].is_good


def test_settings_come_from_a_serve_config(store, tmp_path):
    add(store, voice("a"))
    config = tmp_path / "serve.yaml"
    config.write_text(
        f"applications: [{{name: x, args: {{cache: {{url: {tmp_path / 'store'}}}}}}}]"
    )
    result = CliRunner().invoke(app, ["stats", "--config", str(config), "--json"])
    assert json.loads(result.stdout)["entries"] == 1
    config.write_text("applications: [{name: x, args: {cache: {urll: x}}}]")
    result = CliRunner().invoke(app, ["stats", "--config", str(config)])
    assert result.exit_code == 2
    assert "urll" in result.output


def test_a_dead_store_is_one_line():
    environment = {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
    }
    result = CliRunner().invoke(app, ["stats", "--url", "s3://voices/x"], env=environment)
    assert result.exit_code == 5
    assert isinstance(result.exception, SystemExit)
    assert "127.0.0.1:9" in result.stderr


class Service(BaseHTTPRequestHandler):
    """Stands for a running service: accepts a clip unless it says no."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        is_good = body != b"no"
        self.send_response(200 if is_good else 400)
        self.end_headers()
        reply = {"tier": "miss", "is_durable": True} if is_good else {"error": {"message": "bad"}}
        self.wfile.write(json.dumps(reply).encode())

    def log_message(self, *_):
        pass


def test_warm_posts_every_clip(tmp_path):
    for name, content in (("a.wav", b"yes"), ("sub/b.wav", b"no")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    with HTTPServer(("127.0.0.1", 0), Service) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        result = CliRunner().invoke(app, ["warm", str(tmp_path), "--server", url, "--json"])
        one = CliRunner().invoke(app, ["warm", str(tmp_path / "a.wav"), "--server", url])
        server.shutdown()
    assert result.exit_code == 1
    good, bad = json.loads(result.stdout)
    assert good["is_durable"]
    assert "bad" in bad["error"]
    assert one.exit_code == 0


def test_warm_reaches_this_machine_past_a_proxy(tmp_path, monkeypatch):
    (tmp_path / "a.wav").write_bytes(b"yes")
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with HTTPServer(("127.0.0.1", 0), Service) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for host in ("127.0.0.1", "localhost"):
            url = f"http://{host}:{server.server_port}"
            result = CliRunner().invoke(app, ["warm", str(tmp_path), "--server", url])
            assert result.exit_code == 0, result.output
        server.shutdown()


def test_filters():
    path = parse_path(voice("a").path)
    assert Filter().matches(path)
    assert Filter("voice", "shared", FINGERPRINT).matches(path)
    assert Filter(fingerprint=FINGERPRINT[:4]).matches(path)
    assert not Filter("alias").matches(path)
    assert not Filter(namespace="other").matches(path)
    assert not Filter(fingerprint=OTHER).matches(path)


def test_the_store_of_speech_lies_below_that_of_voices(run, tmp_path):
    spoken = SpeechKey(voice("a"), "clone", "", "One.", "", (("seed", "7"),), "ab" * 32)
    store = LocalStore(tmp_path / "store" / "speech")
    add(store, spoken, age_s=40 * DAY_S)
    assert "0 entries" in run("stats")
    shown = run("stats", "--speech", "--json")
    assert shown["url"].endswith("/speech")
    (group,) = shown["groups"]
    assert (group["kind"], group["fingerprint"]) == ("speech", "ab" * 8)
    assert spoken.digest in run("ls", "--speech")
    assert run("verify", "--speech", "--json")["good"] == 1
    os.utime(store._root / spoken.path, (0, 0))  # looking at it was a use
    assert "1 objects" in run("gc", "--speech", "--keep-fingerprint", "cd" * 32, "--apply")
    assert "0 entries" in run("stats", "--speech")


def test_a_serve_config_may_say_how_large_speech_may_be(tmp_path):
    config = tmp_path / "serve.yaml"
    args = {"cache": {"url": str(tmp_path)}, "speech_cache": {"max_record_bytes": 70_000}}
    config.write_text(json.dumps({"applications": [{"args": args}]}))
    place = open_workplace(config, None, is_speech=True)
    assert place.settings.max_record_bytes == 70_000
    assert place.settings.url == f"{tmp_path}/speech"


def test_copy(store, run, tmp_path):
    add(store, voice("a"))
    words = ("copy", "--to", str(tmp_path / "other"), "--json")
    first = run(*words)
    assert (first["copied"], first["known"]) == (1, 0)
    assert run(*words) == {"copied": 0, "known": 1, "copied_bytes": 0}
