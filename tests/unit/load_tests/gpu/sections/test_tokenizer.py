"""The GPU kit's tokenizer section, rehearsed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import onnx
import pytest

from load_tests.full_size import tokenizer as full_tokenizer
from load_tests.full_size.tokenizer import write_full_onnx
from load_tests.gpu.sections import tokenizer
from load_tests.gpu.sections.tokenizer import measure
from pipeline.stepaudio.tokenizer.voice_encoder import SPEAKER_MODEL, SPEECH_TOKENIZER
from tests.unit.load_tests.gpu.sections.made_up import rehearsed, written

pytestmark = [pytest.mark.unit, pytest.mark.slow]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Less of everything: what is tried is the section, not the speed."""
    monkeypatch.setitem(tokenizer.bench.FULL_SIZE, "linear_units", 64)
    monkeypatch.setattr(tokenizer.bench, "CLIP_S", 1.0)
    monkeypatch.setattr(tokenizer.bench, "TOGETHER", 2)
    monkeypatch.setattr(tokenizer.bench, "BATCHES_S", [[1.0], [1.0, 2.0]])
    for name, size in {"WIDTH": 32, "HEADS": 2, "UNITS": 32, "BLOCKS": 1}.items():
        monkeypatch.setattr(full_tokenizer, name, size)
    monkeypatch.setattr(full_tokenizer, "SPEAKER_WIDTH", 16)


@pytest.mark.usefixtures("small")
def test_all_parts_are_measured(tmp_path: Path) -> None:
    section = rehearsed(tmp_path, "tokenizer")
    section.sizes = replace(section.sizes, voices="full")
    measure(section)
    found = written(section)
    assert not found["failures"]
    assert not found["left_out"]
    rows = {row["what"]: row for row in found["rows"]}
    assert all(row["value"] == 0 for what, row in rows.items() if "codes that differ" in what)
    for words in (
        "chunk loop (CPU)",
        "all chunks at once (cpu)",
        "1 to 2 s: in one pass",
        "in kernels",
        "full, vq02 on cpu, ONNX on CPUExecutionProvider, 1 threads, 1 s clip: miss",
        "2 misses at a time, each, batch_s 60",
        "vq06 on CPUExecutionProvider, 1 threads",
        "speaker on CPUExecutionProvider",
        "vq02's front end",
    ):
        assert any(words in what for what in rows), words
    assert [table[-1]["kernel"] for table in found["tables"].values()] == ["all", "all"]


@pytest.mark.usefixtures("small")
def test_a_part_that_fails_stops_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("no kernel image is available")

    monkeypatch.setattr(tokenizer.bench, "against_loop", broken)
    monkeypatch.setattr(tokenizer, "kernel_table", broken)
    section = rehearsed(tmp_path, "tokenizer")
    measure(section)
    found = written(section)
    assert [failure["part"] for failure in found["failures"]] == [
        "vq02 against its loop",
        "kernels of vq02",
    ]
    assert any(row["what"].startswith("tiny, vq02 on cpu") for row in found["rows"])


@pytest.mark.usefixtures("small")
def test_full_models_have_the_released_inputs(tmp_path: Path) -> None:
    write_full_onnx(tmp_path, tmp_path)
    for name, inputs in ((SPEECH_TOKENIZER, ["mel", "length"]), (SPEAKER_MODEL, ["fbank"])):
        assert [i.name for i in onnx.load(tmp_path / name).graph.input] == inputs
