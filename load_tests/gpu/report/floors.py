"""The least that each stage must read and compute, from the released models' shapes.

A floor counts what nothing can avoid: every weight read once a pass, cached keys and values read
once, and the products. Activations, launches and sampling are free here, so a floor is below what
any program reaches.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate, pairwise
from math import ceil, prod
from operator import mul

from pipeline.stepaudio.config import (
    MEL_PER_ROW,
    MEL_RATE_HZ,
    EncoderConfig,
    EstimatorConfig,
    F0Config,
    FlowConfig,
    HiftConfig,
    VocoderConfig,
)
from pipeline.stepaudio.tokens import AUDIO_TOKENS
from pipeline.stepaudio.vocoder.schedule import CHUNK_ROWS

BFLOAT16_BYTES, FLOAT_BYTES = 2, 4
GUIDANCE_ROWS = 2
EULER_STEPS = 10
RECENT_FRAMES = 96  # frames before a chunk that the estimator sees, besides the prompt
VQ02_RATE_HZ = 50 / 3
VQ06_RATE_HZ = 25

RELEASED_VOCODER = VocoderConfig(
    flow=FlowConfig(),
    encoder=EncoderConfig(input_size=512, output_size=512, attention_heads=8),
    estimator=EstimatorConfig(in_channels=320, out_channels=80, depth=16, hidden_size=512),
    hift=HiftConfig(
        sampling_rate=24_000,
        upsample_rates=(8, 5, 3),
        upsample_kernel_sizes=(16, 11, 7),
        source_resblock_kernel_sizes=(7, 7, 11),
        source_resblock_dilation_sizes=((1, 3, 5),) * 3,
    ),
    f0_predictor=F0Config(),
)


@dataclass(frozen=True, slots=True)
class Work:
    """One pass over the device: bytes read, and floating-point operations of one kind."""

    n_bytes: float
    flops: float
    kind: str
    """The unit that multiplies: bfloat16, tf32 or float32."""

    def __add__(self, other: Work) -> Work:
        assert self.kind == other.kind, "works of one kind add up"
        return Work(self.n_bytes + other.n_bytes, self.flops + other.flops, self.kind)


@dataclass(frozen=True, slots=True)
class LlmShape:
    """Sizes of Step1, 3B."""

    width: int = 3072
    inner: int = 8192
    heads: int = 48
    groups: int = 4
    layers: int = 32
    head_rows: int = AUDIO_TOKENS + 1
    """The only rows of `lm_head` that can be chosen."""

    @property
    def layer_weights(self) -> int:
        """Weights of all layers: q and o, k and v, gate, up and down; norms do not count."""
        kv_width = self.width // self.heads * self.groups
        return self.layers * self.width * (2 * self.width + 2 * kv_width + 3 * self.inner)

    @property
    def head_weights(self) -> int:
        return self.head_rows * self.width

    @property
    def token_bytes(self) -> int:
        """Keys and values of one token, all layers, in bfloat16."""
        return 2 * self.groups * (self.width // self.heads) * self.layers * BFLOAT16_BYTES


def llm_step(shape: LlmShape, streams: int, kept_tokens: int) -> Work:
    """One token for each of `streams`, each with `kept_tokens` in its cache."""
    weights = shape.layer_weights + shape.head_weights
    kept = streams * kept_tokens
    return Work(
        weights * BFLOAT16_BYTES + kept * shape.token_bytes,
        2 * streams * weights + 4 * kept * shape.width * shape.layers,
        "bfloat16",
    )


def llm_prefill(shape: LlmShape, n_tokens: int, chunk_tokens: int, past: int = 0) -> list[Work]:
    """`n_tokens` of a prompt in chunks, after `past` tokens that are there; each chunk a pass.

    The head multiplies the last position only.
    """
    works = []
    for start in range(0, n_tokens, chunk_tokens):
        n = min(chunk_tokens, n_tokens - start)
        seen = past + start
        pairs = n * seen + n * (n + 1) / 2  # of a query and a key that it sees
        flops = 2 * n * shape.layer_weights + 4 * pairs * shape.width * shape.layers
        n_bytes = shape.layer_weights * BFLOAT16_BYTES + seen * shape.token_bytes
        works.append(Work(n_bytes, flops, "bfloat16"))
    head = shape.head_weights
    works[-1] += Work(head * BFLOAT16_BYTES, 2 * head, "bfloat16")
    return works


def encoder_work(config: VocoderConfig, n_rows: int, past_rows: int, streams: int = 1) -> Work:
    """The flow's conformer on `n_rows` new token rows a stream; each sees `past_rows` too."""
    encoder, width = config.encoder, config.encoder.output_size
    frames, past_frames = n_rows * encoder.up_stride, past_rows * encoder.up_stride
    row_weights = (
        encoder.input_size * width
        + (encoder.pre_lookahead_len + 1) * width**2
        + 3 * width**2  # the lookahead's second convolution
    )
    frame_weights = (
        (2 * encoder.up_stride + 1) * width**2
        + encoder.input_size * width
        + width * config.flow.output_size
    )
    block = 4 * width**2 + 2 * width * encoder.linear_units
    flops = 2 * (n_rows * row_weights + frames * frame_weights)
    flops += encoder.num_blocks * _conformer_flops(block, width, n_rows, past_rows)
    flops += encoder.num_up_blocks * _conformer_flops(block, width, frames, past_frames)
    n_blocks = encoder.num_blocks + encoder.num_up_blocks
    weights = row_weights + frame_weights + n_blocks * (block + width**2)
    cached = past_rows * encoder.num_blocks + past_frames * encoder.num_up_blocks
    n_bytes = FLOAT_BYTES * (weights + streams * cached * 2 * width)
    return Work(n_bytes, streams * flops, "tf32")


