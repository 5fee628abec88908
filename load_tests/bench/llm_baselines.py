"""Step1 as a user of transformers would run it: `generate` and continuous batching.

Uses the same weights as our engine. Every other choice is in its favour: the bias is built
once per step, not per layer; grouped heads share keys; logits are taken of the last position only.
"""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import GenerationConfig, GenerationMixin, PretrainedConfig, PreTrainedModel
from transformers.cache_utils import Cache, DynamicCache
from transformers.generation.configuration_utils import ContinuousBatchingConfig
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from pipeline.stepaudio.llm.step1 import Step1Config, Step1ForCausalLM, Step1Layer, alibi_slopes

Prompts = list[list[int]]


class _Attention(nn.Module):
    """One layer's projections with what transformers' attention reads of a module."""

    def __init__(self, layer: Step1Layer, config: Step1Config, layer_idx: int) -> None:
        super().__init__()
        attention = layer.self_attn
        self.q_proj, self.k_proj = attention.q_proj, attention.k_proj
        self.v_proj, self.o_proj = attention.v_proj, attention.o_proj
        self.layer_idx, self.head_size = layer_idx, config.head_size
        self.num_key_value_groups = config.group_heads
        self.is_causal = True

    def forward(self, x: Tensor, bias: Tensor, past: Cache | None, paged: dict[str, Any]) -> Tensor:
        q, k, v = (
            p(x).unflatten(-1, (-1, self.head_size)).transpose(1, 2)
            for p in (self.q_proj, self.k_proj, self.v_proj)
        )
        if past is not None:
            k, v = past.update(k, v, self.layer_idx)
        scaling = self.head_size**-0.5
        attend = sdpa_attention_forward
        if paged:  # before 5.20 paged caches had a function of their own
            attend = ALL_ATTENTION_FUNCTIONS.get("paged|sdpa", attend)
        out, _ = attend(self, q, k, v, bias, scaling=scaling, is_causal=False, **paged)
        return self.o_proj(out.flatten(-2))


class TransformersStep1(PreTrainedModel, GenerationMixin):
    """Step1 with transformers' caches."""

    _supports_sdpa = True

    def __init__(self, model: Step1ForCausalLM) -> None:
        config = model.config
        sizes = {
            "num_key_value_heads": config.num_attention_groups,
            "head_dim": config.head_size,
            "tie_word_embeddings": False,
        }
        super().__init__(PretrainedConfig(**asdict(config), **sizes))
        # Chosen by hand: transformers looks for its own attention interface in the source to allow
        # it, and would give no mask without it, but the bias is made from that mask.
        self.config._attn_implementation_internal = "sdpa"
        self._tp_plan = {}  # 5.17's continuous batching looks into it
        self.step1 = model
        self.attention = nn.ModuleList(
            _Attention(cast("Step1Layer", layer), config, index)
            for index, layer in enumerate(model.model.layers)
        )
        slopes = -alibi_slopes(config.num_attention_heads).to(model.device)
        self.register_buffer("slopes", slopes[:, None, None], persistent=False)

    def set_attn_implementation(self, attn_implementation: str, *_: Any, **__: Any) -> None:
        """As continuous batching asks; the base class looks into the source and refuses."""
        self.config._attn_implementation_internal = attn_implementation

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        past_key_values: Cache | None = None,
        position_ids: Tensor | None = None,
        logits_to_keep: int | Tensor = 0,
        **others: Any,
    ) -> CausalLMOutputWithPast:
        """int64 [B, T] → logits of the positions kept; rows of a batch are equally long."""
        if "cache" in others:
            bias = self._packed_bias(attention_mask, position_ids)
            paged = {key: value for key, value in others.items() if key != "is_causal"}
        else:
            past_key_values = past_key_values or DynamicCache(config=self.config)
            bias, paged = self._bias(input_ids.shape[1], past_key_values), {}
        x = self.step1.model.embed_tokens(input_ids)
        for block, attention in zip(self.step1.model.layers, self.attention, strict=True):
            layer = cast("Step1Layer", block)
            x = x + attention(layer.input_layernorm(x), bias, past_key_values, dict(paged))
            x = x + layer.mlp(layer.post_attention_layernorm(x))
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.step1.lm_head(self.step1.model.norm(x)[:, kept])
        return CausalLMOutputWithPast(logits=logits, past_key_values=past_key_values)

    def _bias(self, length: int, past: Cache) -> Tensor:
        start = past.get_seq_length()
        n_keys, _ = past.get_mask_sizes(length, 0)
        queries = torch.arange(length, device=self.device) + start
        return self._of_distance(queries[:, None] - torch.arange(n_keys, device=self.device))

    def _packed_bias(self, mask: Tensor | None, positions: Tensor | None) -> Tensor:
        """Continuous batching packs requests in a row: the n-th key a query sees is position n."""
        assert mask is not None
        assert positions is not None
        seen = mask[0, 0] >= 0  # [Q, K]
        rank = seen.cumsum(-1) - 1
        distance = positions.view(-1, 1) - rank
        return self._of_distance(distance.masked_fill(~seen, -1))

    def _of_distance(self, distance: Tensor) -> Tensor:
        """int64 [Q, K] → bias [1, H, Q, K]; a negative distance is not seen."""
        bias = cast("Tensor", self.slopes) * distance.clamp(min=0).float().sqrt()
        return bias.masked_fill(distance < 0, -torch.inf).to(self.dtype)[None]


