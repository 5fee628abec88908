# pyright: basic
"""A one-token step, or a chunk of prefill, in few kernels.

In a step, norms, residuals and activations run inside the products.

Imported only where Triton is available. The kernel of each product, PyTorch's or one of ours, is
chosen by measurement at start. Everything launched may be recorded in a CUDA graph.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional
from triton.runtime.errors import OutOfResources

from pipeline.stepaudio.llm.kernels.decode import Attention, norm, silu_mul
from pipeline.stepaudio.llm.kernels.prefill import ChunkAttention
from pipeline.stepaudio.llm.kernels.product import (
    BATCH_TILINGS,
    MOST_ROWS,
    ROW_TILINGS,
    Tiling,
    batch_product,
    row_product,
)
from pipeline.stepaudio.llm.layer import Layer
from pipeline.stepaudio.llm.projection import Projection

logger = logging.getLogger(__name__)

_TIMED_LAYERS = 16  # their weights exceed every cache
_TIMED_RUNS = 3  # of which the fastest counts


@dataclass(frozen=True, slots=True)
class StepSizes:
    """Sizes of the model and the cache."""

    slots: int
    groups: int
    head: int
    capacity: int
    eps: float
    """Epsilon of the norms."""

    @property
    def fit(self) -> bool:
        """Whether the kernels support them."""
        return Attention.fits(self.head, self.capacity)


@dataclass(frozen=True, slots=True)
class Tilings:
    """Tiling of each product of a layer; None is PyTorch's product."""

    qkv: Tiling | None
    out: Tiling | None
    gate_up: Tiling | None
    down: Tiling | None


