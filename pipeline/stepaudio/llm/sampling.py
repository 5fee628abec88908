# pyright: basic
"""Drawing the next audio token: temperature, top-k, top-p, repetition rule, grammar of groups.

A draw depends on its logits, history and seed alone.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pipeline.contracts import Int32Array, Sampling, Warping
from pipeline.errors import UnsupportedError
from pipeline.stepaudio.tokens import AUDIO_TOKENS, GROUP_TOKENS, VQ02_CODES, is_vq02_position
from pipeline.stepaudio.triton_kernels import has_kernels

_SEED_MASK = 2**64 - 1
_UNIFORMS_PER_BLOCK = 64
_NO_BAN = -1
_MAX_TOP_K = 2**31 - 1  # an int32
# Rows of the mask table.
_FREE, _VQ02, _VQ02_OR_STOP, _VQ06 = range(4)


@dataclass(frozen=True, slots=True)
class AudioVocabulary:
    """The tokens that the model may answer with.

    A choice counts from 0: audio tokens first, the stop after them.
    """

    audio_base: int
    """Model id of `<audio_0>`."""
    stop_id: int
    """Model id that ends an answer."""
    audio_tokens: int = AUDIO_TOKENS
    """How many audio tokens."""

    @property
    def stop(self) -> int:
        """The choice that ends an answer."""
        return self.audio_tokens

    def model_id(self, choice: int) -> int:
        """The model's id of a choice."""
        return self.stop_id if choice == self.stop else self.audio_base + choice

    def choice(self, model_id: int) -> int | None:
        """The choice of a model id, if it is one."""
        if model_id == self.stop_id:
            return self.stop
        choice = model_id - self.audio_base
        return choice if 0 <= choice < self.audio_tokens else None


@dataclass(frozen=True, slots=True)
class DrawRow:
    """Inputs of one draw besides the logits."""

    temperature: float
    top_p: float
    top_k: int
    uniform: float
    """In [0, 1)."""
    mask: int
    """Row of the grammar's mask table."""
    banned: int
    """A choice, or −1."""


def require_valid(sampling: Sampling) -> None:
    """Raises UnsupportedError naming the field, its value and the allowed range."""
    limits = (
        *warping_limits(sampling.warping()),
        (
            "max_tokens",
            sampling.max_tokens,
            sampling.max_tokens >= GROUP_TOKENS,
            f"{GROUP_TOKENS} (one group) or more",
        ),
        (
            "repetition_window",
            sampling.repetition_window,
            sampling.repetition_window >= 0,
            "0 (off) or more",
        ),
    )
    for name, value, allowed, words in limits:
        if not allowed:
            raise UnsupportedError(f"{name} is {value}, allowed: {words}", param=name)


def warping_limits(warping: Warping) -> tuple[tuple[str, float, bool, str], ...]:
    """(name, value, whether it is allowed, what is allowed) of each field."""
    w = warping
    return (
        ("temperature", w.temperature, 0.0 <= w.temperature < np.inf, "0 or more"),
        ("top_p", w.top_p, 0.0 < w.top_p <= 1.0, "above 0, at most 1"),
        ("top_k", w.top_k, w.top_k >= 0, "0 (off) or more"),
    )


class DrawState:
    """One request's history and random numbers.

    `row` gives the inputs of the next draw, `accept` adds the drawn token.
    """

    def __init__(self, sampling: Sampling, vocabulary: AudioVocabulary, prompt: Int32Array) -> None:
        self._sampling, self._vocabulary = sampling, vocabulary
        self._warping = sampling.warping()
        window = sampling.repetition_window
        self._recent: deque[int] = deque(prompt[-window:].tolist() if window else [], window)
        self._random = np.random.Generator(np.random.Philox(sampling.seed & _SEED_MASK))
        self._uniforms: list[float] = []
        self._n_drawn = 0

    def row(self) -> DrawRow:
        """Inputs of the next draw. Consumes one random number at any temperature."""
        if not self._uniforms:
            self._uniforms = self._random.random(_UNIFORMS_PER_BLOCK).tolist()[::-1]
        w = self._warping
        return DrawRow(
            w.temperature, w.top_p, w.top_k, self._uniforms.pop(), self._mask(), self._banned()
        )

    def accept(self, choice: int) -> None:
        """Add a drawn audio token to the history."""
        self._recent.append(self._vocabulary.model_id(choice))
        self._n_drawn += 1

    def _mask(self) -> int:
        """The grammar: 0, 1 of a group are vq02, 2 to 4 vq06; a stop follows a whole group."""
        if not self._sampling.grammar:
            return _FREE
        if not is_vq02_position(self._n_drawn):
            return _VQ06
        return _VQ02_OR_STOP if self._n_drawn and self._n_drawn % GROUP_TOKENS == 0 else _VQ02

    def _banned(self) -> int:
        """The repetition rule: bans the last token if it occurs twice in a full window.

        The window covers prompt and answer.
        """
        recent = self._recent
        if (
            not recent
            or len(recent) < self._sampling.repetition_window
            or recent.count(recent[-1]) == 1
        ):
            return _NO_BAN
        choice = self._vocabulary.choice(recent[-1])
        return _NO_BAN if choice is None else choice


