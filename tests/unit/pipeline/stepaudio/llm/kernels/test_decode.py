"""Kernels of a one-token step against float64, and a whole step against the plain one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from pipeline.stepaudio.llm.runner import Step1Runner
from pipeline.stepaudio.llm.step1 import alibi_slopes
from pipeline.stepaudio.llm.step_graphs import Replay
from pipeline.stepaudio.triton_kernels import kernels_run
from tests.unit.pipeline.stepaudio.llm.kernels.interpreter import DEVICE
from tests.unit.pipeline.stepaudio.llm.test_runner import audio_vocabulary, small_model

pytest.importorskip("triton")
from pipeline.stepaudio.llm.fused_step import FusedStep
from pipeline.stepaudio.llm.kernels.decode import Attention, norm, silu_mul
from pipeline.stepaudio.llm.kernels.product import (
    BATCH_TILINGS,
    ROW_TILINGS,
    Tiling,
    batch_product,
    row_product,
)

pytestmark = [pytest.mark.unit, pytest.mark.slow]

EPS = 1e-5
N_TOKENS = 120
# The largest error of bfloat16, relative; the interpreter does not round but cut.
STEP = 2.0**-8 if DEVICE.type == "cuda" else 2.0**-7


def random(*shape: int, scale: float = 1.0) -> Tensor:
    return (torch.randn(shape) * scale).to(DEVICE, torch.bfloat16)


@pytest.fixture(autouse=True)
def poison(monkeypatch: pytest.MonkeyPatch) -> None:
    """New tensors hold NaN, so that nothing is left unwritten."""
    for owner, name in ((torch, "empty_like"), (Tensor, "new_empty")):
        plain = getattr(owner, name)

        def poisoned(*args: Any, plain: Any = plain, **options: Any) -> Tensor:
            new = plain(*args, **options)
            return new.fill_(torch.nan) if new.is_floating_point() else new

        monkeypatch.setattr(owner, name, poisoned)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which chunks of prefill are exact is not tried: it says nothing of these kernels."""
    monkeypatch.setattr("pipeline.stepaudio.llm.runner.exact_chunks", lambda *_: (1,))
    monkeypatch.setattr("pipeline.stepaudio.llm.runner.keys_may_be_cut", lambda *_: False)


def near(found: Tensor, expected: Tensor, steps: float = 1.5) -> bool:
    """Within so many roundings of each number, and of the typical one."""
    error = (found.double() - expected).abs()
    size = expected.abs() + expected.square().mean().sqrt()
    return bool((error <= steps * STEP * size).all())


def normed(x: Tensor, gain: Tensor) -> Tensor:
    wide = x.double()
    return wide * (wide.square().mean(-1, keepdim=True) + EPS).rsqrt() * gain.double()


@pytest.mark.parametrize("width", [3072, 192, 100])
def test_norm_adds_what_is_left_over_and_normalises(width: int) -> None:
    x, delta, gain = random(3, width, scale=2.0), random(3, width), random(width)
    assert near(norm(x, gain, EPS), normed(x, gain))
    added = x.double() + delta.double()
    found = norm(x, gain, EPS, delta)
    assert near(x, added)
    assert near(found, normed(x, gain))


def test_gated_activation_is_that_of_the_plain_form() -> None:
    gate_up = random(3, 2 * 1100, scale=4.0)
    gate, up = gate_up.chunk(2, -1)
    assert near(silu_mul(gate_up), functional.silu(gate.double()) * up.double(), 2.5)


def attended(
    qkv: Tensor, cache: Tensor, positions: list[int], slopes: Tensor, first_slot: int
) -> Tensor:
    """In float64, with the plain rounding of nothing."""
    groups, head = cache.shape[2], cache.shape[4]
    rows = []
    for b, position in enumerate(positions):
        q, k, v = qkv[b].double().split([len(slopes) * head, groups * head, groups * head])
        kept = cache[:, first_slot + b, :, : position + 1].double().clone()
        kept[0, :, position], kept[1, :, position] = k.view(groups, head), v.view(groups, head)
        q = q.view(groups, -1, head)
        distance = position - torch.arange(position + 1, device=DEVICE)
        bias = -slopes.double().view(groups, -1, 1) * distance.double().sqrt()
        weights = (q @ kept[0].transpose(1, 2) * head**-0.5 + bias).softmax(-1)
        rows.append((weights @ kept[1]).flatten())
    return torch.stack(rows)


