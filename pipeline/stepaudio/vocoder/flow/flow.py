# pyright: basic
"""Token rows → mel: embedding, encoder, and the Euler solver around the estimator.

A request's streaming state is a FlowCache value, passed in and returned; modules never hold it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.stepaudio.config import MEL_RATE_HZ, EstimatorConfig, VocoderConfig
from pipeline.stepaudio.vocoder.flow.conformer import (
    ConformerCache,
    ConformerEncoder,
    StackedCache,
)
from pipeline.stepaudio.vocoder.flow.dit import BlockCache, Estimator, Modulation, Retention

NOISE_FRAMES = 600 * MEL_RATE_HZ  # the fixed noise repeats after ten minutes
DEFAULT_STEPS = 10
DEFAULT_SEED = 0

StepCaches = Sequence[tuple[BlockCache, ...]]  # [step][block]
Encoded = ConformerCache | StackedCache  # the encoder's past of one stream


def no_check() -> None:
    """The solver's default `on_step`: go on."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """Euler steps on a cosine grid.

    step_sizes: one per step. modulations: what each step does to the estimator's blocks.
    """

    step_sizes: tuple[float, ...]
    modulations: tuple[Modulation, ...]


@dataclass(frozen=True, slots=True)
class FlowCache:
    """Streaming state of one request.

    encoder: caches of the conformer. estimator: caches of each block at each Euler step, guided
    and unguided row. n_frames: mel frames made so far, the prompt's included. prompt_frames: how
    many of them are the prompt's.
    """

    encoder: Encoded
    estimator: StepCaches
    n_frames: int
    prompt_frames: int


@dataclass(frozen=True, slots=True)
class StreamPast:
    """One stream before a chunk: its fixed noise's next frame, and its past as the solver sees it.

    caches, retention: see `FlowMatching.forward`.
    """

    first_frame: int
    caches: StepCaches
    retention: Retention | None


class RecordedSolver(Protocol):
    """The solver on static tensors, see `step_records`."""

    def __call__(
        self,
        noise: Tensor,
        condition: Tensor,
        schedule: Schedule,
        streams: Sequence[StreamPast],
        on_step: Callable[[], None],
    ) -> tuple[Tensor, list[StepCaches]] | None:
        """See `FlowMatching.replayed`. noise: [B, M, T]."""
        ...


class RecordedEncoder(Protocol):
    """The encoder on static tensors, see `encoder_records`."""

    def __call__(
        self, rows: Tensor, ahead: Tensor | None, caches: Sequence[Encoded]
    ) -> tuple[Tensor, list[Encoded]] | None:
        """See `Flow.encoded`; None where nothing is recorded for such chunks."""
        ...


class DualCodebookEmbedding(nn.Module):
    """Rows of two codes → two embeddings from one table, side by side."""

    def __init__(self, vocab_size: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, width // 2)

    def forward(self, rows: Tensor) -> Tensor:
        """rows: int64 [B, T, 2] → [B, T, D]"""
        return self.embedding(rows).flatten(-2)


class FlowMatching(nn.Module):
    """Euler solver with classifier-free guidance.

    Both guidance rows go through the estimator as one batch.
    """

    noise: Tensor

    def __init__(self, config: EstimatorConfig, guidance: float, seed: int) -> None:
        super().__init__()
        self.estimator = Estimator(config)
        self.guidance = guidance
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn(1, config.out_channels, NOISE_FRAMES, generator=generator)
        self.register_buffer("noise", noise, persistent=False)
        self.recorded: RecordedSolver | None = None

    def schedule(self, n_steps: int) -> Schedule:
        """The grid t = 1 - cos(π s / 2) with n_steps steps.

        Make it once, after the weights are loaded.
        """
        grid = 1 - torch.cos(torch.linspace(0, 1, n_steps + 1) * 0.5 * torch.pi)
        times = grid[:-1].to(self.noise)
        sizes = (grid[1:] - grid[:-1]).tolist()
        return Schedule(tuple(sizes), self.estimator.modulations(times))

    def forward(
        self,
        condition: Tensor,
        schedule: Schedule,
        *,
        first_frame: int | Sequence[int] = 0,
        caches: Sequence[tuple[BlockCache, ...]] | None = None,
        keep: bool = False,
        retention: Retention | None = None,
        visible: Tensor | None = None,
        on_step: Callable[[], None] = no_check,
    ) -> tuple[Tensor, StepCaches]:
        """From the fixed noise to a mel.

        condition: [B, 3M, T], mu, speaker and prompt mel stacked; the unguided row sees zeros in
        their place. first_frame: where in the fixed noise to start, for all or for each. caches,
        retention: the past, and how much of it to see. visible: bool [B, past + T], which frames
        exist. keep: return the caches for the next chunk, else none. on_step: called before each
        step; what it raises ends the work. Returns [B, M, T] and the caches.
        """
        n_batch, _, n_frames = condition.shape
        guided = torch.cat((condition, torch.zeros_like(condition)))
        if isinstance(first_frame, int):
            x = self.noise_at(first_frame, n_frames).expand(n_batch, -1, -1)
        else:
            x = torch.cat([self.noise_at(first, n_frames) for first in first_frame])
        twice = None if visible is None else visible.repeat(2, 1)
        kept: list[tuple[BlockCache, ...]] = []
        for i, (size, modulation) in enumerate(
            zip(schedule.step_sizes, schedule.modulations, strict=True)
        ):
            on_step()
            stacked = torch.cat((x.repeat(2, 1, 1), guided), dim=1)
            past = None if caches is None else caches[i]
            velocity, new_caches = self.estimator(stacked, modulation, past, retention, twice)
            with_condition, without = velocity.chunk(2)
            x = x + size * ((1 + self.guidance) * with_condition - self.guidance * without)
            if keep:
                kept.append(new_caches)
        return x, tuple(kept)

    def replayed(
        self,
        condition: Tensor,
        schedule: Schedule,
        streams: Sequence[StreamPast],
        on_step: Callable[[], None] = no_check,
    ) -> tuple[Tensor, list[StepCaches]] | None:
        """`forward` for chunks of B streams, from recorded steps: mels and each one's next caches.

        None where none are recorded for such streams; `forward` is to be called then.
        """
        if self.recorded is None or not streams:
            return None
        noise = torch.cat([self.noise_at(s.first_frame, condition.shape[2]) for s in streams])
        return self.recorded(noise, condition, schedule, streams, on_step)

    def noise_at(self, first_frame: int, n_frames: int) -> Tensor:
        """[1, M, n_frames] of the fixed noise, repeating past its end."""
        index = torch.arange(first_frame, first_frame + n_frames, device=self.noise.device)
        return self.noise[:, :, index % self.noise.shape[2]]


class Flow(nn.Module):
    """Token rows, a speaker and a prompt → mel frames, whole or chunk by chunk."""

    def __init__(self, config: VocoderConfig, seed: int = DEFAULT_SEED) -> None:
        super().__init__()
        flow = config.flow
        self.lookahead_rows = config.encoder.pre_lookahead_len
        self.frames_per_row = config.encoder.up_stride
        self.n_mels = flow.output_size
        self.input_embedding = DualCodebookEmbedding(flow.vocab_size, flow.input_size)
        self.spk_embed_affine_layer = nn.Linear(flow.spk_embed_dim, flow.output_size)
        self.encoder = ConformerEncoder(config.encoder)
        self.encoder_proj = nn.Linear(config.encoder.output_size, flow.output_size)
        self.decoder = FlowMatching(config.estimator, config.inference_cfg_rate, seed)
        self.recorded: RecordedEncoder | None = None

    def schedule(self, n_steps: int = DEFAULT_STEPS) -> Schedule:
        """Euler schedule for `inference`, `setup_cache` and `inference_chunk`."""
        return self.decoder.schedule(n_steps)

    def mu(
        self,
        rows: Tensor,
        ahead: Tensor | None = None,
        cache: ConformerCache | None = None,
        visible: Tensor | None = None,
    ) -> tuple[Tensor, ConformerCache]:
        """What the solver is conditioned on, and the encoder's cache for the next chunk.

        rows: int64 [B, T, 2] → [B, T * frames_per_row, M]. visible: bool [B, cached + T].
        """
        embedded_ahead = None if ahead is None else self.input_embedding(ahead)
        hidden, new_cache = self.encoder(self.input_embedding(rows), embedded_ahead, cache, visible)
        return self.encoder_proj(hidden), new_cache

    def encoded(
        self, rows: Tensor, ahead: Tensor | None, cache: Encoded | None
    ) -> tuple[Tensor, Encoded]:
        """`mu` of one stream's chunk, replayed where it is recorded.

        The result is good until the next call.
        """
        if self.recorded is not None and cache is not None:
            replayed = self.recorded(rows, ahead, [cache])
            if replayed is not None:
                return replayed[0], replayed[1][0]
        return self.mu(rows, ahead, by_block(cache))

    def inference(
        self,
        rows: Tensor,
        prompt_rows: Tensor,
        prompt_mel: Tensor,
        embedding: Tensor,
        schedule: Schedule,
        on_step: Callable[[], None] = no_check,
    ) -> Tensor:
        """A whole utterance at once.

        rows: int64 [B, T, 2]; prompt_rows: int64 [B, P, 2]; prompt_mel, see `stretch_mel`:
        [B, P * frames_per_row, M]; embedding: [B, 192], of any length but zero.
        Returns the mel without the prompt, [B, M, T * frames_per_row].
        """
        mu, _ = self.mu(torch.cat((prompt_rows, rows), dim=1))
        condition = self.condition(mu, embedding, prompt_mel)
        mel, _ = self.decoder(condition, schedule, on_step=on_step)
        return mel[:, :, prompt_mel.shape[1] :]

    def setup_cache(
        self,
        prompt_rows: Tensor,
        ahead: Tensor | None,
        prompt_mel: Tensor,
        embedding: Tensor,
        schedule: Schedule,
        on_step: Callable[[], None] = no_check,
        into: StepCaches | None = None,
    ) -> FlowCache:
        """Run the prompt through, so that chunks can follow it.

        ahead: int64 [B, A, 2], the first rows to speak, as many as the lookahead; None runs the
        prompt on its own, as an utterance that ends there. into: caches of
        no frames yet that take the prompt's, see `cache_slab`. Other arguments as for `inference`.
        """
        mu, encoder = self.mu(prompt_rows, ahead)
        condition = self.condition(mu, embedding, prompt_mel)
        empty = [] if into is None else [StreamPast(0, into, None)]
        replayed = self.decoder.replayed(condition, schedule, empty, on_step)
        if replayed is not None:
            _, (estimator,) = replayed
        else:
            _, estimator = self.decoder(
                condition, schedule, caches=into, keep=True, on_step=on_step
            )
        return FlowCache(encoder, estimator, mu.shape[1], mu.shape[1])

    def inference_chunk(
        self,
        rows: Tensor,
        ahead: Tensor | None,
        embedding: Tensor,
        cache: FlowCache | None,
        schedule: Schedule,
        recent_frames: int | None = None,
        on_step: Callable[[], None] = no_check,
    ) -> tuple[Tensor, FlowCache]:
        """The next chunk of an utterance.

        rows: int64 [B, T, 2] to speak now; ahead: the rows after them, None at the end; cache:
        None without a prompt. recent_frames: the estimator sees the prompt and so many frames
        before the chunk, None for all of them.
        Returns the mel [B, M, T * frames_per_row] and the cache for the next chunk.
        """
        mu, encoder = self.encoded(rows, ahead, cache and cache.encoder)
        condition = self.condition(mu, embedding, mu[:, :0])
        done, prompt = (cache.n_frames, cache.prompt_frames) if cache else (0, 0)
        retention = None if recent_frames is None else Retention(prompt, recent_frames)
        past = [StreamPast(done, cache.estimator, retention)] if cache else []
        replayed = self.decoder.replayed(condition, schedule, past, on_step)
        if replayed is not None:
            mel, (estimator,) = replayed
        else:
            mel, estimator = self.decoder(
                condition,
                schedule,
                first_frame=done,
                caches=cache and cache.estimator,
                keep=True,
                retention=retention,
                on_step=on_step,
            )
        return mel, FlowCache(encoder, estimator, done + mu.shape[1], prompt)

    def condition(self, mu: Tensor, embedding: Tensor, prompt_mel: Tensor) -> Tensor:
        """What the estimator sees besides the noisy mel.

        mu [B, T, M], embedding [B, 192], prompt_mel [B, P, M] → [B, 3M, T]. The mel is zero after
        the prompt.
        """
        n_frames = mu.shape[1]
        assert prompt_mel.shape[1] <= n_frames, (
            "prompt mel and prompt rows must cover the same time"
        )
        speaker = self.spk_embed_affine_layer(F.normalize(embedding, dim=1))
        speaker = speaker[:, None].expand(-1, n_frames, -1)
        mel = F.pad(prompt_mel, (0, 0, 0, n_frames - prompt_mel.shape[1]))
        return torch.cat((mu, speaker, mel), dim=2).transpose(1, 2)


def by_block(cache: Encoded | None) -> ConformerCache | None:
    """The encoder's past as it takes it."""
    return cache.by_block() if isinstance(cache, StackedCache) else cache


def stretch_mel(mel: Tensor, n_frames: int) -> Tensor:
    """Nearest-neighbour stretch in time, as the model was trained with.

    mel: [B, T, M] → [B, n_frames, M].
    """
    return F.interpolate(mel.transpose(1, 2), size=n_frames, mode="nearest").transpose(1, 2)
