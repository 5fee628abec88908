# pyright: basic
"""A layer of Step1 as steps and prefills run it: packed products and gains."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from pipeline.stepaudio.llm.projection import Projection


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """One block: packed products and norm gains."""

    index: int
    """Its layer of the cache."""
    qkv: Projection
    """The gain before it includes its scale."""
    out: Projection
    gate_up: Projection
    """The gain before it includes its scale."""
    down: Projection
    input_gain: Tensor
    post_gain: Tensor

    @property
    def products(self) -> tuple[Projection, Projection, Projection, Projection]:
        """All four products, in order of execution."""
        return self.qkv, self.out, self.gate_up, self.down

    @property
    def kernels(self) -> tuple[str, ...]:
        """Names of the functions that compute its products."""
        return tuple(projection.product.__qualname__ for projection in self.products)