class FusedStep:
    """Steps and prefill of bfloat16 layers, products in any format.

    A row's bits do not depend on the other rows nor, unless a product is PyTorch's, on their
    number: more than one slot never uses the kernel for one row.
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        embedding: Tensor,
        head: Projection,
        final_gain: Tensor,
        cache: Tensor,
        slopes: Tensor,
        sizes: StepSizes,
    ) -> None:
        """cache: [layers, 2, slots, G, capacity, head]. slopes: float32 (heads,), ≥ 0.

        On a GPU the kernels of the products are chosen, by their times with these layers.
        """
        self._embedding, self._head, self._final_gain = embedding, head, final_gain
        self._cache, self._eps, self._is_single = cache, sizes.eps, sizes.slots == 1
        self._attention = Attention(
            slopes,
            slots=sizes.slots,
            groups=sizes.groups,
            head=sizes.head,
            capacity=sizes.capacity,
        )
        self._chunk_attention = ChunkAttention(
            slopes, groups=sizes.groups, head=sizes.head, capacity=sizes.capacity
        )
        self.tilings = self._choose(layers, sizes.slots)

    def logits(
        self,
        layers: Sequence[Layer],
        tokens: Tensor,
        positions: Tensor,
        first_slot: int,
        n_keys: int,
    ) -> Tensor:
        """A token of each slot from `first_slot` on, int64 (B,) → logits float32 (B, choices).

        positions: int64 (B,); results at `n_keys` and beyond are undefined.
        """
        tilings = self.tilings
        x = functional.embedding(tokens, self._embedding)
        delta = None
        for layer in layers:
            qkv = self._normed(tilings.qkv, layer.qkv, x, layer.input_gain, delta).contiguous()
            kept = self._cache[layer.index]
            attended = self._attention(qkv, kept, positions, first_slot, n_keys)
            delta = self._added(tilings.out, layer.out, attended, x)
            gated = self._gated(tilings.gate_up, layer.gate_up, x, layer.post_gain, delta)
            delta = self._added(tilings.down, layer.down, gated, x)
        # The head is too small to be timed cold; qkv's shape is the next.
        head = tilings.qkv if self._head.weight is not None else None
        return self._normed(head, self._head, x, self._final_gain, delta, torch.float32)

    def prefill(
        self, layers: Sequence[Layer], tokens: Tensor, start: Tensor, slot: Tensor
    ) -> Tensor:
        """Fill a slot's cache with a chunk's keys and values → those of the last layer, in rows.

        tokens: int64 (T,). start, slot: int64 (1,), where the first one goes; rows that would
        stand behind the cache's end leave nothing. So many rows are the library's, every product.
        """
        x = functional.embedding(tokens, self._embedding)
        delta = None
        for layer in layers[:-1]:
            normed = norm(x, layer.input_gain, self._eps, delta)
            qkv = layer.qkv.product(normed).contiguous()
            attended = self._chunk_attention(qkv, self._cache[layer.index], start, slot)
            delta = layer.out.product(attended).contiguous()
            gate_up = layer.gate_up.product(norm(x, layer.post_gain, self._eps, delta))
            delta = layer.down.product(silu_mul(gate_up)).contiguous()
        last = layers[-1]  # nothing reads its output behind the keys and values
        qkv = last.qkv.product(norm(x, last.input_gain, self._eps, delta)).contiguous()
        self._chunk_attention.write(qkv, self._cache[last.index], start, slot)
        return qkv

    def _normed(
        self,
        tiling: Tiling | None,
        projection: Projection,
        x: Tensor,
        gain: Tensor,
        delta: Tensor | None,
        dtype: torch.dtype = torch.bfloat16,
    ) -> Tensor:
        """The product with x normalised; `delta`, if any, is added to x before."""
        weight = projection.weight
        if weight is None or tiling is None:
            return projection.product(norm(x, gain, self._eps, delta)).to(dtype)
        if self._is_single:
            x = x if delta is None else x.add_(delta)
            return row_product(tiling, x, weight, gain=gain, eps=self._eps, dtype=dtype)
        return batch_product(tiling, norm(x, gain, self._eps, delta), weight, dtype=dtype)

    def _gated(
        self,
        tiling: Tiling | None,
        projection: Projection,
        x: Tensor,
        gain: Tensor,
        delta: Tensor | None,
    ) -> Tensor:
        """silu(gate) · up of the product with x normalised, `delta` added to x before."""
        weight = projection.weight
        if weight is None or tiling is None:
            return silu_mul(projection.product(norm(x, gain, self._eps, delta)))
        if self._is_single:
            x = x if delta is None else x.add_(delta)
            return row_product(tiling, x, weight, gain=gain, eps=self._eps, gated=True)
        return batch_product(tiling, norm(x, gain, self._eps, delta), weight, gated=True)

    def _added(
        self, tiling: Tiling | None, projection: Projection, y: Tensor, x: Tensor
    ) -> Tensor | None:
        """Add the product with y to x in place, or return it for the next norm to add."""
        weight = projection.weight
        if weight is None:
            return projection.product(y).contiguous()
        if tiling is None:
            x.addmm_(y, weight.T)
        elif self._is_single:
            row_product(tiling, y, weight, residual=x)
        else:
            batch_product(tiling, y, weight, residual=x)
        return None

    @torch.inference_mode()
    def _choose(self, layers: Sequence[Layer], n_rows: int) -> Tilings:
        """The fastest tilings, or PyTorch; without a GPU, the first one."""
        plain = all(p.weight is not None for layer in layers for p in layer.products)
        if n_rows > MOST_ROWS or not plain:
            return Tilings(None, None, None, None)
        offered = ROW_TILINGS if self._is_single else BATCH_TILINGS
        if self._embedding.device.type != "cuda":
            return Tilings(*offered[:1] * 4)
        timed = layers[:_TIMED_LAYERS]
        sizes = [p.weight.shape[1] for p in timed[0].products if p.weight is not None]
        inputs = [self._embedding.new_empty(n_rows, size).normal_() for size in sizes]
        x = inputs[0].clone()

        def qkv(tiling: Tiling | None, layer: Layer) -> object:
            return self._normed(tiling, layer.qkv, inputs[0], layer.input_gain, None)

        def out(tiling: Tiling | None, layer: Layer) -> object:
            return self._added(tiling, layer.out, inputs[1], x)

        def gate_up(tiling: Tiling | None, layer: Layer) -> object:
            return self._gated(tiling, layer.gate_up, inputs[2], layer.post_gain, None)

        def down(tiling: Tiling | None, layer: Layer) -> object:
            return self._added(tiling, layer.down, inputs[3], x)

        return Tilings(*(_fastest(run, offered, timed) for run in (qkv, out, gate_up, down)))


def _fastest(
    run: Callable[[Tiling | None, Layer], object],
    offered: Sequence[Tiling],
    layers: Sequence[Layer],
) -> Tiling | None:
    """The fastest of PyTorch and the offered tilings; tilings that do not fit are skipped."""
    times_ms: dict[Tiling | None, float] = {}
    for tiling in (None, *offered):

        def run_all(tiling: Tiling | None = tiling) -> None:
            for layer in layers:
                run(tiling, layer)

        try:
            times_ms[tiling] = recorded_ms(run_all) / len(layers)
        except OutOfResources as error:
            logger.info("%s does not fit here: %s", tiling, error)
    chosen = min(times_ms, key=lambda tiling: times_ms[tiling])
    said = ", ".join(f"{_name(tiling)} {ms * 1e3:.1f}" for tiling, ms in times_ms.items())
    logger.info("%s runs as %s; µs: %s", run.__name__, _name(chosen), said)
    return chosen


def recorded_ms(run: Callable[[], None]) -> float:
    """Milliseconds of the kernels that `run` launches, replayed from a CUDA graph."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        run()  # compiles and chooses kernels before the recording
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        run()
    graph.replay()
    times_ms = []
    for _ in range(_TIMED_RUNS):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        graph.replay()
        end.record()
        end.synchronize()
        times_ms.append(start.elapsed_time(end))
    return min(times_ms)


def _name(tiling: Tiling | None) -> str:
    if tiling is None:
        return "library"
    return f"{tiling.n}x{tiling.k}/{tiling.warps}w{tiling.stages}s"
