"""Strict loading of state dicts."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from pipeline.errors import CheckpointError
from pipeline.stepaudio.weights import load_strict, read_torch

pytestmark = pytest.mark.unit


def test_round_trip(tmp_path: Path) -> None:
    file = tmp_path / "a.pt"
    torch.save(nn.Linear(3, 2).state_dict(), file)
    module = nn.Linear(3, 2)
    state = read_torch(file)
    load_strict(module, state, "a.pt")
    assert torch.equal(module.weight, state["weight"])


def test_every_kind_of_mismatch_is_named_and_nothing_is_loaded() -> None:
    module = nn.Linear(3, 2)
    before = module.weight.clone()
    state = {"weight": torch.ones(2, 4), "extra": torch.ones(1)}
    with pytest.raises(CheckpointError) as caught:
        load_strict(module, state, "flow.pt")
    assert caught.value.message == (
        "flow.pt does not fit: 1 missing: bias; 1 unexpected: extra; "
        "1 misshapen: weight is [2, 4], the config says [2, 3]"
    )
    assert torch.equal(module.weight, before)


def test_long_lists_are_cut_at_ten() -> None:
    state = {**nn.Linear(1, 1).state_dict(), **{f"x{i}": torch.ones(1) for i in range(12)}}
    with pytest.raises(CheckpointError, match=r"12 unexpected: x0, .*x9, … 2 more$"):
        load_strict(nn.Linear(1, 1), state, "x.pt")


def test_files_that_are_no_state_dicts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_torch(tmp_path / "absent.pt")
    for name, content in (("empty", b""), ("junk", b"junk" * 100)):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(CheckpointError, match="not a file of tensors"):
            read_torch(tmp_path / name)
    torch.save({"a": {"nested": torch.ones(1)}}, tmp_path / "nested.pt")
    with pytest.raises(CheckpointError, match="flat dict"):
        read_torch(tmp_path / "nested.pt")
    torch.save({"a": Path("code")}, tmp_path / "code.pt")
    with pytest.raises(CheckpointError, match="not a file of tensors"):
        read_torch(tmp_path / "code.pt")


def test_truncated_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.pt"
    torch.save({"a": torch.ones(1000)}, file)
    file.write_bytes(file.read_bytes()[:-500])
    with pytest.raises(CheckpointError, match=r"a\.pt"):
        read_torch(file)
