"""Where a library of an extra is missing, one sentence says what to install."""

from __future__ import annotations

import functools
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from deployments.cli import app
from deployments.config.named_things import missing_here
from deployments.config.settings import load_settings
from pipeline.errors import ConfigError
from pipeline.libraries import ESPEAK, ONNX_RUNTIME, missing
from pipeline.stepaudio.tokenizer.onnx_session import open_session
from pipeline.text import espeak
from pipeline.text.front_end import front_end
from pipeline.text.phonemes import FRONT_END_NAME
from pipeline.voice_list import load_voices

pytestmark = pytest.mark.unit


@pytest.fixture
def without_onnx_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)


@pytest.fixture
def without_espeak(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    monkeypatch.setattr(espeak, "_made_espeak", functools.cache(espeak.Espeak))


def test_nothing_is_said_of_what_is_there():
    assert missing(ONNX_RUNTIME) is None
    assert missing(ESPEAK) is None


@pytest.mark.usefixtures("without_onnx_runtime")
def test_without_onnx_runtime_both_extras_are_named(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"timbre\[cpu\] or, for GPUs, timbre\[gpu\]") as caught:
        open_session(tmp_path / "model.onnx")
    assert "\n" not in caught.value.message
    (problem,) = missing_here(load_settings({}))
    assert problem == f"tokenizer: {caught.value.message}"


@pytest.mark.usefixtures("without_espeak")
def test_without_espeak_the_embedded_model_says_so_when_it_loads():
    with pytest.raises(ConfigError, match=r"timbre\[embedded\]") as caught:
        front_end(FRONT_END_NAME)
    assert "\n" not in caught.value.message
    (problem,) = missing_here(load_settings({}))
    assert problem == f"model: {caught.value.message}"


@pytest.mark.usefixtures("without_espeak")
def test_without_espeak_the_released_model_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    reads = front_end(None)
    assert reads.prompt(reads.words("It cost $5.")) == "It cost five dollars."
    monkeypatch.setenv("TIMBRE_HOME", str(tmp_path))
    (problem,) = missing_here(load_settings({"model": "step-audio-editx"}))
    assert "checkpoint download" in problem


@pytest.mark.slow
@pytest.mark.parametrize(
    ("absent", "extra"), [("without_onnx_runtime", "timbre[cpu]"), ("without_espeak", "[embedded]")]
)
def test_timbre_say_ends_with_the_sentence(
    absent: str,
    extra: str,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("TIMBRE_CACHE__URL", str(tmp_path / "voices"))  # a kept voice needs neither
    request.getfixturevalue(absent)
    (voice, *_) = load_voices().values()
    reference = ("--voice", str(voice.path), "--voice-text", voice.transcript)
    out = tmp_path / "hello.wav"
    said = CliRunner().invoke(app, ["say", "Hello.", *reference, "-o", str(out)])
    assert said.exit_code != 0
    (line,) = said.stderr.splitlines()
    assert extra in line
