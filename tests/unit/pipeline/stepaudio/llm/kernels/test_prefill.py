"""Kernels of a chunk of prefill against float64, and a whole prefill against the plain one."""

from __future__ import annotations

from itertools import pairwise, product

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.stepaudio.llm.runner import Step1Runner
from pipeline.stepaudio.llm.step1 import alibi_slopes
from pipeline.stepaudio.recording import Replay, StaticInputs
from tests.unit.pipeline.stepaudio.llm.kernels.interpreter import DEVICE
from tests.unit.pipeline.stepaudio.llm.kernels.test_decode import STEP, near, poison, random
from tests.unit.pipeline.stepaudio.llm.test_runner import audio_vocabulary, small_model

pytest.importorskip("triton")
from pipeline.stepaudio.llm.kernels.prefill import ChunkAttention

pytestmark = [pytest.mark.unit, pytest.mark.slow, pytest.mark.usefixtures(poison.__name__)]

N_TOKENS = 120
GROUPS, HEADS, HEAD, CAPACITY, SLOT = 1, 12, 16, 512, 1


def attended(qkv: Tensor, old: Tensor, start: int, slopes: Tensor) -> Tensor:
    """In float64, with the plain rounding of nothing. old: [2, G, start, head]."""
    groups, head, n_rows = old.shape[1], old.shape[3], len(qkv)
    sizes = [len(slopes) * head, groups * head, groups * head]
    q, k, v = (part.view(n_rows, groups, -1, head).double() for part in qkv.split(sizes, 1))
    keys = torch.cat([old[0].double(), k[:, :, 0].transpose(0, 1)], 1)
    values = torch.cat([old[1].double(), v[:, :, 0].transpose(0, 1)], 1)
    scores = torch.einsum("tghd,gkd->ghtk", q, keys) * head**-0.5
    behind = torch.arange(start, start + n_rows)[:, None] - torch.arange(start + n_rows)
    behind = behind.double().to(DEVICE)
    scores -= slopes.double().view(groups, -1, 1, 1) * behind.clamp(min=0).sqrt()
    weights = scores.masked_fill(behind < 0, -torch.inf).softmax(-1)
    return torch.einsum("ghtk,gkd->tghd", weights, values).flatten(1)


def at(place: int) -> Tensor:
    return torch.tensor([place], device=DEVICE)


def filled(start: int, groups: int, head: int, capacity: int) -> Tensor:
    """A cache of three slots that holds `start` keys of one, and NaN elsewhere."""
    cache = torch.full((2, 3, groups, capacity, head), torch.nan).to(DEVICE, torch.bfloat16)
    cache[:, SLOT, :, :start] = random(2, groups, start, head)
    return cache


def require_right(n_rows: int, start: int, groups: int, heads: int, head: int) -> None:
    """Rows, and what the cache holds after them, alone and with rows of no meaning behind."""
    slopes = alibi_slopes(groups * heads).to(DEVICE)
    attention = ChunkAttention(slopes, groups=groups, head=head, capacity=CAPACITY)
    before = filled(start, groups, head, CAPACITY)
    qkv = random(n_rows, (groups * heads + 2 * groups) * head)
    cache = before.clone()
    found = attention(qkv, cache, at(start), at(SLOT))
    assert near(found, attended(qkv, before[:, SLOT, :, :start], start, slopes), 3.0)

    n_kept = min(n_rows, CAPACITY - start)
    new = qkv[:n_kept, -2 * groups * head :].view(n_kept, 2, groups, head).permute(1, 2, 0, 3)
    expected = before.clone()
    expected[:, SLOT, :, start : start + n_kept] = new
    assert torch.equal(cache.nan_to_num(9.0), expected.nan_to_num(9.0))
    written = before.clone()
    attention.write(qkv, written, at(start), at(SLOT))
    assert torch.equal(written.nan_to_num(9.0), expected.nan_to_num(9.0))

    longer = torch.cat([qkv, random(37, qkv.shape[1], scale=9.0)])
    assert torch.equal(attention(longer, before, at(start), at(SLOT))[:n_rows], found)


USUAL = {(1, 0), (31, 100), (32, 300), (100, 0), (128, 300)}  # each once; the rest is exhaustive


@pytest.mark.parametrize(
    ("n_rows", "start"),
    [
        pytest.param(*place, marks=() if place in USUAL else pytest.mark.exhaustive)
        for place in product((1, 31, 32, 100, 128), (0, 100, 300))
    ],
)
def test_attention_of_a_chunk_at_any_place(n_rows: int, start: int) -> None:
    require_right(n_rows, start, GROUPS, HEADS, HEAD)


@pytest.mark.parametrize("start", [CAPACITY - 40, CAPACITY - 32, CAPACITY - 5])
def test_rows_behind_the_end_of_the_cache_leave_nothing(start: int) -> None:
    require_right(32, start, GROUPS, HEADS, HEAD)


