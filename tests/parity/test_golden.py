"""`timbre parity` on all golden files, and on directories that hold less or worse."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.stepaudio.parity.golden import Check, value
from pipeline.stepaudio.parity.run import SUFFIXES, golden_files, run_parity
from tests.conftest import ROOT

pytestmark = pytest.mark.parity


def test_every_golden_file_agrees(golden_dir: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "200")
    result = CliRunner().invoke(app, ["parity", str(golden_dir)])
    assert result.exit_code == 0, result.output
    kinds = {"frontend_", "lm_", "vq02_", "vocoder_", "prompts"}
    for kind in kinds:
        assert kind in result.stdout
    for check in ("mel_stream", "wav", "greedy", "codes"):
        assert check in result.stdout
    assert " 0 failed" in result.stdout


def test_any_name_behind_the_kind_and_several_of_a_kind(golden_dir: Path, tmp_path: Path):
    for name in ("first", "second_try"):
        for suffix in (".json", ".npz"):
            shutil.copy(golden_dir / f"lm_public{suffix}", tmp_path / f"lm_{name}{suffix}")
    prompts = json.loads((golden_dir / "prompts.json").read_text(encoding="utf-8"))
    prompts["tokenizer"] = str((golden_dir / prompts["tokenizer"]).resolve())
    (tmp_path / "prompts_other.json").write_text(json.dumps(prompts))
    (tmp_path / "vocoder_x.names.json").touch()
    (tmp_path / "notes.txt").touch()
    found = [(path.name, kind) for path, kind in golden_files(tmp_path)]
    assert found == [
        ("lm_first.json", "lm"),
        ("lm_second_try.json", "lm"),
        ("prompts_other.json", "prompts"),
    ]
    results = run_parity(tmp_path)
    assert {name for name, _ in results} == {name for name, _ in found}
    assert all(check.ok for _, check in results)


def test_an_exceeded_tolerance_fails_and_a_crash_does_not_stop_the_rest(
    golden_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("COLUMNS", "200")
    shutil.copy(golden_dir / "lm_public.npz", tmp_path / "lm_a.npz")
    config = json.loads((golden_dir / "lm_public.json").read_text())
    (tmp_path / "lm_a.json").write_text(json.dumps(config | {"seed": config["seed"] + 1}))
    shutil.copy(golden_dir / "frontend_public.npz", tmp_path / "frontend_a.npz")
    shutil.copy(golden_dir / "vq02_public.json", tmp_path / "vq02_a.json")  # without its arrays
    result = CliRunner().invoke(app, ["parity", str(tmp_path)])
    assert result.exit_code == 1
    rows = {line.split("│")[1].strip(): line for line in result.stdout.splitlines() if "│" in line}
    assert "FAILED" in rows["lm_a.json"]
    assert "crashed" in rows["vq02_a.json"]
    assert "vq02_a.am.mvn" in rows["vq02_a.json"]
    assert "ok" in rows["frontend_a.npz"]


@pytest.mark.parametrize("make", [True, False])
def test_nothing_to_check_is_an_error(tmp_path: Path, make: bool):
    directory = tmp_path / "empty"
    if make:
        directory.mkdir()
    result = CliRunner().invoke(app, ["parity", str(directory)])
    assert result.exit_code == 2
    assert str(directory) in result.stderr
    assert result.stderr.count("\n") == 1


def test_parameters_are_those_of_the_golden_generator(shared_dir: Path):
    namespace: dict = {}
    exec((shared_dir / "golden" / "fill.py").read_text(), namespace)  # noqa: S102 — the generator itself
    for name, shape in {
        "conv.parametrizations.weight.original0": (4, 1, 1),
        "activation.alpha": (5,),
        "encoder.bias": (6,),
        "attention.pos_bias_u": (2, 3),
        "norm.weight": (7,),
        "linear.weight": (3, 5),
        "conv.weight": (3, 5, 2),
        "codebook": (4,),
    }.items():
        assert (value(name, shape, 7) == namespace["value"](name, shape, 7)).all()


def test_a_check_that_is_no_number_fails():
    assert Check("x", 0.0, 0.0).ok
    assert not Check("x", float("nan"), 1.0).ok
    assert not Check("x", 1e-3, 1e-4).ok


def test_the_committed_set_is_small_and_of_every_kind():
    directory = ROOT / "tests" / "golden"
    assert sum(path.stat().st_size for path in directory.iterdir() if path.is_file()) < 250_000
    assert {kind for _, kind in golden_files(directory)} == {*SUFFIXES, "prompts"}
