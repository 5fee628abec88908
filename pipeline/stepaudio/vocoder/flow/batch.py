# pyright: basic
"""Several utterances, or chunks of several streams, through the flow as one batch.

Lengths may differ: sequences are padded, and masks hide the padding.
Equal to one at a time within rounding, not bit for bit: matrix products of other sizes sum in
another order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.stepaudio.vocoder.flow.conformer import ConformerCache, KeyValue
from pipeline.stepaudio.vocoder.flow.dit import BlockCache, Retention
from pipeline.stepaudio.vocoder.flow.flow import (
    Encoded,
    Flow,
    FlowCache,
    Schedule,
    StepCaches,
    StreamPast,
    by_block,
    no_check,
)


@dataclass(frozen=True, slots=True)
class WholeUtterance:
    """Arguments of `Flow.inference` for one utterance; every tensor has batch size one."""

    rows: Tensor
    prompt_rows: Tensor
    prompt_mel: Tensor
    embedding: Tensor


@dataclass(frozen=True, slots=True)
class StreamChunk:
    """Arguments of `Flow.inference_chunk` for one stream; every tensor has batch size one."""

    rows: Tensor
    ahead: Tensor
    embedding: Tensor
    cache: FlowCache


def inference_batch(
    flow: Flow,
    utterances: Sequence[WholeUtterance],
    schedule: Schedule,
    on_step: Callable[[], None] = no_check,
) -> list[Tensor]:
    """Whole utterances of any lengths. Returns one mel each, as `Flow.inference` does."""
    rows = [torch.cat((u.prompt_rows, u.rows), dim=1) for u in utterances]
    lengths = [row.shape[1] for row in rows]
    longest, per_row = max(lengths), flow.frames_per_row
    visible = _visible([(0, length) for length in lengths], longest, rows[0].device)
    padded = torch.cat([F.pad(row, (0, 0, 0, longest - row.shape[1])) for row in rows])
    mu, _ = flow.mu(padded, visible=visible)
    prompt_mel = torch.cat(
        [F.pad(u.prompt_mel, (0, 0, 0, mu.shape[1] - u.prompt_mel.shape[1])) for u in utterances]
    )
    embedding = torch.cat([u.embedding for u in utterances])
    mel, _ = flow.decoder(
        flow.condition(mu, embedding, prompt_mel),
        schedule,
        visible=_per_frame(visible, per_row),
        on_step=on_step,
    )
    return [
        mel[i : i + 1, :, u.prompt_mel.shape[1] : length * per_row]
        for i, (u, length) in enumerate(zip(utterances, lengths, strict=True))
    ]


def inference_chunks(
    flow: Flow,
    chunks: Sequence[StreamChunk],
    schedule: Schedule,
    recent_frames: int | None = None,
    on_step: Callable[[], None] = no_check,
) -> list[tuple[Tensor, FlowCache]]:
    """One chunk of every stream; all have as many rows and as many rows ahead.

    Returns mel and next cache each, as `Flow.inference_chunk` does. Estimator caches are joined for
    one step at a time and split again at once, so each stream's stays where it was.
    """
    caches = [chunk.cache for chunk in chunks]
    mu, encoders = _encoded(flow, chunks)
    condition = flow.condition(mu, torch.cat([chunk.embedding for chunk in chunks]), mu[:, :0])
    mel, estimators = _solved(flow, condition, schedule, caches, recent_frames, on_step)
    return [
        (
            mel[i : i + 1],
            FlowCache(
                encoders[i],
                estimators[i],
                cache.n_frames + mu.shape[1],
                cache.prompt_frames,
            ),
        )
        for i, cache in enumerate(caches)
    ]


def _encoded(flow: Flow, chunks: Sequence[StreamChunk]) -> tuple[Tensor, Sequence[Encoded]]:
    """`Flow.encoded` of several streams: mu [B, frames, M] and every stream's next past."""
    rows = torch.cat([chunk.rows for chunk in chunks])
    ahead = torch.cat([chunk.ahead for chunk in chunks])
    caches = [chunk.cache.encoder for chunk in chunks]
    if flow.recorded is not None and (replayed := flow.recorded(rows, ahead, caches)) is not None:
        return replayed
    known = [by_block(cache) for cache in caches]
    joined, cached_rows = _join_encoder([cache for cache in known if cache is not None])
    n_rows, widest = rows.shape[1], max(cached_rows)
    spans = [(widest - n, widest + n_rows) for n in cached_rows]
    mu, after = flow.mu(rows, ahead, joined, _visible(spans, widest + n_rows, rows.device))
    return mu, [
        _one_encoder(after, i, widest - n, flow.frames_per_row) for i, n in enumerate(cached_rows)
    ]


