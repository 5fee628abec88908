# pyright: basic
"""HiFT chunk by chunk: what carries over between chunks, and the fade at their borders.

F0 and phase of everything emitted equal those of the whole utterance.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.stepaudio.vocoder.hift.fourier import FixedFourier
from pipeline.stepaudio.vocoder.hift.generator import Hift

HELD_FRAMES = 8  # newest frames: run, held back, and run again when their future is known
CONTEXT_FRAMES = 8  # emitted frames before those, run again as their past; F0 needs five
FADE_FRAMES = 2  # of the held frames: the first ones, where both runs are still right


@dataclass(frozen=True, slots=True)
class HiftState:
    """Streaming state of one request.

    mel: [1, M, ≤ 16], the frames to run again: context, then held. first_frame: number of the
    first. f0: Hz [1, ≤ 8] of the context frames. cycles: float64 [1, H], phase before the first
    frame, None at the beginning. tail: samples [1, ≤ 2 frames], the start of what is held back.
    """

    mel: Tensor
    first_frame: int
    f0: Tensor
    cycles: Tensor | None
    tail: Tensor

    @classmethod
    def start(cls, mel: Tensor) -> HiftState:
        """State before the first chunk; `mel` gives bins, device and type."""
        return cls(mel[:, :, :0], 0, mel[:, 0, :0], None, mel[:, 0, :0])


def decode_chunk(
    hift: Hift, mel: Tensor, state: HiftState, seed: int, *, last: bool
) -> tuple[Tensor, HiftState]:
    """Samples that are final now, and the next state.

    mel: [1, M, T] with T ≥ 1. Unless `last`, the newest HELD_FRAMES are held back. Returns samples
    [1, L] and the state; over all chunks L adds up to samples_per_frame for every frame.
    """
    return advance(hift, mel, state, chunk_noise(hift, mel, state, seed), last=last)


def chunk_noise(hift: Hift, mel: Tensor, state: HiftState, seed: int) -> Tensor:
    """The source's noise for a chunk and what is run again before it."""
    n_frames = state.mel.shape[2] + mel.shape[2]
    return hift.m_source.noise(seed, state.first_frame, n_frames)


def advance(
    hift: Hift,
    mel: Tensor,
    state: HiftState,
    noise: Tensor,
    *,
    last: bool,
    fourier: FixedFourier | None = None,
) -> tuple[Tensor, HiftState]:
    """`decode_chunk` with its noise given, for B streams at equal sizes: all tensors are [B, ...].

    The next state's `first_frame` follows the given one's. fourier: see `Hift.decode`; with it,
    nothing here waits for the device.
    """
    mel = torch.cat((state.mel, mel), dim=2)
    n_frames, n_done = mel.shape[2], state.f0.shape[1]
    f0 = torch.cat((state.f0, hift.f0_predictor(mel)[:, n_done:]), dim=1)
    source = hift.m_source
    size = source.samples_per_frame
    excitation = source(f0, noise, state.cycles)
    n_held = 0 if last else min(HELD_FRAMES, n_frames - n_done)
    n_final = n_frames - n_held
    wanted = range(n_done, min(n_final + FADE_FRAMES, n_frames))
    samples = cross_fade(state.tail, hift.decode(mel, excitation, fourier, wanted))
    start = max(0, n_final - CONTEXT_FRAMES)
    border = (n_final - n_done) * size
    n_fade = FADE_FRAMES * size if border else 0  # before anything is emitted nothing can jump
    cycles = source.cycles(f0, state.cycles)[:, start - 1].clone() if start else state.cycles
    next_state = HiftState(
        mel[:, :, start:].clone(),
        state.first_frame + start,
        f0[:, start:n_final].clone(),
        cycles,
        samples[:, border : border + n_fade].clone(),
    )
    return samples[:, :border], next_state


def cross_fade(old: Tensor, new: Tensor) -> Tensor:
    """[B, n] fades out while the start of [B, L ≥ n] fades in.

    A Hamming window without its pedestal: weights add up to one and vanish at the ends, so neither
    level nor waveform jumps. The reference's bare Hamming halves add up to 1.08.
    """
    n = old.shape[1]
    if n == 0:
        return new
    ramp = (torch.arange(n, device=new.device, dtype=new.dtype) + 0.5) / n
    weight = 0.5 - 0.5 * torch.cos(torch.pi * ramp)
    return torch.cat((old + weight * (new[:, :n] - old), new[:, n:]), dim=1)
