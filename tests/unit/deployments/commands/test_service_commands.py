"""Commands that ask a service, against the real application behind a port, its stages fakes."""

from __future__ import annotations

import io
import json
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from deployments.cli import app
from deployments.http.routes import jobs
from pipeline.cli import Exit
from pipeline.errors import CapacityError, StageError
from pipeline.voice_list import load_voices
from tests.http_app import CLIP, SAID
from tests.served_app import ADMIN_KEY, Served, served

pytestmark = [pytest.mark.unit, pytest.mark.slow, pytest.mark.timeout(60)]
BRUNO = load_voices()["bruno"]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("served")) as one:
        yield one


@pytest.fixture(autouse=True)
def _environment(service: Served, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TIMBRE_URL", service.url)
    monkeypatch.setenv("TIMBRE_API_KEY", ADMIN_KEY)
    monkeypatch.setattr(jobs, "FOLLOW_S", 0.05)
    monkeypatch.chdir(tmp_path)


def run(*words: str, code: Exit = Exit.DONE, stdin: bytes | None = None) -> Result:
    done = CliRunner().invoke(app, list(words), input=stdin)
    assert done.exit_code == code, done.output
    return done


def document(*words: str, **more: Any) -> Any:
    return json.loads(run(*words, "--json", **more).stdout)


def frames(data: bytes) -> int:
    with wave.open(io.BytesIO(data)) as file:
        assert file.getframerate() == 24_000
        return file.getnframes()


def test_say_writes_a_file_and_says_what_came(tmp_path: Path):
    told = document("say", "Hello.", "-v", "bruno", "-o", "a.wav", "--seed", "3", "--stage-times")
    assert (told["output"], told["format"]) == ("a.wav", "wav")
    assert told["bytes"] == (tmp_path / "a.wav").stat().st_size
    assert frames((tmp_path / "a.wav").read_bytes()) > 1_000
    assert "tokenizer=" in told["stages"]
    again = document("say", "Hello.", "-v", "bruno", "-o", "b.wav", "--seed", "3")
    assert again["cache"].startswith("speech-")
    assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.wav", "b.wav"]


def test_say_reads_and_writes_pipes():
    done = run("say", "-", "-v", str(BRUNO.path), "--voice-text", BRUNO.transcript,
               "-o", "-", "--format", "wav", stdin=b"Hello from a pipe.")  # fmt: skip
    assert frames(done.stdout_bytes) > 1_000
    assert done.stderr == ""


def test_a_long_text_is_poured_into_a_wav_that_knows_its_length(service: Served, tmp_path: Path):
    text = "It was only the wind. " * 200
    (tmp_path / "text.txt").write_text(text)
    run("say", "-", "-v", "bruno", "-o", "long.wav", stdin=text.encode())
    data = (tmp_path / "long.wav").read_bytes()
    assert frames(data) * 2 + 44 == len(data)


def test_a_chain_of_edits_and_its_undoing(service: Served):
    chain = ("clone:So you forgot. Never mind.", "emotion:happy*2", "denoise")
    made = document("edit", *chain, "-v", "bruno", "--seed", "7", "-o", "c.mp3")
    assert made["edit"].startswith("edit_")
    assert len(made["steps"].split(", ")) == 3
    other = document("edit", "style:whisper", "--from", f"{made['edit']}@2", "-o", "d.mp3")
    assert other["edit"] != made["edit"]
    wrong = run("edit", "emotion:hapy", "-v", "bruno", "-o", "e.mp3", code=Exit.WRONG)
    assert wrong.stderr.startswith("timbre: steps.0.value: emotion has no value 'hapy'; allowed: ")
    twice = run("edit", "denoise", "-v", "bruno", "-a", "x", "-o", "e.mp3", code=Exit.WRONG)
    assert "one of --audio, --voice, --from" in twice.stderr
    assert not Path("e.mp3").exists()


def test_a_voices_life(tmp_path: Path):
    (tmp_path / "zoe.wav").write_bytes(CLIP)
    said = ("--name", "Zoe", "--transcript", SAID, "--consent", "I agree, says Zoe.")
    made = document("voices", "add", "zoe.wav", *said)
    assert "Zoe" in run("voices", "list").stdout
    shown = run("voices", "show", "Zoe").stdout
    assert shown.splitlines()[0] == f"Zoe  {made['id']}"
    assert document("voices", "change", "Zoe", "--name", "Zo e?")["name"] == "Zo e?"
    document("say", "Hello.", "-v", made["id"], "-o", "zoe.mp3")
    run("voices", "rm", "Zo e?")
    assert document("voices", "list", "--deleted")["data"][0]["id"] == made["id"]
    assert document("voices", "restore", made["id"])["id"] == made["id"]
    assert run("voices", "show", "nobody", code=Exit.WRONG).stderr.startswith("timbre: ")
    refused = run("voices", "add", "zoe.wav", "--name", "Ann", code=Exit.WRONG)
    assert "consent" in refused.stderr


def test_a_consent_that_is_recorded(tmp_path: Path):
    (tmp_path / "zoe.wav").write_bytes(CLIP)
    said = ("--name", "Ann", "--transcript", SAID, "--recording", "zoe.wav", "--language", "en")
    assert document("voices", "add", "zoe.wav", *said)["consent"].startswith("cons_")


def test_a_job_from_its_file_to_its_results(tmp_path: Path):
    (tmp_path / "talk.csv").write_text("text,voice\nDid you hear that?,aria\nOnly wind.,bruno\n")
    made = document("jobs", "submit", "talk.csv", "--label", "one", "--seed", "7", "-o", "talk.mp3")
    assert (made["status"], made["label"], made["progress"]["done"]) == ("completed", "one", 2)
    job = made["id"]
    assert job in run("jobs", "list").stdout
    assert document("jobs", "watch", job)["status"] == "completed"
    files = ("-o", "again.mp3", "--subtitles", "talk.srt", "--manifest", "talk.json")
    assert set(document("jobs", "fetch", job, *files)["files"]) == {files[1], files[3], files[5]}
    assert (tmp_path / "again.mp3").read_bytes() == (tmp_path / "talk.mp3").read_bytes()
    assert "Only wind." in (tmp_path / "talk.srt").read_text()
    manifest = json.loads((tmp_path / "talk.json").read_text())
    assert manifest["segments"]
    assert json.loads(run("jobs", "fetch", job, "--manifest", "-").stdout) == manifest
    body = json.dumps({"inputs": [{"text": f"Number {n}."} for n in range(200)]}).encode()
    cancelled = document("jobs", "submit", "-", "-v", "bruno", stdin=body)["id"]
    run("jobs", "cancel", cancelled)
    assert document("jobs", "watch", cancelled, code=Exit.NO)["status"] == "cancelled"
    run("jobs", "rm", cancelled)
    gone = run("jobs", "show", cancelled, code=Exit.WRONG)
    assert gone.stderr.count("\n") == 1


def test_a_short_measurement():
    told = document("bench", "--calls", "4", "--clients", "2")
    assert (told["calls"], told["answered"], told["failed"]) == (4, 4, 0)
    assert 0 < told["first_audio_s"]["p50"] <= told["whole_s"]["p95"]
    assert "first audio, p50" in run("bench", "--calls", "1", "--clients", "1").stdout


def test_status(service: Served):
    told = document("status")
    assert told == {"running": True, "ready": True, "url": service.url, "stages": {}}


@pytest.mark.parametrize("key", ["", "tk_wrong"])
def test_a_key_that_does_not_count(monkeypatch: pytest.MonkeyPatch, key: str):
    monkeypatch.setenv("TIMBRE_API_KEY", key)
    told = run("say", "Hello.", "-o", "x.mp3", code=Exit.KEY)
    assert (told.stdout, told.stderr.count("\n")) == ("", 1)
    assert "set TIMBRE_API_KEY (or --api-key)" in told.stderr
    assert not Path("x.mp3").exists()


@pytest.mark.parametrize(
    ("error", "code"),
    [(CapacityError("full", retry_after_s=3.0), Exit.FULL), (StageError("broken"), Exit.AWAY)],
)
def test_a_service_that_cannot(
    service: Served, monkeypatch: pytest.MonkeyPatch, error: Exception, code: Exit
):
    speaker: Any = service.app.speaker
    monkeypatch.setattr(speaker, "error", error)
    monkeypatch.setattr(speaker, "n_chunks", 1)
    told = run("say", f"Never before: {code}.", "-v", "bruno", "-o", "x.mp3", code=code)
    assert told.stderr.startswith(f"timbre: {error}")
    assert not list(Path().iterdir())


def test_a_reply_that_breaks_off_leaves_no_file(service: Served, monkeypatch: pytest.MonkeyPatch):
    speaker: Any = service.app.speaker
    monkeypatch.setattr(speaker, "error", StageError("broken"))
    text = "It was only the wind that you heard. " * 150
    told = run("say", "-", "-v", "bruno", "-o", "x.wav", code=Exit.AWAY, stdin=text.encode())
    assert told.stderr.count("\n") == 1
    assert not list(Path().iterdir())
