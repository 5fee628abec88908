# pyright: basic
"""A codebook, initialised by k-means and updated by moving averages of its vectors."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

DECAY = 0.985
COMMITMENT = 0.25
DEAD = 0.02  # a code with fewer vectors a step is replaced by a current vector


class Quantizer(nn.Module):
    """`codebook`: [K, D].

    `usage`, `total`: moving averages of the number and the sum of the vectors of each code.
    """

    codebook: Tensor
    usage: Tensor
    total: Tensor
    is_ready: Tensor

    def __init__(self, n_codes: int, width: int) -> None:
        super().__init__()
        self.register_buffer("codebook", torch.zeros(n_codes, width))
        self.register_buffer("usage", torch.ones(n_codes))
        self.register_buffer("total", torch.zeros(n_codes, width))
        self.register_buffer("is_ready", torch.zeros((), dtype=torch.bool))

    @torch.no_grad()
    def start(self, vectors: Tensor, iterations: int, generator: torch.Generator) -> None:
        """k-means over vectors [N, D]; empty clusters restart at random vectors."""
        n_codes = len(self.codebook)
        chosen = torch.randperm(len(vectors), generator=generator)[:n_codes]
        codebook = vectors[chosen].clone()
        for _ in range(iterations):
            nearest = self._nearest(vectors, codebook)
            counts = torch.bincount(nearest, minlength=n_codes)
            sums = torch.zeros_like(codebook).index_add_(0, nearest, vectors)
            codebook = sums / counts.clamp(min=1)[:, None]
            empty = counts == 0
            fresh = torch.randint(len(vectors), (int(empty.sum()),), generator=generator)
            codebook[empty] = vectors[fresh]
        self.codebook.copy_(codebook)
        self.usage.fill_(1.0)
        self.total.copy_(codebook)
        self.is_ready.fill_(True)

    def codes(self, vectors: Tensor) -> Tensor:
        """[N, D] → int64 [N]"""
        return self._nearest(vectors, self.codebook)

    def forward(self, vectors: Tensor, move: bool = True) -> tuple[Tensor, Tensor]:
        """[N, D] → the same on its codes, gradients passed straight through.

        Also returns the commitment loss.
        """
        nearest = self.codes(vectors.detach())
        if move:
            self._follow(vectors.detach(), nearest)
        chosen = self.codebook[nearest]
        commitment = COMMITMENT * F.mse_loss(vectors, chosen)
        return vectors + (chosen - vectors).detach(), commitment

    @torch.no_grad()
    def _follow(self, vectors: Tensor, nearest: Tensor) -> None:
        counts = torch.bincount(nearest, minlength=len(self.codebook)).to(vectors.dtype)
        sums = torch.zeros_like(self.total).index_add_(0, nearest, vectors)
        self.usage.lerp_(counts, 1 - DECAY)
        self.total.lerp_(sums, 1 - DECAY)
        dead = self.usage < DEAD
        if dead.any():
            fresh = torch.randint(len(vectors), (int(dead.sum()),), device=vectors.device)
            self.total[dead] = vectors[fresh]
            self.usage[dead] = 1.0
        self.codebook.copy_(self.total / self.usage[:, None])

    @staticmethod
    def _nearest(vectors: Tensor, codebook: Tensor) -> Tensor:
        return (codebook.square().sum(1) - 2 * vectors @ codebook.T).argmin(1)
