"""Names of models by content: every weight and every setting that changes speech counts."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pipeline.stepaudio import fingerprints
from pipeline.stepaudio.fingerprints import lm_fingerprint, vocoder_fingerprint
from pipeline.stepaudio.layout import PACKAGED_TINY, CheckpointLayout

pytestmark = pytest.mark.unit
HOW = {"device": "cpu", "dtype": "float32"}


@pytest.fixture
def layout(tmp_path: Path) -> CheckpointLayout:
    shutil.copytree(PACKAGED_TINY, tmp_path / "tiny")
    return CheckpointLayout.at(tmp_path / "tiny")


def both(layout: CheckpointLayout) -> tuple[str, str]:
    return lm_fingerprint(layout, HOW), vocoder_fingerprint(layout, HOW)


def test_the_same_files_have_the_same_names(layout: CheckpointLayout) -> None:
    assert both(layout) == both(CheckpointLayout.at(PACKAGED_TINY))
    assert lm_fingerprint(layout, HOW) != lm_fingerprint(layout, {**HOW, "dtype": "bfloat16"})
    assert vocoder_fingerprint(layout, HOW) != vocoder_fingerprint(layout, {**HOW, "steps": 4})


@pytest.mark.parametrize(
    ("name", "lm_changes", "vocoder_changes"),
    [
        ("lm_config", True, True),
        ("text_tokenizer", False, True),
        ("generation_config", False, True),
        ("vocoder_config", False, True),
        ("flow_weights", False, True),
        ("hift_weights", False, True),
        ("speech_tokenizer", False, False),  # the encoder's: part of the voice's name
    ],
)
def test_a_changed_file_changes_the_names_that_depend_on_it(
    layout: CheckpointLayout, name: str, lm_changes: bool, vocoder_changes: bool
) -> None:
    before = both(layout)
    with getattr(layout, name).open("ab") as file:
        file.write(b" ")
    after = both(layout)
    assert [one != other for one, other in zip(before, after, strict=True)] == [
        lm_changes,
        vocoder_changes,
    ]


def test_changed_weights_and_a_changed_program_change_the_name(
    layout: CheckpointLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = both(layout)
    with layout.lm_shards[0].open("ab") as file:
        file.write(b" ")
    assert lm_fingerprint(layout, HOW) != before[0]
    monkeypatch.setattr(fingerprints, "SPEECH_VERSION", 99)
    assert vocoder_fingerprint(layout, HOW) != before[1]
