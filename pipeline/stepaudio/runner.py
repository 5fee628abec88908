# pyright: basic
"""Step1 over fixed slots: static key/value cache, prefill in chunks, one fused step for all.

Knows no request and no sampling. A row's logits depend on its own tokens alone, not on the other
slots or its place among them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.contracts import Int32Array
from pipeline.errors import CheckpointError
from pipeline.stepaudio.projection import Projection, pack
from pipeline.stepaudio.quantization import pack_quantized
from pipeline.stepaudio.quantized_checkpoint import held_weight, required_quantization
from pipeline.stepaudio.sampling import AudioVocabulary
from pipeline.stepaudio.step1 import Step1ForCausalLM, Step1Layer, alibi_slopes
from pipeline.stepaudio.step_graphs import CudaRecorder, Recorder, StepGraphs

# Keys are read in whole blocks of this many tokens, and the weighted sum of values is taken block
# by block, so that its order of additions, and with it the last bit, does not depend on how long
# the longest stream in the batch is.
KEY_BLOCK_TOKENS = 256


@dataclass(frozen=True, slots=True, eq=False)
class _Layer:
    """One block: packed products, norm gains, and its cache [2 (key, value), S, G, T, head].

    rows: the cache as rows of one head. windows: views of it, made once for each window.
    """

    qkv: Projection
    out: Projection
    gate_up: Projection
    down: Projection
    input_gain: Tensor
    post_gain: Tensor
    cache: Tensor
    rows: Tensor
    windows: dict[range, tuple[Tensor, Tensor]]

    def window(self, window: range) -> tuple[Tensor, Tensor]:
        """Keys and values of some slots: [B·G, T, head] each."""
        if window not in self.windows:
            keys, values = self.cache[:, window.start : window.stop].flatten(1, 2).unbind()
            self.windows[window] = keys, values
        return self.windows[window]


class Step1Runner:
    """Runs the model over `slots` slots of `context_tokens` each.

    Single-threaded: one caller at a time.

    Stale cache beyond a slot's length is masked to weight 0, so it must only be finite: `clear` a
    slot whose numbers may not be.
    """

    def __init__(
        self,
        model: Step1ForCausalLM,
        vocabulary: AudioVocabulary,
        *,
        slots: int,
        max_context_tokens: int,
        quantization: str = "none",
    ) -> None:
        """`quantization` of the layers' weights: none (as the checkpoint has them), int8, int4.

        Raises CheckpointError where model, vocabulary and quantization do not fit.
        """
        config = model.config
        self._quantization = required_quantization(model, quantization)
        if vocabulary.audio_base + vocabulary.audio_tokens > config.vocab_size:
            raise CheckpointError(
                f"the model has {config.vocab_size} tokens, the tokenizer's audio tokens end at"
                f" {vocabulary.audio_base + vocabulary.audio_tokens}"
            )
        self.slots = slots
        self.context_tokens = min(max_context_tokens, config.max_seq_len)
        self._n_groups, self._head_size = config.num_attention_groups, config.head_size
        self._eps = config.rms_norm_eps
        self.vocabulary_tokens = config.vocab_size
        self._embedding = model.model.embed_tokens.weight
        self._final_gain = model.model.norm.weight
        self.device, self.dtype = self._embedding.device, self._embedding.dtype
        first, n_audio = vocabulary.audio_base, vocabulary.audio_tokens
        head = model.lm_head.weight
        self._head = pack(
            torch.cat([head[first : first + n_audio], head[vocabulary.stop_id, None]])
        )
        self._capacity = _whole_blocks(self.context_tokens)
        self._layers = [self._prepare(cast("Step1Layer", layer)) for layer in model.model.layers]
        self._slopes = -alibi_slopes(config.num_attention_heads).to(self.device)
        # Entry capacity − 1 + j − p is √(p − j), key j seen from query p; infinite for the future.
        past = torch.arange(self._capacity - 1, -1, -1, device=self.device).float().sqrt()
        self._distances = torch.cat([past, torch.full_like(past, torch.inf)])
        self._keys = torch.arange(self._capacity, device=self.device)
        # Row of the flat cache where (slot, kind, group) starts, kind being key or value:
        # ((kind · S + slot) · G + group) · capacity
        heads = torch.arange(2 * slots * self._n_groups, device=self.device) * self._capacity
        self._first_rows = heads.view(2, slots, self._n_groups).transpose(0, 1).unsqueeze(1)
        self._graphs: StepGraphs | None = None
        self._least_slots = self._exact_from()
        if self.device.type == "cuda":
            self.record_steps(CudaRecorder())

    @torch.inference_mode()
    def record_steps(self, record: Recorder) -> None:
        """From now on steps are replayed from records. No slot may be in use."""
        self._graphs = StepGraphs(
            self._logits,
            record,
            self.device,
            slots=range(self._least_slots, self.slots + 1),
            blocks=self._capacity // KEY_BLOCK_TOKENS,
            block_tokens=KEY_BLOCK_TOKENS,
        )

    def window(self, first: int, last: int) -> range:
        """The slots to run for slots first … last, so that no row depends on the batch size."""
        if self._graphs is not None:
            return self._graphs.window(last)
        start = min(first, self.slots - self._least_slots)
        return range(start, max(last + 1, start + self._least_slots))

    @torch.inference_mode()
    def prefill(self, slot: int, ids: Int32Array, start: int) -> None:
        """Write keys and values of ids (n,) at positions start … start + n − 1 of a slot."""
        tokens = torch.as_tensor(ids, dtype=torch.int64).to(self.device)
        positions = torch.arange(start, start + len(ids), device=self.device)
        n_keys = _whole_blocks(start + len(ids))
        self._hidden(tokens, positions, range(slot, slot + 1), n_keys)

    @torch.inference_mode()
    def step(
        self, window: range, tokens: Sequence[int], positions: Sequence[int], longest: int
    ) -> Tensor:
        """One token for each slot of `window`, n in all → logits float32 (n, audio + stop).

        A slot of the window that has no token to run gives any token at its next free position:
        what is written there is overwritten when its turn comes. `longest`: the largest position
        that counts; larger ones give nonsense.
        """
        rows, n_keys = torch.tensor([tokens, positions]), _whole_blocks(longest + 1)
        if self._graphs is not None:
            return self._graphs.run(window, rows, n_keys)
        ids, places = rows.to(self.device)
        return self._logits(ids, places, window, n_keys)

    @torch.inference_mode()
    def clear(self, slot: int) -> None:
        """Zero a slot's cache."""
        for layer in self._layers:
            layer.cache[:, slot].zero_()

    @torch.inference_mode()
    def saved(self, slot: int, n_tokens: int) -> Tensor:
        """A copy of a slot's first n keys and values: [layers, 2, G, n, head]."""
        return torch.stack([layer.cache[:, slot, :, :n_tokens] for layer in self._layers])

    @torch.inference_mode()
    def restore(self, slot: int, saved: Tensor) -> None:
        """Put what `saved` gave at the start of a slot."""
        for layer, part in zip(self._layers, saved, strict=True):
            layer.cache[:, slot, :, : part.shape[2]] = part

    @property
    def token_bytes(self) -> int:
        """Bytes of one token's keys and values."""
        layer = 2 * self._n_groups * self._head_size * self.dtype.itemsize
        return layer * len(self._layers)

    def _prepare(self, layer: Step1Layer) -> _Layer:
        attention, mlp = layer.self_attn, layer.mlp
        shape = (2, self.slots, self._n_groups, self._capacity, self._head_size)
        cache = torch.zeros(shape, dtype=self.dtype, device=self.device)
        return _Layer(
            qkv=self._packed(attention.q_proj, attention.k_proj, attention.v_proj),
            out=self._packed(attention.o_proj),
            gate_up=self._packed(mlp.gate_proj, mlp.up_proj),
            down=self._packed(mlp.down_proj),
            input_gain=layer.input_layernorm.weight,
            post_gain=layer.post_attention_layernorm.weight,
            cache=cache,
            rows=cache.view(-1, self._head_size),
            windows={},
        )

    def _packed(self, *projections: nn.Linear) -> Projection:
        weights = [held_weight(projection) for projection in projections]
        if self._quantization == "none":
            return pack(torch.cat(cast("list[Tensor]", weights)))
        return pack_quantized(weights, self._quantization)

    def _logits(self, tokens: Tensor, positions: Tensor, window: range, n_keys: int) -> Tensor:
        return self._head(self._hidden(tokens, positions, window, n_keys)).float()

    def _hidden(self, tokens: Tensor, positions: Tensor, window: range, n_keys: int) -> Tensor:
        """T rows of each slot of `window` [B·T] → hidden states [B·T, D]; fills the cache."""
        written = self._cache_rows(positions, window)
        bias = self._bias(positions.view(len(window), -1), n_keys)
        x = functional.embedding(tokens, self._embedding)
        for layer in self._layers:
            attended = self._attend(layer, self._norm(x, layer.input_gain), written, window, bias)
            x = x + layer.out(attended)
            gate, up = layer.gate_up(self._norm(x, layer.post_gain)).chunk(2, -1)
            x = x + layer.down(functional.silu(gate) * up)
        return self._norm(x, self._final_gain)

    def _attend(
        self, layer: _Layer, x: Tensor, written: Tensor, window: range, bias: Tensor
    ) -> Tensor:
        """x [B·T, D], bias float32 [B·G, T·R, keys] → [B·T, D].

        A group's heads are rows against its one key head.
        """
        batch, size, n_keys = len(window), self._head_size, bias.shape[-1]
        qkv = layer.qkv(x)
        width = qkv.shape[-1] - 2 * self._n_groups * size
        layer.rows.index_copy_(0, written, qkv[:, width:].reshape(-1, size))
        q = qkv[:, :width]
        if len(x) > batch:  # one token a slot needs no reordering
            n_heads = width // size // self._n_groups
            q = q.reshape(batch, -1, self._n_groups, n_heads, size).transpose(1, 2)
        q = q.reshape(batch * self._n_groups, -1, size)
        keys, values = layer.window(window)
        weights = _scores(q, keys[:, :n_keys], bias).softmax(-1).to(x.dtype)
        out = torch.bmm(weights[..., :KEY_BLOCK_TOKENS], values[:, :KEY_BLOCK_TOKENS])
        for start in range(KEY_BLOCK_TOKENS, n_keys, KEY_BLOCK_TOKENS):
            block = slice(start, start + KEY_BLOCK_TOKENS)
            out = torch.baddbmm(out, weights[..., block], values[:, block])
        if len(x) > batch:
            out = out.view(batch, self._n_groups, len(x) // batch, -1).transpose(1, 2)
        return out.reshape(len(x), width)

    def _bias(self, positions: Tensor, n_keys: int) -> Tensor:
        """The one additive mask: −slope·√distance, −∞ for the future.

        positions [B, T] → float32 [B·G, T·R, keys].
        """
        index = (self._capacity - 1 - positions)[..., None] + self._keys[:n_keys]
        slopes = self._slopes.view(self._n_groups, 1, -1, 1)
        bias = slopes * self._distances[index][:, None, :, None]  # [B, G, T, R, keys]
        return bias.view(len(positions) * self._n_groups, -1, n_keys)

    def _cache_rows(self, positions: Tensor, window: range) -> Tensor:
        """Rows of the flat cache where each row's keys, then values, go: int64 (B·T · 2 · G,)."""
        rows = self._first_rows[window.start : window.stop]  # [B, 1, 2, G]
        return (rows + positions.view(len(window), -1, 1, 1)).flatten()

    def _norm(self, x: Tensor, gain: Tensor) -> Tensor:
        return functional.rms_norm(x, (x.shape[-1],), gain, self._eps)

    @torch.inference_mode()
    def _exact_from(self) -> int:
        """The smallest batch from which on a row's logits are bitwise the same in any batch.

        Measured on one layer over random caches: kernels are chosen by shape, not by value. Where
        rows never agree, as on devices that choose by batch size, it is all slots: one fixed shape.
        """
        layers, self._layers = self._layers, self._layers[:1]
        generator = torch.Generator().manual_seed(0)
        cache = self._layers[0].cache
        longest = min(self._capacity, 2 * KEY_BLOCK_TOKENS) - 1
        filled = cache[..., : longest + 1, :]
        filled.copy_(torch.randn(filled.shape, generator=generator))
        tokens = torch.randint(len(self._embedding), (self.slots,), generator=generator).tolist()
        positions = torch.randint(longest + 1, (self.slots,), generator=generator).tolist()
        whole = self.step(range(self.slots), tokens, positions, longest)
        n = self.slots
        while n > 1 and all(
            torch.equal(
                self.step(
                    range(i, i + n - 1), tokens[i : i + n - 1], positions[i : i + n - 1], longest
                ),
                whole[i : i + n - 1],
            )
            for i in range(self.slots - n + 2)
        ):
            n -= 1
        cache.zero_()
        self._layers = layers
        return n


def _scores(q: Tensor, keys: Tensor, bias: Tensor) -> Tensor:
    """Biased float32 scores: q [N, rows, head], keys [N, keys, head], bias [N, rows, keys]."""
    scale = q.shape[-1] ** -0.5
    if q.dtype == torch.float32:
        return torch.baddbmm(bias, q, keys.transpose(1, 2), alpha=scale)
    return torch.bmm(q, keys.transpose(1, 2)).float().mul_(scale).add_(bias)


def _whole_blocks(n_tokens: int) -> int:
    return -(-n_tokens // KEY_BLOCK_TOKENS) * KEY_BLOCK_TOKENS
