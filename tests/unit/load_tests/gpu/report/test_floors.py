"""Floors against numbers by hand, against torch's own count, and against the released shapes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from load_tests.full_size import tokenizer as full_tokenizer
from load_tests.full_size.vocoder import FULL_SIZES
from load_tests.gpu.report import floors
from load_tests.gpu.report.floors import (
    RELEASED_VOCODER,
    LlmShape,
    Vq02Shape,
    Vq06Shape,
    Work,
    encoder_work,
    estimator_work,
    hift_work,
    llm_prefill,
    llm_step,
    vocode_streams,
    vocode_whole,
    vq02_work,
    vq06_work,
)
from pipeline.stepaudio.checkpoint.tiny_configs import vocoder_config
from pipeline.stepaudio.config import VocoderConfig
from pipeline.stepaudio.llm.step1 import Step1Config, Step1ForCausalLM
from pipeline.stepaudio.tokenizer.linguistic_shapes import encoder_shapes
from pipeline.stepaudio.vocoder.flow.dit import Modulation
from pipeline.stepaudio.vocoder.flow.flow import Flow, FlowCache, Schedule
from pipeline.stepaudio.vocoder.hift.generator import Hift
from pipeline.stepaudio.vocoder.wave_decoder import RECENT_FRAMES

pytestmark = pytest.mark.unit

SMALL = LlmShape(width=8, inner=16, heads=2, groups=1, layers=3, head_rows=5)


def test_a_step_of_two_streams_by_hand() -> None:
    assert SMALL.layer_weights == 3 * (2 * 8 * 8 + 2 * 8 * 4 + 3 * 8 * 16) == 1728
    assert SMALL.token_bytes == 2 * 4 * 3 * 2  # keys and values, one group of 4, layers, bfloat16
    n_bytes = 2 * (1728 + 5 * 8) + 2 * 10 * 48
    flops = 2 * 2 * (1728 + 40) + 4 * 2 * 10 * 8 * 3
    assert llm_step(SMALL, 2, 10) == Work(n_bytes, flops, "bfloat16")
    assert (n_bytes, flops) == (4496, 8992)


def test_a_prefill_in_two_chunks_by_hand() -> None:
    first, second = llm_prefill(SMALL, 5, 3, past=2)
    assert first == Work(2 * 1728 + 2 * 48, 2 * 3 * 1728 + 4 * (3 + 4 + 5) * 8 * 3, "bfloat16")
    assert second.n_bytes == 2 * 1728 + 5 * 48 + 2 * 40
    assert second.flops == 2 * 2 * 1728 + 4 * (6 + 7) * 8 * 3 + 2 * 40


@pytest.mark.slow
def test_the_llm_is_the_released_one() -> None:
    config = Step1Config()
    with torch.device("meta"):
        model = Step1ForCausalLM(config)
    layers = model.model.layers.state_dict()
    products = sum(t.numel() for name, t in layers.items() if "norm" not in name)
    assert LlmShape().layer_weights == products == 3_070_230_528
    assert LlmShape().token_bytes == 32 * 1024
    # the first line of every card: 1.84 ms at the H100's 3,350 GB/s, so 542 tokens a second
    assert llm_step(LlmShape(), 1, 0).n_bytes / 3.35e12 == pytest.approx(1.8424e-3, rel=1e-4)


@pytest.fixture(scope="module")
def vocoder() -> tuple[Flow, Hift]:
    """The released sizes, without memory."""
    with torch.device("meta"):
        hift = Hift(RELEASED_VOCODER.hift, RELEASED_VOCODER.f0_predictor)
        flow = Flow(RELEASED_VOCODER)
    hift.fuse_weight_norm()
    return flow.eval(), hift.eval()


def counted(work: object) -> int:
    assert callable(work)
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def zeros(*shape: int) -> torch.Tensor:
    return torch.zeros(*shape, device="meta")


@pytest.mark.slow
def test_the_encoder_counts_as_torch_counts(vocoder: tuple[Flow, Hift]) -> None:
    rows = zeros(1, 60, 2).long()
    n_flops = counted(lambda: vocoder[0].mu(rows))
    assert encoder_work(RELEASED_VOCODER, 60, 0).flops == n_flops


@pytest.mark.slow
def test_prompt_and_chunk_count_as_torch_counts() -> None:
    config = replace(
        RELEASED_VOCODER,
        encoder=replace(RELEASED_VOCODER.encoder, num_blocks=2, num_up_blocks=1),
        estimator=replace(RELEASED_VOCODER.estimator, depth=2),
    )
    with torch.device("meta"):
        flow = Flow(config).eval()
    modulation = Modulation(zeros(2, 9, 512), zeros(2, 512))  # made at start, not counted
    schedule = Schedule((0.3, 0.3, 0.4), (modulation,) * 3)
    voice = zeros(1, 192)
    made: list[FlowCache] = []

    def prompt() -> None:
        rows, ahead, mel = zeros(1, 30, 2).long(), zeros(1, 3, 2).long(), zeros(1, 60, 80)
        made.append(flow.setup_cache(rows, ahead, mel, voice, schedule))

    def chunk() -> None:
        rows, ahead = zeros(1, 15, 2).long(), zeros(1, 3, 2).long()
        flow.inference_chunk(rows, ahead, voice, made[0], schedule, RECENT_FRAMES)

    aside = 2 * (192 * 80 + 3 * 512 * 512)  # the speaker's projection, the lookahead's input rows
    for work, new_rows, past_rows in ((prompt, 30, 0), (chunk, 15, 30)):
        expected = encoder_work(config, new_rows, past_rows).flops
        expected += estimator_work(config, 2 * new_rows, 2 * past_rows, 3).flops
        assert counted(work) == expected + aside


@pytest.mark.slow
def test_hift_counts_as_torch_counts(vocoder: tuple[Flow, Hift]) -> None:
    def run() -> None:
        vocoder[1].f0_predictor(zeros(1, 80, 50))
        vocoder[1]._upsample(zeros(1, 80, 50), zeros(1, 18, 50 * 120 + 1))

    assert hift_work(RELEASED_VOCODER, 50).flops == pytest.approx(counted(run), rel=1e-4)


@pytest.mark.slow
def test_weights_are_read_once_a_pass(vocoder: tuple[Flow, Hift]) -> None:
    def matrices(module: torch.nn.Module, *without: str) -> int:
        named = module.named_parameters()
        return sum(
            p.numel()
            for name, p in named
            if p.dim() > 1 and not any(word in name for word in without)
        )

    flow, hift = vocoder
    estimator = matrices(flow.decoder.estimator, "adaLN", "t_embedder")
    assert estimator_work(RELEASED_VOCODER, 1, 0, 10).n_bytes == 10 * 2 * estimator
    encoder = matrices(flow.encoder, "pos_bias") + matrices(flow.encoder_proj)
    assert encoder_work(RELEASED_VOCODER, 1, 0).n_bytes == 4 * encoder
    convolutions = matrices(hift) - hift.m_source.l_linear.weight.numel()
    alphas = sum(p.numel() for name, p in hift.named_parameters() if "alpha" in name)
    assert hift_work(RELEASED_VOCODER, 1).n_bytes == pytest.approx(4 * convolutions, rel=1e-5)
    assert alphas < 1e-3 * convolutions


def test_the_vocoder_is_the_released_one(tmp_path: Path) -> None:
    text = vocoder_config(FULL_SIZES).replace("mlp_ratio: 2.0", "mlp_ratio: 4.0")
    (tmp_path / "cosyvoice.yaml").write_text(text)
    assert VocoderConfig.load(tmp_path) == RELEASED_VOCODER
    assert floors.RECENT_FRAMES == RECENT_FRAMES


def test_cached_frames_cost_bytes_for_every_stream_and_step() -> None:
    alone = estimator_work(RELEASED_VOCODER, 96, 0, 10, 8).n_bytes
    cached = estimator_work(RELEASED_VOCODER, 96, 100, 10, 8).n_bytes
    # 0.65 MB a frame: steps, guidance rows, blocks, keys and values, width, bytes
    assert cached - alone == 8 * 100 * (10 * 2 * 16 * 2 * 512 * 2)


def test_streams_share_weights_and_multiply_products() -> None:
    one, eight = (vocode_streams(RELEASED_VOCODER, 240, 150, n) for n in (1, 8))
    assert sum(w.flops for w in eight) == pytest.approx(8 * sum(w.flops for w in one))
    assert sum(w.n_bytes for w in eight) < 2 * sum(w.n_bytes for w in one)
    assert len(one) == 2 + 3 * len((15, 24, 48, 48, 48, 48, 9))


def test_a_stream_spares_attention_and_hift_is_the_same() -> None:
    whole = vocode_whole(RELEASED_VOCODER, 240, 150)
    assert whole[2].flops == hift_work(RELEASED_VOCODER, 480).flops
    streamed = vocode_streams(RELEASED_VOCODER, 240, 150)
    assert sum(w.flops for w in streamed) < sum(w.flops for w in whole)


def test_vq02_by_hand_and_by_its_files() -> None:
    shape = Vq02Shape(input_width=6, width=4, units=8, layers=2, kernel=3)
    weights = 2 * (4 * 16 + 2 * 32 + 12) + 3 * 4 * 2  # the first layer reads 6 instead of 4
    chunks = 2 + 1  # 0.48 s and what is left of a chunk
    attention = 4 * 9 * 25 * 4 * 2
    expected = Work(4 * weights, chunks * (2 * 9 * weights + attention), "float32")
    assert vq02_work(shape, [0.48, 0.1]) == expected
    sizes = {"output_size": 512, "linear_units": 2048, "kernel_size": 11, "num_blocks": 50}
    held = encoder_shapes(sizes, 560)
    matrices = sum(torch.Size(s).numel() for s in held.values() if len(s) > 1)
    assert vq02_work(Vq02Shape(), [6]).n_bytes == 4 * matrices


def test_vq06_by_hand_and_by_its_file() -> None:
    shape = Vq06Shape(n_mels=2, width=4, units=8, blocks=3, codes=10)
    block = 4 * 16 + 2 * 32
    first, second, last = 3 * 2 * 4, 3 * 16, 40
    work = vq06_work(shape, 0.08)  # two codes
    assert work.n_bytes == 4 * (first + second + 3 * block + last)
    assert work.flops == 2 * (2 * 2 * first + 2 * (second + 3 * block + last)) + 4 * 4 * 4 * 3
    assert vq06_work(Vq06Shape(), 6).n_bytes == pytest.approx(522_625_011, rel=0.02)
    stand_in = (full_tokenizer.WIDTH, full_tokenizer.UNITS, full_tokenizer.BLOCKS)
    assert stand_in == (Vq06Shape().width, Vq06Shape().units, Vq06Shape().blocks)
