"""Critics of made speech, and weights in 16 bits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from training.half import halve_onnx, halved
from training.models.adversarial import contest_loss
from training.models.critics import Critics, critics_loss, deceit_loss, likeness_loss

pytestmark = pytest.mark.unit


def _sounds(seed: int) -> torch.Tensor:
    return 0.1 * torch.randn(2, 14_400, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def critics() -> Critics:
    torch.manual_seed(0)
    return Critics(2)


@torch.no_grad()
def test_critics_see_no_difference_where_there_is_none(critics: Critics) -> None:
    judged = critics(_sounds(1))
    assert float(likeness_loss(judged, judged)) == 0
    assert float(likeness_loss(judged, critics(_sounds(2)))) > 0.01
    fooled = [(torch.ones_like(score), features) for score, features in judged]
    assert float(deceit_loss(fooled)) == 0
    assert float(critics_loss(fooled, fooled)) == 1


def test_each_side_learns_from_its_own_loss_alone(critics: Critics) -> None:
    made = _sounds(1).requires_grad_()
    deceit_loss(critics.judge_frozen(made)).backward()
    assert made.grad is not None
    assert float(made.grad.abs().sum()) > 0
    assert all(parameter.grad is None for parameter in critics.parameters())
    made.grad = None
    critics_loss(critics(_sounds(2)), critics(made.detach())).backward()
    assert made.grad is None
    assert all(parameter.grad is not None for parameter in critics.parameters())


@pytest.mark.slow
def test_frozen_critics_judge_as_they_do(critics: Critics) -> None:
    for (a, _), (b, _) in zip(critics(_sounds(1)), critics.judge_frozen(_sounds(1)), strict=True):
        torch.testing.assert_close(a, b)


@torch.no_grad()
def test_critics_learn_alone_at_first(critics: Critics) -> None:
    alone, parts = contest_loss(critics, _sounds(1), _sounds(2), is_alone=True)
    both, more = contest_loss(critics, _sounds(1), _sounds(2), is_alone=False)
    assert set(more) - set(parts) == {"deceit", "likeness"}
    assert float(both) > float(alone)


def test_halved_weights_keep_their_names_and_whole_numbers() -> None:
    state = {"w": torch.full((2,), 0.5), "steps": torch.tensor(7)}
    assert {name: w.dtype for name, w in halved(state).items()} == {
        "w": torch.float16,
        "steps": torch.int64,
    }


def _network(path: Path, weight: np.ndarray) -> None:
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 32])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 32])],
        [numpy_helper.from_array(weight, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(path))


def test_an_onnx_file_in_16_bits_is_half_as_large_and_says_the_same(tmp_path: Path) -> None:
    import onnxruntime

    path = tmp_path / "net.onnx"
    weight = np.random.default_rng(0).standard_normal((32, 32)).astype(np.float32)
    _network(path, weight)
    before = path.stat().st_size
    halve_onnx(path)
    assert path.stat().st_size < 0.6 * before
    x = np.ones((1, 32), np.float32)
    (y,) = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(
        None, {"x": x}
    )
    np.testing.assert_allclose(y, x @ weight.astype(np.float16).astype(np.float32), atol=1e-4)


def test_weights_beyond_16_bits_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    _network(path, np.full((32, 32), 1e6, np.float32))
    with pytest.raises(ValueError, match="w holds numbers beyond 16 bits"):
        halve_onnx(path)
