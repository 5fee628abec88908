"""Sizes of the vocoder as its `cosyvoice.yaml` states them, and the rates all stages share.

Defaults are those of the official classes that the file names.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any, Self, TypeVar

from pipeline.contracts import OUTPUT_SAMPLE_RATE_HZ
from pipeline.errors import CheckpointError
from pipeline.stepaudio.tagged_yaml import CLASS_KEY, read_tagged_yaml

TOKENIZER_RATE_HZ = 16_000  # input of both tokenizers and of the speaker encoder
ROW_RATE_HZ = 25  # time-aligned token rows (40 ms)
MEL_RATE_HZ = 50  # mel frames (20 ms)
MEL_PER_ROW = MEL_RATE_HZ // ROW_RATE_HZ
MEL_HOP_SAMPLES = OUTPUT_SAMPLE_RATE_HZ // MEL_RATE_HZ  # 480; the prompt mel has the same
WHISPER_MELS = 128  # bins of the log-mel that the vq06 model reads
FBANK_MELS = 80  # bins of the Kaldi fbank that the speaker encoder reads

VOCODER_YAML = "cosyvoice.yaml"

SectionT = TypeVar("SectionT")


@dataclass(frozen=True, slots=True)
class FlowConfig:
    """The flow around encoder and estimator."""

    input_size: int = 512
    """Embedding width, both codebooks together."""
    output_size: int = 80
    """Mel bins."""
    spk_embed_dim: int = 192
    """Width of a speaker embedding."""
    output_type: str = "mel"
    vocab_size: int = 5121

    def check(self) -> None:
        require(self.output_type == "mel", "flow", "output_type", self.output_type, "mel")
        require(self.input_size % 2 == 0, "flow", "input_size", self.input_size, "an even number")


@dataclass(frozen=True, slots=True)
class EncoderConfig:
    """Upsampling conformer: blocks at 25 Hz, upsampling, blocks at 50 Hz."""

    input_size: int
    output_size: int = 256
    input_layer: str = "linear"
    pre_lookahead_len: int = 3
    num_blocks: int = 6
    num_up_blocks: int = 4
    up_stride: int = 2
    up_scale_factor: float = 2.0
    attention_heads: int = 4
    pos_enc_layer_type: str = "rel_pos_espnet"
    selfattention_layer_type: str = "rel_selfattn"
    key_bias: bool = True
    linear_units: int = 2048
    """Width inside the feed-forward layers."""
    normalize_before: bool = True
    activation_type: str = "swish"

    def check(self) -> None:
        """The official class ignores unknown arguments.

        Arguments with an effect that we do not implement are refused here.
        """
        built = {
            "input_layer": "linear",
            "pos_enc_layer_type": "rel_pos_espnet",
            "selfattention_layer_type": "rel_selfattn",
            "normalize_before": True,
            "activation_type": "swish",
            "up_scale_factor": self.up_stride,
            "input_size": self.output_size,  # the 50 Hz blocks reuse the input projection's width
        }
        for name, allowed in built.items():
            require(getattr(self, name) == allowed, "encoder", name, getattr(self, name), allowed)
        divides = self.output_size % self.attention_heads == 0
        require(
            divides, "encoder", "attention_heads", self.attention_heads, "a divisor of output_size"
        )


@dataclass(frozen=True, slots=True)
class EstimatorConfig:
    """The estimator, a DiT."""

    in_channels: int
    """Noisy mel + mu + speaker embedding + condition."""
    out_channels: int
    mlp_ratio: float = 4.0
    depth: int = 28
    num_heads: int = 8
    head_dim: int = 64
    hidden_size: int = 256


@dataclass(frozen=True, slots=True)
class IstftConfig:
    """Inverse STFT at the end of HiFT, in samples."""

    n_fft: int = 16
    hop_len: int = 4


@dataclass(frozen=True, slots=True)
class HiftConfig:
    """HiFT generator: mel → waveform through a harmonic source.

    Rates multiply with the iSTFT hop to samples per frame.
    """

    in_channels: int = 80
    base_channels: int = 512
    nb_harmonics: int = 8
    sampling_rate: int = 22050
    nsf_alpha: float = 0.1
    nsf_sigma: float = 0.003
    nsf_voiced_threshold: float = 10.0
    upsample_rates: tuple[int, ...] = (8, 8)
    upsample_kernel_sizes: tuple[int, ...] = (16, 16)
    istft_params: IstftConfig = field(default_factory=IstftConfig)
    resblock_kernel_sizes: tuple[int, ...] = (3, 7, 11)
    resblock_dilation_sizes: tuple[tuple[int, ...], ...] = ((1, 3, 5),) * 3
    source_resblock_kernel_sizes: tuple[int, ...] = (7, 11)
    source_resblock_dilation_sizes: tuple[tuple[int, ...], ...] = ((1, 3, 5),) * 2
    lrelu_slope: float = 0.1
    audio_limit: float = 0.99

    @property
    def samples_per_frame(self) -> int:
        return prod(self.upsample_rates) * self.istft_params.hop_len

    def check(self) -> None:
        stages = len(self.upsample_rates)
        same = "as many entries as upsample_rates"
        for name in (
            "upsample_kernel_sizes",
            "source_resblock_kernel_sizes",
            "source_resblock_dilation_sizes",
        ):
            require(len(getattr(self, name)) == stages, "hift", name, getattr(self, name), same)
        kernels, dilations = self.resblock_kernel_sizes, self.resblock_dilation_sizes
        require(
            len(kernels) == len(dilations), "hift", "resblock_dilation_sizes", dilations, kernels
        )
        halvings = 2**stages
        even = self.base_channels % halvings == 0
        require(even, "hift", "base_channels", self.base_channels, f"a multiple of {halvings}")


@dataclass(frozen=True, slots=True)
class F0Config:
    """F0 predictor: five convolutions over the mel."""

    num_class: int = 1
    in_channels: int = 80
    cond_channels: int = 512


@dataclass(frozen=True, slots=True)
class MelConfig:
    """The prompt mel's analysis. fmax None means half the rate."""

    n_fft: int = 1920
    num_mels: int = 80
    sampling_rate: int = OUTPUT_SAMPLE_RATE_HZ
    hop_size: int = MEL_HOP_SAMPLES
    win_size: int = 1920
    fmin: float = 0.0
    fmax: float | None = 8000.0
    center: bool = False


