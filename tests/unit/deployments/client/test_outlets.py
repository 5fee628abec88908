"""Where audio goes: files that are whole or not there, and players that are found."""

from __future__ import annotations

import io
import os
import wave
from pathlib import Path

import numpy as np
import pytest

from deployments.client import players
from deployments.client.log_tail import further_lines, last_lines
from deployments.client.outlets import Outlet, outlet
from deployments.client.players import PLAYERS, found_player
from pipeline.audio.encode import encode_file, make_encoder
from pipeline.errors import SetupError, TimbreError, UnsupportedError

pytestmark = pytest.mark.unit
SAMPLES = np.sin(np.arange(24_000, dtype=np.float32) / 20).astype(np.float32) / 2


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that PATH begins with, and that alone is looked into for players."""
    directory = tmp_path / "bin"
    directory.mkdir()
    monkeypatch.setenv("PATH", f"{directory}{os.pathsep}/bin{os.pathsep}/usr/bin")
    found = players.shutil.which
    monkeypatch.setattr(players.shutil, "which", lambda name: found(name, path=str(directory)))
    return directory


def program(directory: Path, name: str, code: int = 0) -> Path:
    """One that keeps what it hears, from its last argument or from standard input."""
    heard = directory.parent / f"{name}.heard"
    path = directory / name
    path.write_text(
        "#!/bin/sh\nfor last; do :; done\n"
        f'if [ -f "$last" ]; then cat "$last"; else cat; fi > "{heard}"\nexit {code}\n'
    )
    path.chmod(0o755)
    return heard


def stream(audio_format: str) -> bytes:
    encoder = make_encoder(audio_format)
    return encoder.encode(SAMPLES) + encoder.finish()


def test_the_first_player_that_is_here_is_taken(programs: Path):
    with pytest.raises(SetupError, match="no player is on this machine; install one of mpv, "):
        found_player()
    for player in reversed(PLAYERS):
        program(programs, player.program)
        assert found_player() == player


@pytest.mark.parametrize("player", PLAYERS, ids=lambda player: player.program)
@pytest.mark.parametrize("audio_format", ["wav", "mp3"])
def test_a_player_hears_what_is_poured(
    programs: Path, tmp_path: Path, player: players.Player, audio_format: str
):
    heard = program(programs, player.program)
    kept = tmp_path / f"kept.{audio_format}"
    data = stream(audio_format)
    with Outlet(kept, audio_format, player).opened() as poured:
        poured.write(data[:1_000])
        poured.write(data[1_000:])
    assert poured.n_bytes == len(data)
    if audio_format in player.knows and audio_format == "mp3":
        assert heard.read_bytes() == kept.read_bytes() == data
        return
    with wave.open(io.BytesIO(heard.read_bytes())) as file:
        frames = np.frombuffer(file.readframes(30_000), "<i2") / 2**15
        assert file.getframerate() == 24_000
    assert len(frames) >= len(SAMPLES)
    assert np.abs(frames[4_000:20_000]).max() > 0.4


def test_a_player_that_fails_is_told(programs: Path):
    program(programs, "mpv", code=3)
    to = outlet(programs / "kept.wav", None, play=True, as_json=False)
    with pytest.raises(SetupError, match="mpv ended with 3"), to.opened() as poured:
        poured.write(stream("wav"))
    assert (programs / "kept.wav").exists()


def test_a_file_is_whole_or_not_there(tmp_path: Path):
    file = tmp_path / "a.wav"
    file.write_bytes(b"before")

    def break_off() -> None:
        with Outlet(file, "wav").opened() as poured:
            poured.write(b"half")
            raise TimbreError("broken")

    with pytest.raises(TimbreError):
        break_off()
    assert file.read_bytes() == b"before"
    with Outlet(file, "wav").opened() as poured:
        poured.write(stream("wav"))
    assert [one.name for one in tmp_path.iterdir()] == ["a.wav"]
    encode_file(SAMPLES, whole := tmp_path / "whole.wav")
    assert file.read_bytes() == whole.read_bytes()  # with its length


@pytest.mark.parametrize(
    ("file", "audio_format", "play", "as_json", "says"),
    [
        (None, None, False, False, "say where the audio goes"),
        (Path("-"), None, False, True, "leave one out"),
        (Path("x.doc"), None, False, False, "cannot tell an audio format from 'x.doc'"),
        (Path("x"), "mp4", False, False, "allowed are mp3, opus"),
        (Path("x.pcm"), None, True, False, "does not say its rate"),
    ],
)
def test_what_cannot_be_said(programs: Path, file, audio_format, play, as_json, says):
    program(programs, "mpv")
    with pytest.raises(UnsupportedError, match=says):
        outlet(file, audio_format, play=play, as_json=as_json)


@pytest.mark.parametrize(
    ("file", "audio_format"),
    [(Path("-"), "mp3"), (Path("a.OGG"), "opus"), (Path("a.flac"), "flac")],
)
def test_the_format_follows_from_the_file(file: Path, audio_format: str):
    assert outlet(file, None, play=False, as_json=False).audio_format == audio_format


def test_a_log_as_it_grows(tmp_path: Path):
    log = tmp_path / "serve.log"
    log.write_text("one\ntwo\nthr")
    at = log.stat().st_size
    assert last_lines(log, 2) == ["two", "thr"]
    going_on = iter([True, False])

    def is_going_on() -> bool:
        with log.open("a") as file:
            file.write("ee\nfour\n")
        return next(going_on)

    assert list(further_lines(log, is_going_on, at)) == ["ee", "four", "ee", "four"]
