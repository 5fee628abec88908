"""What a stage on a GPU lets each library take adds up to its cap."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch

from deployments.config.stage_settings import TokenizerSettings
from deployments.stages.limits import (
    ARENA_PART,
    ARENAS,
    GIB,
    apply_device_limits,
    arena_limit_bytes,
    cap_bytes,
)
from pipeline.errors import ConfigError

pytestmark = pytest.mark.unit

SHARE = TokenizerSettings(device="cuda", gpu_memory_gib=6)


@pytest.fixture
def fractions(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """What torch was told, on a device of 48 GiB; there is none here."""
    told: list[float] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    properties = SimpleNamespace(total_memory=48 * GIB)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: properties)
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", told.append)
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)
    places = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [place.allow_tf32 for place in places]
    yield told
    for place, allowed in zip(places, before, strict=True):
        place.allow_tf32 = allowed


def test_torch_and_the_arenas_share_the_tokenizers_cap(fractions: list[float]) -> None:
    apply_device_limits(SHARE, allow_tf32=False, torch_part=1 - ARENA_PART)
    torch_bytes = fractions[0] * 48 * GIB
    assert torch_bytes + ARENAS * (arena_limit_bytes(SHARE) or 0) == 6 * GIB
    assert torch.backends.cudnn.allow_tf32 is False


def test_torch_alone_gets_the_whole_cap(fractions: list[float]) -> None:
    apply_device_limits(SHARE, allow_tf32=True)
    assert fractions == [6 / 48]


def test_a_cap_over_the_device_is_refused(fractions: list[float]) -> None:
    with pytest.raises(ConfigError, match=r"is 60\.0, but the device has 48\.0 GiB"):
        apply_device_limits(SHARE.model_copy(update={"gpu_memory_gib": 60.0}), allow_tf32=True)


def test_a_cpu_has_no_caps() -> None:
    assert cap_bytes(TokenizerSettings()) is arena_limit_bytes(TokenizerSettings()) is None
