# pyright: basic
"""Step1, the language model: config, modules under the official parameter names, strict loading.

`forward` is the plain form, with which the fast one (runner.py) is compared. Plain modules, not
transformers' classes: its import takes twice as long as torch's, in every replica that starts.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn import functional

from pipeline.errors import CheckpointError
from pipeline.stepaudio.llm.packed import PackedScheme

_NAMES_SHOWN = 8  # parameter names listed in a loading error


@dataclass(frozen=True)
class Step1Config:
    """Sizes of the model, under the keys of the official `config.json`.

    Raises ValueError when the heads do not divide, or a size is no positive whole number.
    """

    hidden_size: int = 3072
    intermediate_size: int = 8192
    num_attention_heads: int = 48
    num_attention_groups: int = 4
    """Key/value heads; num_attention_heads is a multiple of it."""
    num_hidden_layers: int = 32
    vocab_size: int = 74752
    rms_norm_eps: float = 1e-5
    max_seq_len: int = 8192
    """Tokens of prompt and answer together."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if name != "rms_norm_eps" and not (isinstance(value, int) and value > 0):
                raise ValueError(f"{name} {value!r} is not a positive whole number")
        if (
            self.hidden_size % self.num_attention_heads
            or self.num_attention_heads % self.num_attention_groups
        ):
            raise ValueError(
                f"hidden_size {self.hidden_size}, num_attention_heads {self.num_attention_heads} "
                f"and num_attention_groups {self.num_attention_groups} must divide each other in "
                "this order"
            )

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> Step1Config:
        """Of a `config.json`, whose other keys are for other readers."""
        known = {field.name for field in dataclasses.fields(cls)}
        return cls(**{name: value for name, value in fields.items() if name in known})

    @property
    def head_size(self) -> int:
        """Channels of one attention head."""
        return self.hidden_size // self.num_attention_heads

    @property
    def group_heads(self) -> int:
        """Query heads that share one key/value head."""
        return self.num_attention_heads // self.num_attention_groups


def alibi_slopes(n_heads: int) -> Tensor:
    """Slopes of the attention bias −slope·√distance. → float32 (n_heads,), computed in float64.

    With n the largest power of two ≤ n_heads: 2^(−8i/n) for i = 1…n, then 2^(−4i/n) for i = 1, 3,
    5, ….
    """
    n = 1 << (n_heads.bit_length() - 1)
    slopes = [2 ** (-8 * i / n) for i in range(1, n + 1)]
    slopes += [2 ** (-4 * i / n) for i in range(1, 2 * (n_heads - n), 2)]
    return torch.tensor(slopes, dtype=torch.float32)


class Step1Attention(nn.Module):
    """Grouped-query attention: a group's heads are query rows against its one key/value head."""

    def __init__(self, config: Step1Config) -> None:
        super().__init__()
        self.n_groups = config.num_attention_groups
        self.head_size = config.head_size
        kv_size = self.n_groups * self.head_size
        self.q_proj = nn.Linear(config.hidden_size, config.hidden_size, bias=False)
        self.k_proj = nn.Linear(config.hidden_size, kv_size, bias=False)
        self.v_proj = nn.Linear(config.hidden_size, kv_size, bias=False)
        self.o_proj = nn.Linear(config.hidden_size, config.hidden_size, bias=False)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """x [B, T, D], bias float32 [G, R·T, T] (R heads a group) → [B, T, D]."""
        batch, length, width = x.shape
        q = self.q_proj(x).view(batch, length, self.n_groups, -1, self.head_size)
        q = q.permute(0, 2, 3, 1, 4).flatten(2, 3)  # [B, G, R·T, head]
        k = self.k_proj(x).view(batch, length, self.n_groups, self.head_size).transpose(1, 2)
        v = self.v_proj(x).view(batch, length, self.n_groups, self.head_size).transpose(1, 2)
        scores = (q @ k.transpose(2, 3)).float() * self.head_size**-0.5 + bias
        out = scores.softmax(-1).to(x.dtype) @ v
        out = out.view(batch, self.n_groups, -1, length, self.head_size).permute(0, 3, 1, 2, 4)
        return self.o_proj(out.reshape(batch, length, width))


class Step1MLP(nn.Module):
    """SwiGLU."""

    def __init__(self, config: Step1Config) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(functional.silu(self.gate_proj(x)) * self.up_proj(x))


