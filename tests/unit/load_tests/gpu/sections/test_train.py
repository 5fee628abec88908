"""The GPU kit's training section, rehearsed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from load_tests.gpu.sections import train
from load_tests.gpu.sections.made_up_corpus import CorpusSize
from load_tests.gpu.sections.train import _step_s, _Subject, measure_training
from load_tests.gpu.sizes import FULL
from pipeline.errors import ConfigError
from tests.unit.load_tests.gpu.sections.made_up import rehearsed, written

pytestmark = [pytest.mark.unit, pytest.mark.slow]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few clips and steps of small batches."""
    monkeypatch.setattr(train, "REHEARSED_CORPUS", CorpusSize(2, 3))
    monkeypatch.setattr(train, "REHEARSED_STEPS", 3)
    usual = train.load_recipe

    def smaller(path: Path) -> Any:
        recipe = usual(path)
        changes = {"llm": {"batch_tokens": 300}, "f0": {"batch": 2}, "hift": {"batch": 1}}
        for stage, change in changes.items():
            recipe.tree[stage].update(change)
        return recipe

    monkeypatch.setattr(train, "load_recipe", smaller)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("stage", ["llm", "f0", "hift"])
def test_a_stage_is_timed_on_a_made_up_corpus(tmp_path: Path, stage: str) -> None:
    section = rehearsed(tmp_path, "train")
    measure_training(section, stage, 0.01)
    found = written(section)
    assert not found["failures"]
    rows = {row["what"]: row["value"] for row in found["rows"]}
    assert rows[f"{stage}: steps"] == 3
    assert rows[f"{stage} on cpu, 1 threads: steps a second"] > 0
    assert rows[f"{stage}: loss of the first step"] > 0
    assert [line["step"] for line in found["tables"]["log"]] == [0, 2]
    assert list(found["stage"]) == [stage]
    assert not found["stage"][stage].get("compile")


def test_a_stage_that_does_not_train_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="llm"):
        measure_training(rehearsed(tmp_path, "train"), "corpus", 1)


def test_the_first_step_does_not_count() -> None:
    log = [{"step": 0, "s": 9.0}, {"step": 25, "s": 11.0}, {"step": 40, "s": 13.0}]
    assert _step_s(log) == pytest.approx(0.1)


def test_steps_fill_the_minutes_that_are_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    section = rehearsed(tmp_path, "train")
    monkeypatch.setattr(train.time, "monotonic", lambda: section.deadline_s - 105)
    section.sizes = FULL
    subject = _Subject(section, tmp_path, "llm")
    subject._step_s["cuda"] = 0.05
    steps = subject._fitting_steps("cuda", section.deadline_s + 1000)
    assert steps == pytest.approx(train.RESERVE * 100 / 0.05, abs=2)
    assert subject._fitting_steps("cuda", section.deadline_s - 104) == train.LEAST_STEPS