@pytest.mark.parametrize(
    ("groups", "heads", "head", "capacity"),
    [
        (4, 12, 64, 384),
        pytest.param(4, 12, 64, 1280, marks=pytest.mark.exhaustive),
        (2, 6, 16, 384),
        (1, 20, 32, 384),
    ],
)
def test_attention_over_keys_of_any_length(
    groups: int, heads: int, head: int, capacity: int
) -> None:
    lengths = [0, 1, 126, 127, 128, 129, capacity - 100, capacity - 1]  # keys before the new one
    first_slot, slots = 2, len(lengths) + 3
    cache = torch.full((2, slots, groups, capacity, head), torch.nan).to(DEVICE, torch.bfloat16)
    for b, length in enumerate(lengths):
        cache[:, first_slot + b, :, :length] = random(2, groups, length, head)
    before = cache.clone()
    qkv = random(len(lengths), (groups * heads + 2 * groups) * head)
    slopes = alibi_slopes(groups * heads).to(DEVICE)
    attention = Attention(slopes, slots=slots, groups=groups, head=head, capacity=capacity)
    positions = torch.tensor(lengths, device=DEVICE)
    for _ in range(2):  # what the splits leave behind does not disturb the next
        found = attention(qkv, cache, positions, first_slot, capacity)
        assert near(found, attended(qkv, before, lengths, slopes, first_slot), 3.0)
    new = qkv[:, -2 * groups * head :].view(-1, 2, groups, head)
    for b, length in enumerate(lengths):
        before[:, first_slot + b, :, length] = new[b]
    assert torch.equal(cache.nan_to_num(9.0), before.nan_to_num(9.0))

    alone = attention(qkv[5:6], cache, positions[5:6], first_slot + 5, 256)
    assert torch.equal(alone[0], found[5])  # whatever else runs, however many keys may be read
    attention(qkv, cache, positions, first_slot, 256)  # some lie beyond: nonsense, not written
    assert torch.equal(attention(qkv, cache, positions, first_slot, capacity), found)


def tiled(tilings: Sequence[Tiling], *shapes: tuple[int, ...]) -> list[Any]:
    """Every tiling with every shape; all but one with each, in turn, are exhaustive."""

    def marks(row: int, column: int) -> Any:
        return () if row % len(shapes) == column else pytest.mark.exhaustive

    return [
        pytest.param(tiling, *shape, marks=marks(row, column))
        for row, tiling in enumerate(tilings)
        for column, shape in enumerate(shapes)
    ]


@pytest.mark.parametrize(("tiling", "n", "k"), tiled(ROW_TILINGS, (21, 1100), (64, 192)))
def test_product_of_one_row(tiling: Tiling, n: int, k: int) -> None:
    x, weight, gain = random(1, k), random(n, k, scale=k**-0.5), random(k)
    exact = x.double() @ weight.double().T
    assert near(row_product(tiling, x, weight), exact)
    exact_norm = normed(x, gain) @ weight.double().T
    found = row_product(tiling, x, weight, gain=gain, eps=EPS, dtype=torch.float32)
    assert near(found, exact_norm)
    assert torch.equal(found, found.bfloat16().float())
    residual = random(1, n)
    expected = residual.double() + exact
    assert row_product(tiling, x, weight, residual=residual) is residual
    assert near(residual, expected, 2.5)
    up = random(n, k, scale=k**-0.5)
    gated = row_product(tiling, x, torch.cat([weight, up]), gain=gain, eps=EPS, gated=True)
    expected = functional.silu(exact_norm) * (normed(x, gain) @ up.double().T)
    assert near(gated, expected, 3.5)


@pytest.mark.parametrize(
    ("tiling", "n_rows", "n", "k"),
    tiled(BATCH_TILINGS, (1, 21, 300), (5, 64, 192), (33, 40, 130)),
)
def test_product_of_rows(tiling: Tiling, n_rows: int, n: int, k: int) -> None:
    x, weight, up = random(n_rows, k), random(n, k, scale=k**-0.5), random(n, k, scale=k**-0.5)
    exact = x.double() @ weight.double().T
    found = batch_product(tiling, x, weight, dtype=torch.float32)
    assert near(found, exact)
    residual = random(n_rows, n)
    expected = residual.double() + exact
    assert batch_product(tiling, x, weight, residual=residual) is residual
    assert near(residual, expected, 2.5)
    gated = batch_product(tiling, x, torch.cat([weight, up]), gated=True)
    assert near(gated, functional.silu(exact) * (x.double() @ up.double().T), 3.5)


def test_products_of_the_large_model() -> None:
    x, weight = random(2, 3072), random(90, 3072, scale=3072**-0.5)
    exact = x.double() @ weight.double().T
    assert near(row_product(ROW_TILINGS[0], x[:1], weight), exact[:1])
    assert near(batch_product(BATCH_TILINGS[0], x, weight), exact)