def _conformer_flops(block: int, width: int, n: int, past: int) -> float:
    """One block on n positions: projections, relative positions, three attention products."""
    keys = n + past
    distances = keys + n - 1
    return 2 * (n * block + distances * width**2) + 2 * n * width * (2 * keys + distances)


def estimator_work(
    config: VocoderConfig, n_frames: int, past_frames: int, steps: int, streams: int = 1
) -> Work:
    """The flow's DiT on `n_frames` new mel frames a stream: all Euler steps, both guidance rows.

    In float16, which a GPU multiplies as fast as bfloat16.

    What depends on the time step alone is made once, at start, and does not count.
    """
    estimator, width = config.estimator, config.estimator.hidden_size
    inner = estimator.num_heads * estimator.head_dim
    block = 4 * width * inner + 2 * 3 * width**2 + 2 * width * int(width * estimator.mlp_ratio)
    weights = estimator.depth * block + width * (estimator.in_channels + estimator.out_channels)
    attention = 4 * estimator.depth * inner * (n_frames + past_frames)
    passes = steps * GUIDANCE_ROWS * streams
    cached = passes * past_frames * estimator.depth * 2 * inner
    return Work(
        BFLOAT16_BYTES * (steps * weights + cached),
        passes * n_frames * (2 * weights + attention),
        "bfloat16",
    )


def hift_work(config: VocoderConfig, n_frames: int, streams: int = 1) -> Work:
    """HiFT on `n_frames` mel frames a stream: F0, upsampling, residual blocks; no transforms."""
    weights, per_frame = zip(*_hift_parts(config.hift, config.f0_predictor), strict=True)
    return Work(FLOAT_BYTES * sum(weights), 2 * streams * n_frames * sum(per_frame), "tf32")


def _hift_parts(hift: HiftConfig, f0: F0Config) -> Iterator[tuple[int, int]]:
    """(weights, multiplications a mel frame) of every convolution."""
    f0_weights = 3 * (f0.in_channels * f0.cond_channels + 4 * f0.cond_channels**2)
    f0_weights += f0.cond_channels * f0.num_class
    yield f0_weights, f0_weights
    spectrum = hift.istft_params.n_fft + 2
    widths = [hift.base_channels >> i for i in range(len(hift.upsample_rates) + 1)]
    rates = list(accumulate(hift.upsample_rates, mul))  # positions a mel frame behind each stage
    yield (edge := 7 * hift.in_channels * widths[0]), edge
    for i, (n_in, n_out) in enumerate(pairwise(widths)):
        up = n_in * n_out * hift.upsample_kernel_sizes[i]
        yield up, up * rates[i] // hift.upsample_rates[i]  # each input position meets the kernel
        stride = prod(hift.upsample_rates[i + 1 :])
        down = spectrum * n_out * (1 if stride == 1 else 2 * stride)
        yield down, down * rates[i]
        kernels = [
            *zip(hift.resblock_kernel_sizes, hift.resblock_dilation_sizes, strict=True),
            (hift.source_resblock_kernel_sizes[i], hift.source_resblock_dilation_sizes[i]),
        ]
        for kernel, dilations in kernels:
            block = 2 * len(dilations) * kernel * n_out**2
            yield block, block * rates[i]
    yield (last := 7 * widths[-1] * spectrum), last * rates[-1]


