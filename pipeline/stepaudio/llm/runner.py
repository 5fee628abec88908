# pyright: basic
"""Step1 over fixed slots: prefill in chunks, one fused step for all.

A row's logits depend on its own tokens alone, not on the other slots or its position among them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from pipeline.contracts import Int32Array
from pipeline.errors import CheckpointError
from pipeline.stepaudio.llm.attention import AlibiAttention
from pipeline.stepaudio.llm.exactness import exact_batch, exact_chunks, keys_may_be_cut
from pipeline.stepaudio.llm.kv_cache import (
    KEY_BLOCK_TOKENS,
    KEY_STEP_TOKENS,
    KeyValueCache,
    Views,
    whole_steps,
)
from pipeline.stepaudio.llm.layer import Layer
from pipeline.stepaudio.llm.packed import (
    held_weight,
    release_held,
    required_quantization,
)
from pipeline.stepaudio.llm.prefill_graphs import PrefillGraphs
from pipeline.stepaudio.llm.projection import Projection, pack
from pipeline.stepaudio.llm.quantization import pack_quantized
from pipeline.stepaudio.llm.sampling import AudioVocabulary
from pipeline.stepaudio.llm.step1 import Step1ForCausalLM, Step1Layer
from pipeline.stepaudio.llm.step_graphs import StepGraphs
from pipeline.stepaudio.recording import CudaRecorder, Recorder
from pipeline.stepaudio.triton_kernels import has_kernels

if TYPE_CHECKING:  # it needs Triton
    from pipeline.stepaudio.llm.fused_step import FusedStep

logger = logging.getLogger(__name__)


class Step1Runner:
    """Runs the model over `slots` slots of `context_tokens` each.

    Single-threaded: one caller at a time.

    Stale cache beyond a slot's length gets weight 0, so it only has to be finite: `clear` a slot
    after non-finite numbers.
    """

    def __init__(
        self,
        model: Step1ForCausalLM,
        vocabulary: AudioVocabulary,
        *,
        slots: int,
        max_context_tokens: int,
        quantization: str = "none",
        takes_weights: bool = False,
        prefill_rows: int = 0,
        fused: bool | None = None,
    ) -> None:
        """`quantization` of the layers' weights: none (as the checkpoint has them), int8, int4.

        takes_weights: move them out of `model`, which becomes unusable, so that none is held twice.
        prefill_rows: prefill chunks up to this length are recorded together with steps; 0: none.
        fused: use fused kernels (see FusedStep); None: if they can run.
        Raises CheckpointError when model, vocabulary and quantization do not fit.
        """
        config = model.config
        self._quantization = required_quantization(model, quantization)
        self._takes_weights = takes_weights
        if vocabulary.audio_base + vocabulary.audio_tokens > config.vocab_size:
            raise CheckpointError(
                f"the model has {config.vocab_size} tokens, the tokenizer's audio tokens end at"
                f" {vocabulary.audio_base + vocabulary.audio_tokens}"
            )
        self.slots = slots
        self.context_tokens = min(max_context_tokens, config.max_seq_len)
        self._eps = config.rms_norm_eps
        self._norm_eps: Tensor | None = None  # √(D·ε) where gains hold √D
        self.vocabulary_tokens = config.vocab_size
        self._embedding = model.model.embed_tokens.weight
        self.device, self.dtype = self._embedding.device, self._embedding.dtype
        if self.device.type == "cpu" and self.dtype == torch.float32:
            self._norm_eps = torch.tensor(config.hidden_size * config.rms_norm_eps).sqrt()
        first, n_audio = vocabulary.audio_base, vocabulary.audio_tokens
        head = model.lm_head.weight
        head = pack(torch.cat([head[first : first + n_audio], head[vocabulary.stop_id, None]]))
        self._head, self._final_gain = head.product, self._gain(model.model.norm, head)
        self._weight_bytes = head.n_bytes + self._embedding.nbytes
        if takes_weights:
            _empty(model.lm_head)
        groups, head_size = config.num_attention_groups, config.head_size
        self._cache = KeyValueCache(
            layers=len(model.model.layers),
            slots=slots,
            groups=groups,
            context_tokens=self.context_tokens,
            head_size=head_size,
            dtype=self.dtype,
            device=self.device,
        )
        self._layers = [
            self._prepare(index, cast("Step1Layer", layer))
            for index, layer in enumerate(model.model.layers)
        ]
        self._attention = AlibiAttention(
            config.num_attention_heads,
            groups=groups,
            head_size=head_size,
            capacity=self._cache.capacity,
            device=self.device,
        )
        self._fused = self._fused_step(fused, head)
        self._graphs: StepGraphs | None = None
        self._prefill_graphs: PrefillGraphs | None = None
        self._prefill_rows = prefill_rows
        self._key_step, self._least_slots = KEY_BLOCK_TOKENS, slots
        self._exact_chunks: tuple[int, ...] = ()
        self._measure_exactness()
        if self.device.type == "cuda":
            self.record_steps(CudaRecorder())

    @torch.inference_mode()
    def record_steps(self, record: Recorder) -> None:
        """Record steps and prefill; from now on they are replayed. No slot may be in use."""
        keys = {
            "blocks": self._cache.capacity // KEY_BLOCK_TOKENS,
            "block_tokens": KEY_BLOCK_TOKENS,
        }
        slots = range(self._least_slots, self.slots + 1)
        self._graphs = StepGraphs(self._logits, record, self.device, slots=slots, **keys)
        if self._fused is not None:  # its kernels read only the keys that a chunk sees
            keys = {"blocks": 1, "block_tokens": self._cache.capacity}
        if self._prefill_rows:
            self._prefill_graphs = PrefillGraphs(
                self._prefilled, record, self.device, most_rows=self._prefill_rows, **keys
            )

    def window(self, first: int, last: int) -> range:
        """The window to run for slots first … last; its size changes no row's bits."""
        if self._graphs is not None:
            return self._graphs.window(last)
        start = min(first, self.slots - self._least_slots)
        return range(start, max(last + 1, start + self._least_slots))

    @property
    def has_free_borders(self) -> bool:
        """Whether prefill may be cut into chunks of `chunk_tokens` at any position."""
        return len(self._exact_chunks) > 1

    def chunk_tokens(self, most: int) -> int:
        """The largest bit-exact chunk of prefill, at most `most` tokens."""
        return max(n for n in self._exact_chunks if n <= most)

    @torch.inference_mode()
    def prefill(self, slot: int, ids: Int32Array, start: int) -> None:
        """Write keys and values of ids (n,) at positions start … start + n − 1 of a slot."""
        recorded = self._prefill_graphs
        if recorded is not None and len(ids) <= recorded.most_rows:
            recorded.run(slot, ids, start)
            return
        tokens = torch.as_tensor(ids, dtype=torch.int64).to(self.device)
        if self._fused is not None:
            place = torch.tensor([start, slot]).to(self.device)
            self._fused.prefill(self._layers, tokens, place[:1], place[1:])
            return
        positions = torch.arange(start, start + len(ids), device=self.device)
        window, n_keys = range(slot, slot + 1), self._n_keys(start + len(ids))
        written = self._cache.rows(positions, window)
        self._fill(tokens, positions, written, self._cache.views(window, n_keys), n_keys)

    @torch.inference_mode()
    def step(
        self, window: range, tokens: Sequence[int], positions: Sequence[int], longest: int
    ) -> Tensor:
        """One token for each slot of `window`, n in all → logits float32 (n, audio + stop).

        For a slot of the window without a token, pass any token at its next free position, which
        is overwritten later. `longest`: the largest position that counts; results beyond are
        undefined.
        """
        if self._graphs is not None:
            return self._graphs.run(window, tokens, positions, longest + 1)
        ids, places = torch.tensor([tokens, positions]).to(self.device)
        return self._logits(ids, places, window, self._n_keys(longest + 1))

    def clear(self, slot: int) -> None:
        """Zero a slot's cache."""
        self._cache.clear(slot)

    def saved(self, slot: int, n_tokens: int) -> Tensor:
        """A copy of a slot's first n keys and values: [layers, 2, G, n, head]."""
        return self._cache.saved(slot, n_tokens)

    def unpacked(self, bits: NDArray[np.uint8], n_tokens: int) -> Tensor | None:
        """The result of `saved`, from its bytes; None where they are not of so many tokens."""
        return self._cache.unpacked(bits, n_tokens)

    def restore(self, slot: int, saved: Tensor) -> None:
        """Copy the result of `saved` to the start of a slot."""
        self._cache.restore(slot, saved)

    @property
    def weight_bytes(self) -> int:
        """Bytes of the weights that a step reads, embedding included."""
        return self._weight_bytes

    @property
    def cache_bytes(self) -> int:
        """Bytes of all slots' keys and values."""
        return self._cache.tensor.nbytes

    @property
    def device_bytes(self) -> int:
        """GPU memory of this process in bytes; 0 on a CPU."""
        return torch.cuda.memory_reserved() if self.device.type == "cuda" else 0

    @property
    def recording_s(self) -> float:
        """Seconds that recording the steps took; 0 without records."""
        recorded = (self._graphs, self._prefill_graphs)
        return sum(graphs.recording_s for graphs in recorded if graphs is not None)

    @property
    def token_bytes(self) -> int:
        """Bytes of one token's keys and values."""
        return self._cache.token_bytes

    def _fused_step(self, wanted: bool | None, head: Projection) -> FusedStep | None:
        """The fused kernels, if wanted, or if possible and not specified."""
        can = has_kernels(self.device) and self.dtype == torch.bfloat16
        if wanted or (wanted is None and can):
            from pipeline.stepaudio.llm.fused_step import FusedStep, StepSizes

            cache, slopes = self._cache, self._attention.slopes
            sizes = StepSizes(self.slots, cache.groups, cache.head_size, cache.capacity, self._eps)
            if wanted or sizes.fit:
                logger.info("steps run in fused kernels")
                tensors = (self._embedding, head, self._final_gain, cache.tensor, slopes)
                return FusedStep(self._layers, *tensors, sizes)
        if self.device.type == "cuda":
            logger.info("steps run in separate kernels")
        return None

    def _prepare(self, index: int, layer: Step1Layer) -> Layer:
        attention, mlp = layer.self_attn, layer.mlp
        return Layer(
            index=index,
            qkv=(qkv := self._packed(attention.q_proj, attention.k_proj, attention.v_proj)),
            out=self._packed(attention.o_proj),
            gate_up=(gate_up := self._packed(mlp.gate_proj, mlp.up_proj)),
            down=self._packed(mlp.down_proj),
            input_gain=self._gain(layer.input_layernorm, qkv),
            post_gain=self._gain(layer.post_attention_layernorm, gate_up),
        )

    def _gain(self, norm: nn.Module, following: Projection) -> Tensor:
        """A norm's gain, times the scale of the product behind it."""
        gain = cast("Tensor", norm.weight) * following.scale
        return gain if self._norm_eps is None else gain * len(gain) ** 0.5

    def _packed(self, *projections: nn.Linear) -> Projection:
        weights = [held_weight(projection) for projection in projections]
        if self._quantization == "none":
            packed = pack(torch.cat(cast("list[Tensor]", weights)))
        else:
            packed = pack_quantized(weights, self._quantization)
        self._weight_bytes += packed.n_bytes
        if self._takes_weights:
            for projection in projections:
                _empty(projection)
        return packed

    def _n_keys(self, n_tokens: int) -> int:
        """Number of keys to read for streams of up to n tokens."""
        return max(KEY_BLOCK_TOKENS, whole_steps(n_tokens, self._key_step))

    def _logits(self, tokens: Tensor, positions: Tensor, window: range, n_keys: int) -> Tensor:
        if self._fused is not None:
            return self._fused.logits(self._layers, tokens, positions, window.start, n_keys)
        return self._head(self._hidden(tokens, positions, window, n_keys)).float()

    def _hidden(self, tokens: Tensor, positions: Tensor, window: range, n_keys: int) -> Tensor:
        """T rows of each slot of `window` [B·T] → hidden states [B·T, D]; fills the cache."""
        written = self._cache.rows(positions, window)
        bias = self._attention.bias(positions, len(window), n_keys)
        views = self._cache.views(window, n_keys)
        return self._norm(self._run(self._layers, tokens, written, bias, views), self._final_gain)

    def _prefilled(self, tokens: Tensor, start: Tensor, slot: Tensor, n_keys: int) -> Tensor:
        """A chunk of prefill with its position on the device: start, slot int64 (1,).

        Rows beyond the cache's end go to its last entry, or are dropped.
        """
        if self._fused is not None:
            return self._fused.prefill(self._layers, tokens, start, slot)
        places = torch.arange(len(tokens), device=self.device) + start
        positions = places.clamp(max=self._cache.capacity - 1)
        written = self._cache.rows(positions, slot)
        self._fill(tokens, positions, written, self._cache.views(slot, n_keys), n_keys)
        return written

    def _fill(
        self,
        tokens: Tensor,
        positions: Tensor,
        written: Tensor,
        views: Callable[[int], Views],
        n_keys: int,
    ) -> None:
        """Run tokens of one slot through all layers, up to the last one's keys and values.

        Later outputs are not needed.
        """
        bias = self._attention.bias(positions, 1, n_keys)
        x = self._run(self._layers[:-1], tokens, written, bias, views)
        last = self._layers[-1]
        self._cache.write(last.index, last.qkv.product(self._norm(x, last.input_gain)), written)

    def _run(
        self,
        layers: Sequence[Layer],
        tokens: Tensor,
        written: Tensor,
        bias: Tensor,
        views: Callable[[int], Views],
    ) -> Tensor:
        """The residual stream [B·T, D] after `layers`, which fill the cache's rows `written`."""
        x = functional.embedding(tokens, self._embedding)
        for layer in layers:
            qkv = layer.qkv.product(self._norm(x, layer.input_gain))
            self._cache.write(layer.index, qkv, written)
            out, down = layer.out, layer.down
            attended = self._attention(qkv, *views(layer.index), bias)
            x = torch.add(x, out.product(attended), alpha=out.scale)
            gate, up = layer.gate_up.product(self._norm(x, layer.post_gain)).chunk(2, -1)
            x = torch.add(x, down.product(functional.silu(gate).mul_(up)), alpha=down.scale)
        return x

    def _norm(self, x: Tensor, gain: Tensor) -> Tensor:
        """RMS norm. On a CPU in float32 by √(‖x‖² + D·ε) as a hypotenuse: half as many calls."""
        if self._norm_eps is None:
            return functional.rms_norm(x, (x.shape[-1],), gain, self._eps)
        size = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        return (x / torch.hypot(size, self._norm_eps)).mul_(gain)

    @torch.inference_mode()
    def _measure_exactness(self) -> None:
        """Find bit-exact shapes, on layers that represent all.

        Kernels are chosen by shape, not by value, so random caches and tokens suffice.
        """
        layers = self._layers
        self._layers = list({layer.kernels: layer for layer in reversed(layers)}.values())
        generator = torch.Generator().manual_seed(0)
        longest = min(self._cache.capacity, 2 * KEY_BLOCK_TOKENS) - 1
        for layer in self._layers:
            filled = self._cache.tensor[layer.index, ..., : longest + 1, :]
            filled.copy_(torch.randn(filled.shape, generator=generator))
        tokens = torch.randint(len(self._embedding), (longest + 1,), generator=generator)
        positions = torch.randint(longest + 1, (self.slots,), generator=generator)

        def batch(window: range) -> Tensor:
            part = slice(window.start, window.stop)
            return self.step(window, tokens[part].tolist(), positions[part].tolist(), longest)

        def keys(position: int, n_keys: int) -> Tensor:
            rows = torch.stack([tokens[:1], torch.tensor([position])]).to(self.device)
            return self._logits(rows[0], rows[1], range(1), n_keys)

        def chunk(part: range) -> Tensor:
            rows = torch.stack([tokens[part.start : part.stop], torch.tensor(part)])
            return self._hidden(rows[0], rows[1], range(1), self._n_keys(part.stop))

        self._least_slots = exact_batch(batch, self.slots)
        # A GPU's kernels do depend on sizes; fused ones on the bucket of rows.
        if self.device.type == "cpu" and self._fused is None:
            if keys_may_be_cut(keys, longest + 1, KEY_STEP_TOKENS):
                self._key_step = KEY_STEP_TOKENS
            self._exact_chunks = exact_chunks(chunk, longest + 1)
        self._cache.tensor.zero_()
        self._layers = layers


def _empty(projection: nn.Linear) -> None:
    release_held(projection)
    projection.weight = nn.Parameter(projection.weight.new_empty(0), requires_grad=False)