def _solved(
    flow: Flow,
    condition: Tensor,
    schedule: Schedule,
    caches: Sequence[FlowCache],
    recent_frames: int | None,
    on_step: Callable[[], None],
) -> tuple[Tensor, list[StepCaches]]:
    """Mels [B, M, T] and every stream's next estimator caches."""
    past = _JoinedSteps(caches, recent_frames)
    replayed = flow.decoder.replayed(condition, schedule, past.streams, on_step)
    if replayed is not None:
        return replayed
    n_frames, furthest = condition.shape[2], max(past.n_kept)
    frame_mask = _visible(
        [(furthest - n, furthest + n_frames) for n in past.n_kept],
        furthest + n_frames,
        condition.device,
    )
    mel, steps = flow.decoder(
        condition,
        schedule,
        first_frame=[cache.n_frames for cache in caches],
        caches=past,
        keep=True,
        visible=frame_mask,
        on_step=on_step,
    )
    n_streams = range(len(caches))
    return mel, [tuple(tuple(split[i] for split in step) for step in steps) for i in n_streams]


class _JoinedSteps(Sequence[tuple[BlockCache, ...]]):
    """The streams' estimator caches as one batch, joined step by step as the solver asks for them.

    n_kept: cached frames that each stream still sees. Shorter pasts are padded in front.
    """

    def __init__(self, caches: Sequence[FlowCache], recent_frames: int | None) -> None:
        self._caches = caches
        self._retentions = [
            None if recent_frames is None else Retention(cache.prompt_frames, recent_frames)
            for cache in caches
        ]
        firsts = [_kept(c.estimator[0][0].keys, r) for c, r in self._pairs(caches)]
        self.n_kept = [sum(part.shape[2] for part in parts) for parts in firsts]

    @property
    def streams(self) -> list[StreamPast]:
        """Each one's own past."""
        return [StreamPast(c.n_frames, c.estimator, r) for c, r in self._pairs(self._caches)]

    def _pairs(self, values: Sequence[FlowCache]) -> Iterator[tuple[FlowCache, Retention | None]]:
        return zip(values, self._retentions, strict=True)

    def __len__(self) -> int:
        return len(self._caches[0].estimator)

    def __getitem__(self, step: int) -> tuple[BlockCache, ...]:  # pyright: ignore[reportIncompatibleMethodOverride] the solver takes no slices
        blocks = zip(*(cache.estimator[step] for cache in self._caches), strict=True)
        return tuple(self._join(block) for block in blocks)

    def _join(self, blocks: Sequence[BlockCache]) -> BlockCache:
        return _JoinedBlock(
            self._joined([block.keys for block in blocks]),
            self._joined([block.values for block in blocks]),
            _interleaved([block.conv_in for block in blocks]),
            _interleaved([block.conv_out for block in blocks]),
            tuple(blocks),
            tuple(self._retentions),
        )

    def _joined(self, cached: Sequence[Tensor]) -> Tensor:
        """[2, H, T, C] each → [2B, H, longest, C], padded in front."""
        n_streams, longest = len(cached), max(self.n_kept)
        _, n_heads, _, width = cached[0].shape
        sizes = (2 * n_streams, n_heads, longest, width)
        joined = cached[0].new_zeros(sizes, dtype=torch.float32)  # a slab's may be half as wide
        for i, (one, retention) in enumerate(zip(cached, self._retentions, strict=True)):
            end = longest
            for part in reversed(_kept(one, retention)):
                joined[i::n_streams, :, end - part.shape[2] : end] = part
                end -= part.shape[2]
        return joined