class Step1RMSNorm(nn.Module):
    """RMS norm; the variance is taken in float32 whatever the dtype."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        wide = x.float()
        wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)
        return wide.to(x.dtype) * self.weight


class Step1Layer(nn.Module):
    """Pre-norm block."""

    def __init__(self, config: Step1Config) -> None:
        super().__init__()
        self.self_attn = Step1Attention(config)
        self.mlp = Step1MLP(config)
        self.input_layernorm = Step1RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = Step1RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), bias)
        return x + self.mlp(self.post_attention_layernorm(x))


class Step1Model(nn.Module):
    """Embedding, blocks and final norm."""

    def __init__(self, config: Step1Config) -> None:
        super().__init__()
        rows = torch.empty(config.vocab_size, config.hidden_size)
        if not rows.is_meta:  # nothing to draw there, for which torch imports its compiler
            nn.init.normal_(rows)
        self.embed_tokens = nn.Embedding.from_pretrained(rows, freeze=False)
        self.layers = nn.ModuleList(Step1Layer(config) for _ in range(config.num_hidden_layers))
        self.norm = Step1RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.n_groups = config.num_attention_groups
        self.n_heads = config.num_attention_heads

    def forward(self, input_ids: Tensor) -> Tensor:
        """int64 [B, T] → [B, T, D].

        There are no rotary positions: order matters through the bias alone.
        """
        length = input_ids.shape[1]
        position = torch.arange(length, device=input_ids.device)
        distance = position[:, None] - position
        slopes = alibi_slopes(self.n_heads).to(input_ids.device)
        bias = -slopes[:, None, None] * distance.clamp(min=0).float().sqrt()
        bias = bias.masked_fill(distance < 0, -torch.inf)  # [H, T, T]
        bias = bias.view(self.n_groups, -1, length)
        x = self.embed_tokens(input_ids)
        for layer in self.layers:
            x = layer(x, bias)
        return self.norm(x)


class Step1ForCausalLM(nn.Module):
    """The whole model.

    Parameter names equal the official checkpoint's, so its files load with no conversion.
    """

    def __init__(self, config: Step1Config) -> None:
        super().__init__()
        self.config = config
        self.model = Step1Model(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)

    @property
    def device(self) -> torch.device:
        return self.lm_head.weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self.lm_head.weight.dtype

    def forward(self, input_ids: Tensor) -> Tensor:
        """int64 [B, T] → logits [B, T, V] of every position."""
        return self.lm_head(self.model(input_ids))


def load_step1(directory: Path, device: torch.device | str, dtype: torch.dtype) -> Step1ForCausalLM:
    """Load `config.json` and the safetensors of an official-layout directory, strictly.

    Layers of a pack-quantized checkpoint stay in 4 bits (see packed) and have no
    plain form. Raises CheckpointError when a file is missing or damaged, or naming missing,
    unexpected and misshapen parameters.
    """
    config, scheme = _read_config(directory)
    with torch.device("meta"):
        model = Step1ForCausalLM(config)
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    if scheme is not None:
        expected = scheme.stored_shapes(expected)
    shards = _shards(directory)
    try:
        _require_same(directory, expected, _stored_shapes(shards))
        tensors = {}
        for shard in shards:
            with safe_open(shard, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118
                    tensor = file.get_tensor(name).to(device)
                    tensors[name] = tensor.to(dtype) if tensor.is_floating_point() else tensor
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{directory}: a weight file cannot be read: {error}") from error
    if scheme is not None:
        tensors = scheme.hand_over(model, tensors)
    model.load_state_dict(tensors, strict=scheme is None, assign=True)
    return model.eval().requires_grad_(False)


def _read_config(directory: Path) -> tuple[Step1Config, PackedScheme | None]:
    path = directory / "config.json"
    try:
        fields = json.loads(path.read_text("utf-8"))
        quantization = fields.pop("quantization_config", None)
        return Step1Config.of(fields), quantization and PackedScheme.read(quantization)
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(f"{path}: {error}") from error


def _shards(directory: Path) -> list[Path]:
    """The weight files: those of the index, or the single file."""
    index = directory / "model.safetensors.index.json"
    if not index.is_file():
        shards = [directory / "model.safetensors"]
    else:
        try:
            names = set(json.loads(index.read_text("utf-8"))["weight_map"].values())
        except (OSError, ValueError, KeyError, AttributeError) as error:
            raise CheckpointError(f"{index}: not a safetensors index: {error!r}") from error
        shards = [directory / name for name in sorted(names)]
    if absent := [shard.name for shard in shards if not shard.is_file()]:
        raise CheckpointError(f"{directory}: weight files missing: {', '.join(absent)}")
    return shards


def _stored_shapes(shards: list[Path]) -> dict[str, tuple[int, ...]]:
    shapes = {}
    for shard in shards:
        with safe_open(shard, framework="pt") as file:
            shapes.update({k: tuple(file.get_slice(k).get_shape()) for k in file.keys()})  # noqa: SIM118
    return shapes


def _require_same(
    directory: Path, expected: dict[str, tuple[int, ...]], found: dict[str, tuple[int, ...]]
) -> None:
    both = expected.keys() & found.keys()
    problems = {
        "missing": sorted(expected.keys() - both),
        "unexpected": sorted(found.keys() - both),
        "misshapen": [
            f"{name} (is {found[name]}, config says {expected[name]})"
            for name in sorted(both)
            if found[name] != expected[name]
        ],
    }
    said = [f"{kind}: {_listed(names)}" for kind, names in problems.items() if names]
    if said:
        raise CheckpointError(f"{directory}: parameters do not fit config.json; " + "; ".join(said))


def _listed(names: list[str]) -> str:
    more = len(names) - _NAMES_SHOWN
    return ", ".join(names[:_NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")