@pytest.mark.parametrize(
    ("groups", "heads", "head"), [(4, 12, 64), (2, 20, 32), (3, 1, 16), (1, 65, 16), (2, 6, 128)]
)
def test_attention_of_other_models(groups: int, heads: int, head: int) -> None:
    require_right(20, 120, groups, heads, head)


def test_a_row_does_not_depend_on_where_the_chunk_began() -> None:
    """Nor on the slot, nor on whether its keys come from the cache or from the chunk."""
    slopes = alibi_slopes(GROUPS * HEADS).to(DEVICE)
    attention = ChunkAttention(slopes, groups=GROUPS, head=HEAD, capacity=CAPACITY)
    qkv = random(160, (GROUPS * HEADS + 2 * GROUPS) * HEAD)
    cache = filled(0, GROUPS, HEAD, CAPACITY)
    whole = attention(qkv, cache, at(0), at(0))
    parts = [
        attention(qkv[start : start + 32], cache, at(start), at(2)) for start in range(0, 160, 32)
    ]
    assert torch.equal(torch.cat(parts), whole)
    assert torch.equal(cache[:, 0, :, :160], cache[:, 2, :, :160])


def runner(quantization: str, *, fused: bool, prefill_rows: int = 0) -> Step1Runner:
    size = "one group" if quantization == "none" else "tiny"
    model = small_model(size, 2, N_TOKENS, is_rounded=True).to(DEVICE, torch.bfloat16)
    return Step1Runner(
        model,
        audio_vocabulary(model),
        slots=2,
        max_context_tokens=300,
        quantization=quantization,
        prefill_rows=prefill_rows,
        fused=fused,
    )


@pytest.fixture(name="prompt")
def _prompt() -> np.ndarray:
    return np.random.default_rng(0).integers(0, N_TOKENS, 300).astype(np.int32)


def prefilled(runner: Step1Runner, prompt: np.ndarray, borders: list[int]) -> Tensor:
    """What a slot holds behind these chunks. float32 [layers, 2, G, n, head].

    Keys and values before the first chunk are random.
    """
    runner.clear(SLOT)
    before = torch.Generator().manual_seed(0)
    kept = runner.saved(SLOT, borders[0])
    runner.restore(SLOT, torch.randn(kept.shape, generator=before).to(kept))
    for start, end in pairwise(borders):
        runner.prefill(SLOT, prompt[start:end], start)
    return runner.saved(SLOT, borders[-1]).float().cpu()


@pytest.mark.parametrize("quantization", ["none", "int4"])
def test_a_prefill_in_few_kernels_is_the_prefill_in_many(
    quantization: str, prompt: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Step1Runner, "_measure_exactness", lambda _: None)  # of steps, and slow
    plain, found = (
        prefilled(runner(quantization, fused=fused), prompt, [0, 31, 159, 160, 180])
        for fused in (False, True)
    )
    for layer, expected in zip(found, plain, strict=True):
        typical = float(expected.square().mean().sqrt())
        assert (layer - expected).abs().max() < 25 * STEP * typical
        assert (layer - expected).square().mean().sqrt() < 3 * STEP * typical


def test_recorded_chunks_serve_every_place_and_number_of_keys(prompt: np.ndarray) -> None:
    fused = runner("int4", fused=True, prefill_rows=40)
    assert not fused.has_free_borders  # bits may follow the bucket of rows
    recorded, borders = [], [100, 140, 173, 180]
    fused._prefill_graphs = None
    expected = prefilled(fused, prompt, borders)

    def record(run: Replay) -> Replay:
        result = run()
        recorded.append(result.shape)
        return run

    fused.record_steps(record)
    n_steps, n_chunks = 2, 2  # 1, 2 blocks of keys, of both slots; 32, 40 rows
    assert len(recorded) in (n_steps + n_chunks, 2 * n_steps + n_chunks)
    other = fused.saved(0, 300)
    kept = prefilled(fused, prompt, borders)
    typical = float(expected.square().mean().sqrt())
    assert (kept - expected).abs().max() < 25 * STEP * typical
    assert torch.equal(fused.saved(0, 300), other)


def test_inputs_of_a_record_arrive_in_order_however_long_the_device_takes() -> None:
    inputs = StaticInputs(3, device=DEVICE)
    busy = torch.ones(2000, 2000, device=DEVICE) if DEVICE.type == "cuda" else torch.ones(2, 2)
    found = []
    for value in range(20):
        busy = busy @ busy * 0  # on a GPU the copy is queued behind this
        inputs.numbers()[:] = value, value + 1, -value
        inputs.send()
        found.append(inputs.tensor.clone())
    assert [row.tolist() for row in found] == [[v, v + 1, -v] for v in range(20)]