def generate(
    model: TransformersStep1, prompts: Prompts, n_tokens: int, *, cache: str, warp: dict[str, Any]
) -> tuple[float, Prompts]:
    """Seconds that `generate` takes for n_tokens after each of equally long prompts; answers."""
    ids = torch.tensor(prompts, device=model.device)
    config = GenerationConfig(
        max_new_tokens=n_tokens,
        min_new_tokens=n_tokens,
        cache_implementation=cache,
        eos_token_id=None,
        pad_token_id=0,
        disable_compile=True,
        **warp,
    )
    start = time.perf_counter()
    run: Any = model.generate  # pyright: ignore[reportAttributeAccessIssue] its Protocol asks too much
    out = run(ids, attention_mask=torch.ones_like(ids), generation_config=config)
    took_s = time.perf_counter() - start
    assert out.shape[1] == ids.shape[1] + n_tokens
    return took_s, out[:, ids.shape[1] :].tolist()


def generate_batch(
    model: TransformersStep1, prompts: Prompts, n_tokens: int, warp: dict[str, Any]
) -> tuple[float, Prompts]:
    """Seconds that transformers' continuous batching takes, its start and stop left out; answers.

    Raises RuntimeError when it does not give every request its tokens.
    """
    config = GenerationConfig(max_new_tokens=n_tokens, eos_token_id=-1, pad_token_id=0, **warp)
    blocks = sum(-(-(len(p) + n_tokens) // 256) for p in prompts) + 4
    paging = ContinuousBatchingConfig(
        num_blocks=blocks, max_batch_tokens=max(2048, len(prompts)), allow_block_sharing=False
    )
    with model.continuous_batching_context_manager(
        generation_config=config, continuous_batching_config=paging, block=True, timeout=5
    ) as manager:
        _collect(manager, prompts[:1], 5)
        start = time.perf_counter()
        answers = _collect(manager, prompts, n_tokens)
        return time.perf_counter() - start, answers


def _collect(manager: Any, prompts: Prompts, n_tokens: int) -> Prompts:
    names = manager.add_requests(inputs=prompts, max_new_tokens=n_tokens)
    answers: dict[str, list[int]] = {}
    while len(answers) < len(prompts):
        result = manager.get_result(timeout=1)
        if result is not None and result.is_finished():
            if result.error is not None or len(result.generated_tokens) != n_tokens:
                raise RuntimeError(f"continuous batching failed: {result.error}")
            answers[result.request_id] = result.generated_tokens
        elif not manager.is_running():
            raise RuntimeError("continuous batching stopped")
    return [answers[name] for name in names]
