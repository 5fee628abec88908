"""The estimator in a CPU's workspace makes what the plain one makes, whichever way it takes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from pipeline.stepaudio.vocoder.direct_steps import DirectSteps
from pipeline.stepaudio.vocoder.flow import cpu_dit
from pipeline.stepaudio.vocoder.model import VocoderModel
from tests.vocoder_files import make_ids, make_voice, write_vocoder

pytestmark = pytest.mark.unit

STEPS = 3
CLOSE = 2e-4  # of mels of size 4: another order of sums, three steps


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> VocoderModel:
    directory = write_vocoder(tmp_path_factory.mktemp("vocoder"))
    return VocoderModel.load(directory, torch.device("cpu"), STEPS, 0)


@torch.inference_mode()
def both_ways(model: VocoderModel) -> tuple[Tensor, Tensor]:
    """The mel of an answer behind a voice, by the plain estimator and by a new one of a CPU."""
    flow, voice = model.flow, model.prompt_tensors(make_voice(5))
    state = model.voice_state(voice)
    mu, _ = flow.mu(model.rows(make_ids(9)), None, state.encoder)
    condition = flow.condition(mu, voice.embedding, mu[:, :0])
    plain, _ = flow.decoder(
        condition,
        model.schedule,
        first_frame=state.n_frames,
        caches=state.placed(None).estimator,
    )
    direct = DirectSteps(flow.decoder, model.schedule)
    return plain, direct.whole(condition, state)


@pytest.mark.slow
def test_the_same_mel(model: VocoderModel) -> None:
    plain, made = both_ways(model)
    torch.testing.assert_close(made, plain, rtol=0, atol=CLOSE)


@pytest.mark.slow
@pytest.mark.parametrize("n_scores", [1, 5000])
def test_scores_in_parts_are_the_same(
    model: VocoderModel, monkeypatch: pytest.MonkeyPatch, n_scores: int
) -> None:
    monkeypatch.setattr(cpu_dit, "SCORES", n_scores)
    plain, made = both_ways(model)
    torch.testing.assert_close(made, plain, rtol=0, atol=CLOSE)


def test_scores_that_could_overflow_are_taken_the_safe_way(tmp_path: Path) -> None:
    """Weights decide it: with gains of a hundred, exponentials of scores are no numbers."""
    directory = write_vocoder(tmp_path)
    weights = torch.load(directory / "flow.pt", weights_only=True)
    for name in weights:
        if name.endswith(("q_norm.weight", "k_norm.weight")):
            weights[name] *= 100
    torch.save(weights, directory / "flow.pt")
    plain, made = both_ways(VocoderModel.load(directory, torch.device("cpu"), STEPS, 0))
    torch.testing.assert_close(made, plain, rtol=0, atol=10 * CLOSE)


def test_without_onednn_too(model: VocoderModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_dit, "has_onednn", lambda: False)
    plain, made = both_ways(model)
    torch.testing.assert_close(made, plain, rtol=0, atol=CLOSE)


@torch.inference_mode()
def test_mish_has_no_end() -> None:
    x = torch.tensor([-200.0, -20.0, -1.0, 0.0, 1.0, 20.0, 60.0, 500.0])
    out = torch.empty_like(x)
    cpu_dit._mish(x, out)
    torch.testing.assert_close(out, torch.nn.functional.mish(x), rtol=1e-6, atol=1e-5)