@dataclass(frozen=True, slots=True)
class VocoderConfig:
    """All sizes of flow, HiFT and prompt mel."""

    flow: FlowConfig
    encoder: EncoderConfig
    estimator: EstimatorConfig
    hift: HiftConfig
    f0_predictor: F0Config
    mel: MelConfig = field(default_factory=MelConfig)
    inference_cfg_rate: float = 0.7
    """Strength of classifier-free guidance."""

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a `cosyvoice.yaml`, or the directory that holds it.

        Raises CheckpointError that says which setting of which section is missing, unknown or
        unsupported.
        """
        file = path / VOCODER_YAML if path.is_dir() else path
        tree = read_tagged_yaml(file)
        try:
            flow, hift = dict(tree["flow"]), dict(tree["hift"])
            encoder, decoder = flow.pop("encoder"), dict(flow.pop("decoder"))
            sections = {
                "flow": flow,
                "encoder": encoder,
                "estimator": decoder.pop("estimator"),
                "hift": hift,
                "f0_predictor": hift.pop("f0_predictor"),
                "mel": tree.get("mel_conf", {}),
                "inference_cfg_rate": decoder.get("inference_cfg_rate", cls.inference_cfg_rate),
            }
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{file}: no section {error} where it is expected") from error
        _check_classes(sections, file)
        embedding = flow.pop("input_embedding", None)
        if not isinstance(embedding, Mapping):
            raise CheckpointError(f"{file}: flow.input_embedding must be a dual-codebook embedding")
        flow.setdefault("vocab_size", embedding.get("vocab_size"))
        try:
            return cls.from_sections(sections)
        except CheckpointError as error:
            raise CheckpointError(f"{file}: {error.message}") from error

    @classmethod
    def from_sections(cls, sections: Mapping[str, Any]) -> Self:
        """Build from flat sections (flow, encoder, estimator, hift, f0_predictor, mel).

        Other keys are ignored.
        """
        config = cls(
            flow=_section(FlowConfig, "flow", sections),
            encoder=_section(EncoderConfig, "encoder", sections, ignore_unknown=True),
            estimator=_section(EstimatorConfig, "estimator", sections),
            hift=_section(HiftConfig, "hift", sections),
            f0_predictor=_section(F0Config, "f0_predictor", sections),
            mel=_section(MelConfig, "mel", sections, optional=True),
            inference_cfg_rate=_convert(
                sections.get("inference_cfg_rate", cls.inference_cfg_rate),
                float,
                "inference_cfg_rate",
            ),
        )
        config.flow.check()
        config.encoder.check()
        config.hift.check()
        n_mels = config.flow.output_size
        for section, name, value, expected in (
            ("encoder", "input_size", config.encoder.input_size, config.flow.input_size),
            ("estimator", "out_channels", config.estimator.out_channels, n_mels),
            ("estimator", "in_channels", config.estimator.in_channels, 4 * n_mels),
            ("hift", "in_channels", config.hift.in_channels, n_mels),
            ("f0_predictor", "in_channels", config.f0_predictor.in_channels, n_mels),
            ("f0_predictor", "num_class", config.f0_predictor.num_class, 1),
        ):
            require(value == expected, section, name, value, expected)
        return config


def require(condition: bool, section: str, name: str, value: object, allowed: object) -> None:
    """Raises CheckpointError that names the setting and its value, unless `condition` holds."""
    if not condition:
        raise CheckpointError(f"{section}.{name} is {value!r}, but only {allowed!r} is supported")


def _section(
    cls: type[SectionT],
    name: str,
    sections: Mapping[str, Any],
    *,
    ignore_unknown: bool = False,
    optional: bool = False,
) -> SectionT:
    raw = sections.get(name, {} if optional else None)
    if not isinstance(raw, Mapping):
        raise CheckpointError(f"section {name} is missing")
    given = {key: value for key, value in raw.items() if key != CLASS_KEY}
    hints = typing.get_type_hints(cls)
    unknown = sorted(set(given) - set(hints))
    if unknown and not ignore_unknown:
        raise CheckpointError(f"{name} has unknown settings {unknown}; known are {sorted(hints)}")
    fields = dataclasses.fields(cls)  # pyright: ignore[reportArgumentType]
    missing = [
        f.name
        for f in fields
        if f.default is dataclasses.MISSING
        and f.default_factory is dataclasses.MISSING
        and f.name not in given
    ]
    if missing:
        raise CheckpointError(f"{name} lacks the settings {missing}")
    values = {
        key: _convert(value, hints[key], f"{name}.{key}")
        for key, value in given.items()
        if key in hints
    }
    return cls(**values)


def _convert(value: Any, hint: Any, where: str) -> Any:
    """`value` as the annotation says, lists as tuples.

    Raises CheckpointError instead of guessing.
    """
    if dataclasses.is_dataclass(hint):
        return _section(typing.cast("type[Any]", hint), where, {where: value})
    if typing.get_origin(hint) is tuple and isinstance(value, list | tuple):
        inner = typing.get_args(hint)[0]
        return tuple(_convert(item, inner, f"{where}[{i}]") for i, item in enumerate(value))
    if hint == (float | None):
        return None if value is None else _convert(value, float, where)
    numeric = isinstance(value, int | float) and not isinstance(value, bool)
    if hint is float and numeric:
        return float(value)
    if hint is int and numeric and value == int(value):
        return int(value)
    if hint in (bool, str) and isinstance(value, hint):
        return value
    expected = getattr(hint, "__name__", str(hint))
    raise CheckpointError(f"{where} is {value!r}, expected {expected}")


_BUILT_CLASSES = {
    "flow": "CausalMaskedDiffWithXvec",
    "encoder": "UpsampleConformerEncoderV2",
    "estimator": "DiT",
    "hift": "HiFTGenerator",
    "f0_predictor": "ConvRNNF0Predictor",
}


def _check_classes(sections: Mapping[str, Any], file: Path) -> None:
    """A tag may carry any module path; its last part must be the class that we build."""
    for name, built in _BUILT_CLASSES.items():
        section = sections[name]
        if not isinstance(section, Mapping):
            raise CheckpointError(f"{file}: section {name} is missing")
        named = str(section.get(CLASS_KEY, built)).rpartition(".")[2]
        if named != built:
            raise CheckpointError(f"{file}: {name} is a {named}, but only {built} is supported")
