"""The GPU kit's parity section, rehearsed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from load_tests.gpu.sections import parity
from load_tests.gpu.sections.parity import measure
from pipeline.stepaudio.parity import run
from pipeline.stepaudio.parity.golden import Check
from tests.unit.load_tests.gpu.sections.made_up import rehearsed, written

pytestmark = pytest.mark.unit


@pytest.mark.slow
def test_every_check_is_a_row_and_a_missed_one_a_failure(tmp_path: Path, shared_dir: Path) -> None:
    source, golden = shared_dir / "golden", tmp_path / "golden"
    golden.mkdir()
    for name in ("frontend_public.npz", "prompts.json", "tokenizer_tiny.model", "lm_public.npz"):
        shutil.copy(source / name, golden)
    config = json.loads((source / "lm_public.json").read_text())
    (golden / "lm_public.json").write_text(json.dumps(config | {"seed": config["seed"] + 1}))
    shutil.copy(source / "vq02_public.json", golden)  # without its arrays
    section = rehearsed(tmp_path, "parity", golden=golden)
    measure(section)
    found = written(section)
    rows = {row["what"]: row for row in found["rows"]}
    assert rows["frontend_public.npz: prompt_mel"]["is_met"]
    assert rows["frontend_public.npz: prompt_mel"]["bar"] == 1e-3
    assert not rows["lm_public.json: logits"]["is_met"]
    assert any("prompts.json: prompt 0" in what for what in rows)
    assert [failure["part"] for failure in found["failures"]] == [
        "lm_public.json",
        "vq02_public.json",
    ]
    missed, crashed = (failure["traceback"] for failure in found["failures"])
    assert "logits, slots" in missed
    assert "vq02_public.am.mvn" in crashed


@pytest.mark.parametrize("golden", [None, Path("nowhere")])
def test_without_golden_files_there_is_a_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, golden: Path | None
) -> None:
    monkeypatch.setattr(parity, "PLACES", (tmp_path / "not here",))
    section = rehearsed(tmp_path, "parity", golden=golden and tmp_path / golden)
    measure(section)
    found = written(section)
    assert "no golden files" in found["note"]
    assert found["left_out"]
    assert not found["failures"]


def test_comparisons_run_without_tf32(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def compare(_: Path, __: str) -> list[Check]:
        seen.append((torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32))
        return []

    monkeypatch.setattr(run, "_comparisons", lambda: {"lm": compare})
    before = (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32)
    assert before[1]  # what makes the difference
    for allowed in (False, True):
        run.compare_file(Path("lm_a.json"), "lm", allow_tf32=allowed)
    assert seen == [(False, False), (True, True)]
    assert before == (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32)
