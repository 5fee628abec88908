"""Where files lie, and which directory a model name means."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import CheckpointError
from pipeline.stepaudio import layout as layout_module
from pipeline.stepaudio.layout import CheckpointLayout, resolve_model

pytestmark = pytest.mark.unit


def _touch(layout: CheckpointLayout) -> None:
    for path in [*layout.required(), layout.editx / "model.safetensors"]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


@pytest.mark.parametrize("editx", layout_module.EDITX_REPOSITORIES)
def test_both_published_repositories_are_found(tmp_path: Path, editx: str):
    _touch(CheckpointLayout.expected(tmp_path, editx))
    layout = CheckpointLayout.at(tmp_path)
    assert layout.editx == tmp_path / editx
    assert layout.flow_weights == tmp_path / editx / "CosyVoice-300M-25Hz" / "flow.pt"


def test_one_error_names_everything_that_is_missing(tmp_path: Path):
    layout = CheckpointLayout.expected(tmp_path)
    _touch(layout)
    layout.flow_weights.unlink()
    layout.paraformer_cmvn.unlink()
    (layout.editx / "model.safetensors").unlink()
    with pytest.raises(CheckpointError) as caught:
        CheckpointLayout.at(tmp_path)
    for name in ("flow.pt", "am.mvn", "model.safetensors"):
        assert name in caught.value.message
    assert "hift.pt" not in caught.value.message


def test_names_resolve_to_the_home_directory_and_paths_to_themselves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("TIMBRE_HOME", str(tmp_path / "home"))
    with pytest.raises(CheckpointError, match="`timbre checkpoint download step-audio-editx-awq`"):
        resolve_model("step-audio-editx-awq")
    downloaded = layout_module.download_directory("step-audio-editx")
    downloaded.mkdir(parents=True)
    assert resolve_model("step-audio-editx") == downloaded
    assert resolve_model(str(tmp_path)) == tmp_path
    with pytest.raises(CheckpointError, match=r"tiny, step-audio-editx, step-audio-editx-awq"):
        resolve_model("step-audio-edit")


def test_home_follows_the_platform_rule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("TIMBRE_HOME", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert layout_module.home_directory() == tmp_path / "timbre"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert layout_module.home_directory() == tmp_path / ".cache" / "timbre"


def test_packaged_tiny_checkpoint_is_preferred(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(layout_module, "PACKAGED_TINY", tmp_path)
    assert resolve_model("tiny") == tmp_path


def test_a_package_without_its_checkpoint_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Noise from random weights would pass for speech."""
    monkeypatch.setattr(layout_module, "PACKAGED_TINY", tmp_path / "none")
    with pytest.raises(CheckpointError, match="install it again"):
        resolve_model("tiny")