def _kept(cached: Tensor, retention: Retention | None) -> tuple[Tensor, ...]:
    return (cached,) if retention is None else retention.select(cached)


def _interleaved(pairs: Sequence[Tensor]) -> Tensor:
    """Guided and unguided rows [2, ...] of every stream → [2B, ...], all guided rows first."""
    return torch.cat([pair[:1] for pair in pairs] + [pair[1:] for pair in pairs])


@dataclass(frozen=True, slots=True)
class _JoinedBlock(BlockCache):
    """One block's past of several streams, guided rows of all first; see _JoinedSteps."""

    streams: tuple[BlockCache, ...]
    retentions: tuple[Retention | None, ...]

    def followed_by(  # pyright: ignore[reportIncompatibleMethodOverride] one cache a stream
        self, keys: Tensor, values: Tensor, conv_in: Tensor, conv_out: Tensor
    ) -> tuple[BlockCache, ...]:
        """Every stream's own next cache."""
        n_past, n_streams = self.keys.shape[2], len(self.streams)
        following = []
        for i, (stream, retention) in enumerate(zip(self.streams, self.retentions, strict=True)):
            both = slice(i, None, n_streams)
            own = stream.extended(keys[both, :, n_past:], values[both, :, n_past:], retention)
            following.append(stream.followed_by(*own, conv_in[both], conv_out[both]))
        return tuple(following)


def _join_encoder(caches: Sequence[ConformerCache]) -> tuple[ConformerCache, list[int]]:
    """The encoder's caches as one batch, padded in front, and how many rows each one holds."""
    n_rows = [cache.row_blocks[0][0].shape[2] for cache in caches]
    joined = ConformerCache(
        torch.cat([cache.lookahead for cache in caches]),
        torch.cat([cache.upsample for cache in caches]),
        _join_blocks([cache.row_blocks for cache in caches]),
        _join_blocks([cache.frame_blocks for cache in caches]),
    )
    return joined, n_rows


def _join_blocks(streams: Sequence[tuple[KeyValue, ...]]) -> tuple[KeyValue, ...]:
    longest = max(blocks[0][0].shape[2] for blocks in streams)

    def joined(block: int, which: int) -> Tensor:
        tensors = [blocks[block][which] for blocks in streams]
        return torch.cat([F.pad(t, (0, 0, longest - t.shape[2], 0)) for t in tensors])

    return tuple((joined(block, 0), joined(block, 1)) for block in range(len(streams[0])))


def _one_encoder(cache: ConformerCache, i: int, n_padded: int, per_row: int) -> ConformerCache:
    def one(blocks: tuple[KeyValue, ...], n: int) -> tuple[KeyValue, ...]:
        return tuple((k[i : i + 1, :, n:], v[i : i + 1, :, n:]) for k, v in blocks)

    return ConformerCache(
        cache.lookahead[i : i + 1],
        cache.upsample[i : i + 1],
        one(cache.row_blocks, n_padded),
        one(cache.frame_blocks, n_padded * per_row),
    )


def _visible(spans: Sequence[tuple[int, int]], width: int, device: torch.device) -> Tensor | None:
    """Bool [B, width], true from start to end of each span; None when nothing is hidden."""
    if all(span == (0, width) for span in spans):
        return None
    place = torch.arange(width, device=device)
    bounds = torch.tensor(spans, device=device)
    return (place >= bounds[:, :1]) & (place < bounds[:, 1:])


def _per_frame(visible: Tensor | None, per_row: int) -> Tensor | None:
    return None if visible is None else visible.repeat_interleave(per_row, dim=1)