class Sampler:
    """Draws for many rows at once on the device of the logits, with one transfer back."""

    def __init__(
        self, vocabulary: AudioVocabulary, device: torch.device, *, fused: bool | None = None
    ) -> None:
        """fused: one kernel for the whole draw; None: on GPUs that support it."""
        allowed = torch.zeros(4, vocabulary.audio_tokens + 1, dtype=torch.bool)
        allowed[_FREE] = True
        allowed[[_VQ02, _VQ02_OR_STOP], :VQ02_CODES] = True
        allowed[_VQ02_OR_STOP, vocabulary.stop] = True
        allowed[_VQ06, VQ02_CODES : vocabulary.audio_tokens] = True
        self._masks = torch.zeros(allowed.shape).masked_fill_(~allowed, -torch.inf).to(device)
        self._device = device
        self._fused: Callable[[Tensor, Sequence[Sequence[float]]], list[int]] | None = None
        if has_kernels(device) if fused is None else fused:
            from pipeline.stepaudio.llm.kernels.draw import DrawKernel

            self._fused = DrawKernel(self._masks)

    @torch.inference_mode()
    def draw(
        self, logits: Tensor, rows: Sequence[DrawRow], places: Sequence[int] | None = None
    ) -> list[int]:
        """float32 (n, audio + stop) and n rows → n choices; −1 where the logits are not finite.

        places: index of each row in `logits`, if there are more logits than rows.
        """
        if self._fused is not None:
            return self._fused(
                logits, _controls(rows, range(len(rows)) if places is None else places)
            )
        if places is not None and len(places) < len(logits):
            logits = logits[torch.tensor(places, device=logits.device)]
        numbers = [(r.temperature or 1.0, r.uniform) for r in rows]
        controls = torch.tensor(numbers, dtype=torch.float64).to(self._device)
        picks = torch.tensor([(r.mask, max(r.banned, 0), r.banned) for r in rows]).to(self._device)
        masks = self._masks.index_select(0, picks[:, 0])
        logits = torch.addcdiv(masks, logits, controls[:, :1].to(logits.dtype))
        if any(row.banned != _NO_BAN for row in rows):
            ban = torch.where(picks[:, 2:] >= 0, -torch.inf, 0.0)
            logits.scatter_add_(1, picks[:, 1:2], ban)
        is_greedy = [row.temperature == 0 for row in rows]
        if all(is_greedy):
            return _chosen(*logits.max(1)[::-1])
        choices, mass = _inverse_cdf(self._probabilities(logits, rows), controls[:, 1:])
        if any(is_greedy):
            greedy = torch.tensor(is_greedy).to(self._device)
            choices = torch.where(greedy, logits.argmax(1), choices)
        return _chosen(choices, mass)

    def _probabilities(self, logits: Tensor, rows: Sequence[DrawRow]) -> Tensor:
        """Of logits over temperature: top-k, then top-p.

        A row without truncation is not changed by it.
        """
        widest = max(row.top_k for row in rows)
        if widest:
            best = logits.topk(min(widest, logits.shape[1]), dim=1).values
            last = (
                torch.tensor([min(r.top_k, best.shape[1]) or 1 for r in rows]).to(self._device) - 1
            )
            floor = best.gather(1, last[:, None])
            off = torch.tensor([[r.top_k == 0] for r in rows]).to(self._device)
            logits = logits.masked_fill((logits < floor) & ~off, -torch.inf)
        probabilities = logits.softmax(1)
        if any(row.top_p < 1 for row in rows):
            top_p = torch.tensor([[r.top_p] for r in rows], dtype=torch.float64).to(self._device)
            ordered = probabilities.sort(1, descending=True).values
            before = ordered.double().cumsum(1) - ordered  # mass above each
            floor = ordered.masked_fill(before >= top_p, torch.inf).amin(1, keepdim=True)
            probabilities = probabilities.masked_fill((probabilities < floor) & (top_p < 1), 0.0)
        return probabilities


def _controls(rows: Sequence[DrawRow], places: Sequence[int]) -> list[tuple[float, ...]]:
    """Rows in the kernel's layout."""
    return [
        (
            r.temperature or 1.0,
            r.uniform,
            r.top_p,
            min(r.top_k, _MAX_TOP_K),
            r.mask,
            r.banned,
            r.temperature == 0,
            place,
        )
        for r, place in zip(rows, places, strict=True)
    ]


def _chosen(choices: Tensor, certain: Tensor) -> list[int]:
    """int64 (n,) → the host, −1 where `certain` (n,) is not finite. One transfer."""
    both = torch.stack([choices.double(), certain.double()]).tolist()
    return [int(c) if math.isfinite(x) else -1 for c, x in zip(*both, strict=True)]


def _inverse_cdf(probabilities: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
    """The first choice whose cumulated mass exceeds uniform [n, 1] of the whole; that whole.

    int64 (n,), float64 (n,): not finite where a probability is not.
    """
    mass = probabilities.cumsum(1, dtype=torch.float64)
    whole = mass[:, -1:]
    return torch.searchsorted(mass, uniform * whole, right=True)[:, 0], whole[:, 0]