def fill(plain: Step1Runner, fused: Step1Runner, lengths: list[int], prompts: Tensor) -> None:
    """Prompts of those lengths in the slots of both: how kernels prefill is test_prefill's."""
    for slot, length in enumerate(lengths):
        if length:
            plain.prefill(slot, prompts[slot, :length].numpy().astype(np.int32), 0)
            fused.restore(slot, plain.saved(slot, length))


def stepped(runner: Step1Runner, lengths: list[int], prompts: Tensor, n_steps: int) -> Tensor:
    """Logits of some steps of all slots behind prompts of those lengths."""
    found = []
    for step in range(n_steps):
        positions = [length + step for length in lengths]
        tokens = [int(prompts[slot, position]) for slot, position in enumerate(positions)]
        window = range(len(lengths))
        found.append(runner.step(window, tokens, positions, max(positions)).cpu())
    return torch.stack(found)


@pytest.mark.parametrize("quantization", ["none", "int4"])
@pytest.mark.parametrize("lengths", [[130], [300, 0, 127]])
def test_a_step_in_few_kernels_is_the_step_in_many(
    lengths: list[int], quantization: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Step1Runner, "_measure_exactness", lambda _: None)  # slow, and not in doubt
    size = "one group" if quantization == "none" else "tiny"
    exact = small_model(size, vocab_size=N_TOKENS, is_rounded=True)
    model = small_model(size, vocab_size=N_TOKENS, is_rounded=True).to(DEVICE, torch.bfloat16)
    prompts = torch.randint(0, N_TOKENS, (len(lengths), 320))
    runners = [
        Step1Runner(
            model,
            audio_vocabulary(model),
            slots=len(lengths),
            max_context_tokens=400,
            quantization=quantization,
            fused=fused,
        )
        for fused in (False, True)
    ]
    fill(*runners, lengths, prompts)
    found = [stepped(runner, lengths, prompts, 2) for runner in runners]
    typical = float(found[0].square().mean().sqrt())
    assert (found[0] - found[1]).abs().max() < 25 * STEP * typical
    if quantization == "none":
        errors = [0.0, 0.0]
        for slot, length in enumerate(lengths):
            expected = exact(prompts[slot : slot + 1, : length + 2])[0, length:]
            expected = expected[:, [*range(20, N_TOKENS), 3]]
            for i, logits in enumerate(found):
                errors[i] = max(errors[i], float((logits[:, slot] - expected).abs().max()))
        assert errors[1] < 1.5 * errors[0] + 5 * STEP * typical


def test_rows_do_not_depend_on_the_window_and_steps_can_be_recorded() -> None:
    model = small_model("one group", 1, N_TOKENS, is_rounded=True).to(DEVICE, torch.bfloat16)
    lengths = [200, 3, 129, 60]
    prompts = torch.randint(0, N_TOKENS, (4, 320))
    plain, runner = (
        Step1Runner(model, audio_vocabulary(model), slots=4, max_context_tokens=256, fused=fused)
        for fused in (False, True)
    )
    fill(plain, runner, lengths, prompts)
    together = stepped(runner, lengths, prompts, 1)[0]
    if DEVICE.type == "cpu":

        def record(run: Replay) -> Replay:
            return run

        assert runner.window(1, 1) == range(1, 2)
        runner.record_steps(record)
    for n in (1, 2, 4):
        window = range(n)
        tokens = [int(prompts[slot, lengths[slot]]) for slot in window]
        logits = runner.step(window, tokens, lengths[:n], 200).cpu()
        assert torch.equal(logits, together[:n])


def test_which_kernels_run_can_be_said() -> None:
    model = small_model("one group", 1, N_TOKENS).to(DEVICE, torch.bfloat16)

    def runner(fused: bool | None) -> Step1Runner:
        vocabulary = audio_vocabulary(model)
        return Step1Runner(model, vocabulary, slots=1, max_context_tokens=100, fused=fused)

    assert isinstance(runner(True)._fused, FusedStep)
    assert runner(False)._fused is None
    assert (runner(None)._fused is None) == (DEVICE.type == "cpu")


def test_where_triton_cannot_build_the_separate_kernels_are_kept(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert kernels_run(DEVICE)

    def build(_: Tensor) -> None:
        raise RuntimeError("Failed to find C compiler")

    monkeypatch.setattr("pipeline.stepaudio.trial_kernel.double", build)
    assert not kernels_run(DEVICE)
    assert "Failed to find C compiler" in caplog.text