def vocode_whole(
    config: VocoderConfig, rows: int, prompt_rows: int, steps: int = EULER_STEPS
) -> list[Work]:
    """An utterance of `rows` token rows at once, its prompt in front of it."""
    all_rows = prompt_rows + rows
    return [
        encoder_work(config, all_rows, 0),
        estimator_work(config, all_rows * MEL_PER_ROW, 0, steps),
        hift_work(config, rows * MEL_PER_ROW),
    ]


def vocode_streams(
    config: VocoderConfig,
    rows: int,
    prompt_rows: int,
    streams: int = 1,
    steps: int = EULER_STEPS,
    chunk_rows: tuple[int, ...] = CHUNK_ROWS,
) -> list[Work]:
    """`streams` utterances chunk by chunk, the streams' chunks together; prompts come first.

    The last of `chunk_rows` repeats; frames that HiFT runs again do not count.
    """
    works = [
        encoder_work(config, prompt_rows, 0, streams),
        estimator_work(config, prompt_rows * MEL_PER_ROW, 0, steps, streams),
    ]
    done = 0
    for n in _chunks(rows, chunk_rows):
        past_frames = prompt_rows * MEL_PER_ROW + min(done * MEL_PER_ROW, RECENT_FRAMES)
        works += [
            encoder_work(config, n, prompt_rows + done, streams),
            estimator_work(config, n * MEL_PER_ROW, past_frames, steps, streams),
            hift_work(config, n * MEL_PER_ROW, streams),
        ]
        done += n
    return works


def _chunks(rows: int, chunk_rows: tuple[int, ...]) -> Iterator[int]:
    sizes = iter(chunk_rows)
    size = next(sizes)
    while rows > 0:
        yield min(size, rows)
        rows -= size
        size = next(sizes, size)


@dataclass(frozen=True, slots=True)
class Vq02Shape:
    """Sizes of the linguistic encoder; frames of 60 ms, cut as the released tokenizer cuts."""

    input_width: int = 560
    width: int = 512
    units: int = 2048
    layers: int = 50
    kernel: int = 11
    new_frames: int = 4
    context_frames: int = 5
    past_frames: int = 16


def vq02_work(shape: Vq02Shape, clips_s: Iterable[float]) -> Work:
    """The linguistic encoder on clips of these lengths, all chunks in one pass, in full float32."""
    width, n = shape.width, shape.new_frames + shape.context_frames
    chunks = sum(ceil(clip_s * VQ02_RATE_HZ / shape.new_frames) for clip_s in clips_s)
    block = 4 * width**2 + 2 * width * shape.units
    weights = shape.layers * (block + width * shape.kernel)
    weights += 3 * width * (shape.input_width - width)  # the first layer reads the stacked mels
    attention = 4 * n * (n + shape.past_frames) * width * shape.layers
    return Work(FLOAT_BYTES * weights, chunks * (2 * n * weights + attention), "float32")


@dataclass(frozen=True, slots=True)
class Vq06Shape:
    """Sizes of the semantic tokenizer: Whisper's encoder, cut to what its file's size allows."""

    n_mels: int = 128
    width: int = 1280
    units: int = 5120
    blocks: int = 6
    codes: int = 4096


def vq06_work(shape: Vq06Shape, clip_s: float) -> Work:
    """The semantic tokenizer on one clip, in full float32: convolutions, blocks, codes."""
    width, n = shape.width, ceil(clip_s * VQ06_RATE_HZ)
    first, second = 3 * shape.n_mels * width, 3 * width**2
    block = 4 * width**2 + 2 * width * shape.units
    rest = second + shape.blocks * block + width * shape.codes
    attention = 4 * n**2 * width * shape.blocks
    flops = 2 * n * (2 * first + rest) + attention  # the first convolution runs at 50 Hz
    return Work(FLOAT_BYTES * (first + rest), flops, "float32")


def spoken_s(rows: int) -> float:
    """Seconds of speech in `rows` token rows."""
    return rows * MEL_PER_ROW / MEL_RATE_HZ
