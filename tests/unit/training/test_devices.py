"""A training step keeps to one device.

The meta device stands for a GPU: it computes nothing, and refuses what mixes it with the CPU.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.fx.experimental import _config as config

from load_tests.gpu.sections.made_up_corpus import CorpusSize, write_made_up_corpus
from load_tests.gpu.sections.train import trainable
from training.config import DEFAULT_CONFIG, Recipe, load_recipe
from training.models import linguistic_tokenizer
from training.run import _FUNCTIONS, run_stage

pytestmark = pytest.mark.unit

SMALL = {
    "llm": {"batch_tokens": 400},
    "flow": {"batch": 2},
    "hift": {"batch": 2, "compile": False},
    "hift_critics": {"batch": 2, "compile": False, "channels": 2},
    "f0": {"batch": 2},
    "speaker": {"batch": 2},
    "judge": {"batch": 2},
    "vq02": {"stream_s": 4.0},
    "vq06": {"stream_s": 4.0},
}


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    tree = dict(load_recipe(DEFAULT_CONFIG).tree)
    for stage, changes in SMALL.items():
        tree[stage] = {**tree[stage], **changes}
    recipe = Recipe(tmp_path_factory.mktemp("work"), {**tree, "device": "meta"}, seed=20)
    write_made_up_corpus(recipe, CorpusSize(2, 3))
    return recipe


@pytest.fixture
def meta_is_read_as_zero(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What is brought to the host is zeros; what depends on values is given a fixed size."""

    def to_host(tensor: Tensor) -> Tensor:
        return torch.zeros(tensor.shape, dtype=tensor.dtype)

    def inverse(spectrum: Tensor, n_fft: int, hop: int, window: Tensor) -> Tensor:
        assert spectrum.device == window.device
        frames = spectrum.real.mean(1)[:, 1:]
        return frames.repeat_interleave(hop, 1)

    monkeypatch.setattr(Tensor, "__float__", lambda _: 0.0)
    monkeypatch.setattr(Tensor, "__bool__", lambda _: False)
    monkeypatch.setattr(Tensor, "cpu", to_host)
    monkeypatch.setattr(torch, "istft", inverse)
    monkeypatch.setattr(Recipe, "reduced_precision", lambda _: contextlib.nullcontext())
    with config.patch(meta_nonzero_assume_all_nonzero=True):
        yield


@pytest.mark.slow
@pytest.mark.usefixtures("meta_is_read_as_zero")
@pytest.mark.parametrize(
    "stage",
    [pytest.param(s, marks=pytest.mark.slow if s == "judge" else ()) for s in sorted(SMALL)],
)
def test_a_step_is_on_one_device(
    recipe: Recipe, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    devices = []

    def step(
        module: nn.Module, loss_of: Callable[..., tuple[Tensor, dict[str, Any]]], *_: object
    ) -> None:
        loss, _ = loss_of(1, np.random.default_rng(1))
        if stage != "judge":  # its loss is made on the host, which holds zeros
            loss.backward()
        parts = (*module.parameters(), *module.buffers(), loss)
        devices.append({part.device.type for part in parts})

    monkeypatch.setattr(import_module(f"training.{_FUNCTIONS[stage][0]}"), "train", step)
    monkeypatch.setattr(linguistic_tokenizer, "CMVN_STREAMS", 3)
    run_stage(recipe, stage)
    assert devices == [{"meta"}]


def test_every_stage_that_trains_is_tried() -> None:
    assert sorted(SMALL) == sorted(trainable())


@pytest.mark.slow
def test_the_made_up_corpus_is_what_the_stages_read(tmp_path: Path) -> None:
    from training.judging.phoneme_judge import phone_ids
    from training.speech.corpus import load_corpus
    from training.speech.encoded import load_embeddings, load_tokens

    recipe = Recipe(tmp_path, {"device": "cpu"}, seed=1)
    write_made_up_corpus(recipe, CorpusSize(2, 3))
    corpus = load_corpus(recipe, "train", "val")
    tokens = load_tokens(recipe, "train", "val").tokens
    assert len(corpus) == len(tokens) == 12
    assert load_embeddings(recipe, "held").shape == (6, 192)
    for clip, codes in zip((corpus[i] for i in range(len(corpus))), tokens, strict=True):
        assert phone_ids(clip.text) == [i for i in clip.phone_ids if i]
        assert len(clip.f0) * 480 == len(clip.audio24)
        assert abs(len(clip.audio24) / 24_000 - clip.duration_s) < 1e-3
        assert len(codes) % 5 == 0
        assert clip.duration_s - 0.12 < len(codes) / 5 * 0.12 <= clip.duration_s
        assert 0.02 < np.abs(clip.audio24).max() / 32767 < 0.9
        assert 0.3 < (clip.f0 > 0).mean() < 1
