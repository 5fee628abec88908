"""The recogniser on FunASR's own AutoModel, with small untrained models; and beside a fake of it.

What such models say is nonsense: how well the released one hears is not known here.
"""

from __future__ import annotations

import asyncio
import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.contracts import ReferenceClip
from pipeline.errors import CheckpointError, StageUnavailableError
from pipeline.stepaudio.asr import recogniser as module
from pipeline.stepaudio.asr.directory import check_model_directory
from pipeline.stepaudio.asr.recogniser import Recogniser
from tests.recogniser_files import in_own_process

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What `tests.recogniser_files` reports."""
    directory = tmp_path_factory.mktemp("recognisers")
    return json.loads(in_own_process("report", directory))


@pytest.mark.slow
class TestRealModels:
    def test_they_hear_the_same_in_the_same_clip(self, real: dict[str, Any]):
        for name in ("streaming", "offline"):
            first, again = real[name]
            assert first == again != ""
            assert first == " ".join(first.split())
        assert real["after others"] == real["streaming"][0], "no clip leaves anything behind"

    def test_a_clip_of_any_length_is_heard_out(self, real: dict[str, Any]):
        words = real["lengths"]
        assert words[0] == "", "too short for a single frame"
        assert len(words[-1]) > len(words[2]) > 0

    def test_each_has_a_name_by_content(self, real: dict[str, Any]):
        names = {real["streaming fingerprint"], real["offline fingerprint"]}
        assert len(names) == 2

    def test_logging_is_as_it_was(self, real: dict[str, Any]):
        assert real["handlers left"] is True

    def test_gaps_are_never_filled_with_chance(self, real: dict[str, Any]):
        assert "no whole recogniser: it lacks" in real["encoder alone"]
        assert "predictor." in real["encoder alone"]
        assert "size mismatch" in real["another size"]
        assert "model.pt" in real["no weights"]


class AutoModel:
    """FunASR's, as far as it is used."""

    class SomeModel:
        pass

    def __init__(self) -> None:
        self.model: object = self.SomeModel()
        self.answer: list[dict[str, str]] = [{"text": "words"}]
        self.asked: list[tuple[Any, dict[str, Any]]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.at_once = self.most_at_once = 0

    def generate(self, input: list[Any], **how: Any) -> list[dict[str, str]]:
        self.at_once += 1
        self.most_at_once = max(self.at_once, self.most_at_once)
        self.gate.wait(5)
        self.at_once -= 1
        self.asked.append((input[0], how))
        return self.answer


@pytest.fixture
def auto(monkeypatch: pytest.MonkeyPatch) -> AutoModel:
    made = AutoModel()
    monkeypatch.setattr(module, "open_funasr", lambda *_: made)
    return made


def clip(n_samples: int = 24_000, rate_hz: int = 24_000) -> ReferenceClip:
    return ReferenceClip(np.full(n_samples, 0.1, np.float32), rate_hz, "0" * 64)


class TestBesideAFake:
    @pytest.mark.parametrize(
        ("said", "heard"),
        [
            ("hello there", "hello there"),
            ("  hello \n there ", "hello there"),
            ("你好", "你好"),
            ("<|en|><|NEUTRAL|><|Speech|><|withitn|>Hello there.", "Hello there."),
            ("<|nospeech|>", ""),
            ("", ""),
            ("a < b | c", "a < b | c"),
        ],
    )
    def test_words_are_left_alone_and_marks_are_not(
        self, tmp_path: Path, auto: AutoModel, said: str, heard: str
    ):
        auto.answer = [{"key": "x", "text": said}]
        assert Recogniser(tmp_path).transcribe_blocking(clip()) == heard

    def test_the_clip_comes_at_the_models_rate(self, tmp_path: Path, auto: AutoModel):
        Recogniser(tmp_path).transcribe_blocking(clip(44_100, 44_100))
        samples, how = auto.asked[0]
        assert (samples.dtype, samples.shape) == (np.float32, (16_000,))
        assert how == {}

    def test_a_streaming_model_gets_the_whole_clip_at_once(self, tmp_path: Path, auto: AutoModel):
        auto.model = type("ParaformerStreaming", (), {})()
        Recogniser(tmp_path).transcribe_blocking(clip())
        assert auto.asked[0][1] == {
            "cache": {},
            "is_final": True,
            "chunk_size": [0, 10, 5],
            "encoder_chunk_look_back": 4,
            "decoder_chunk_look_back": 1,
        }

    async def test_one_clip_at_a_time_off_the_loop(self, tmp_path: Path, auto: AutoModel):
        recogniser = Recogniser(tmp_path)
        auto.gate.clear()
        asked = [asyncio.create_task(recogniser.transcribe(clip())) for _ in range(3)]
        await asyncio.sleep(0.01)
        auto.gate.set()
        assert await asyncio.gather(*asked) == ["words"] * 3
        assert auto.most_at_once == 1
        recogniser.check_health()
        recogniser.close()
        with pytest.raises(StageUnavailableError, match="recogniser"):
            recogniser.check_health()

    def test_its_name_follows_its_files(self, tmp_path: Path, auto: AutoModel):
        (tmp_path / "config.yaml").write_text("a: 1")
        first = Recogniser(tmp_path).fingerprint
        assert Recogniser(tmp_path).fingerprint == first
        (tmp_path / "model.pt").write_bytes(b"weights")
        assert Recogniser(tmp_path).fingerprint != first


def test_a_name_is_no_directory_to_be_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match="no directory paraformer-zh"):
        check_model_directory(Path("paraformer-zh"))
