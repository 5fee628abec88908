"""`timbre say` and the cache that it shares with the service."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from deployments.cli import app
from pipeline.errors import StageError
from pipeline.stepaudio.tokenizer import voice_encoder
from pipeline.stepaudio.vocoder.model import VocoderModel
from pipeline.voice_list import load_voices
from tests.conftest import ROOT

pytestmark = pytest.mark.unit
BRUNO = load_voices()["bruno"]


def config(directory: Path, url: str) -> Path:
    """The shipped one with its voices elsewhere."""
    document = yaml.safe_load((ROOT / "serve_config.cpu.yaml").read_text())
    document["applications"][0]["args"]["cache"]["url"] = url
    path = directory / "serve config.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def say(output: Path, config_path: Path, text: str = "Hello.") -> str:
    reference = ("--voice", str(BRUNO.path), "--voice-text", BRUNO.transcript)
    options = ("--config", str(config_path), "--stage-times", "-o", str(output))
    said = CliRunner().invoke(app, ["say", text, *reference, *options], catch_exceptions=False)
    assert said.exit_code == 0, said.output
    return said.stdout


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The config of a cache in which `say` kept a voice and its state; beside it what it said."""
    directory = tmp_path_factory.mktemp("first")
    path = config(directory, str(directory / "voices"))
    assert "(miss)" in say(directory / "first.wav", path)
    return path


@pytest.mark.slow
def test_a_second_say_finds_the_voice_and_its_state_and_sounds_the_same(
    first: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def made_again(*_: object, **__: object) -> None:
        raise StageError("made again")

    with monkeypatch.context() as patch:
        patch.setattr(voice_encoder, "StepVoiceEncoder", made_again)
        patch.setattr(VocoderModel, "voice_state", made_again)
        assert "(l3)" in say(tmp_path / "second.wav", first)
    assert (tmp_path / "second.wav").read_bytes() == first.with_name("first.wav").read_bytes()


@pytest.mark.slow
def test_without_a_store_it_speaks_as_before(tmp_path: Path) -> None:
    path = config(tmp_path, "none")
    for name in ("first.wav", "second.wav"):
        assert "(miss)" in say(tmp_path / name, path)
    assert (tmp_path / "second.wav").read_bytes() == (tmp_path / "first.wav").read_bytes()


@pytest.mark.slow
def test_a_store_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "voices").touch()  # no directory
    assert "(miss)" in say(tmp_path / "out.wav", config(tmp_path, str(tmp_path / "voices")))


def test_a_config_that_is_none_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text("applications: []")
    reference = ("--voice", str(BRUNO.path), "--voice-text", BRUNO.transcript)
    command = ["say", "Hello.", *reference, "--config", str(tmp_path / "other.yaml"), "-o", "x.wav"]
    said = CliRunner().invoke(app, command)
    assert said.exit_code == 2
    assert said.stderr == "timbre: other.yaml: one application is expected\n"


@pytest.mark.slow
def test_what_is_said_is_marked_unless_the_config_says_otherwise(
    first: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = CliRunner().invoke(app, ["verify", str(first.with_name("first.wav"))])
    assert said.exit_code == 0, said.output
    monkeypatch.setenv("TIMBRE_MARKS__ENABLED", "false")
    say(tmp_path / "unmarked.wav", first)
    assert CliRunner().invoke(app, ["verify", str(tmp_path / "unmarked.wav")]).exit_code == 1
