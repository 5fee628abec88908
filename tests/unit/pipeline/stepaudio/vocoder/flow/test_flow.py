"""Flow in chunks: caches are values, trimming keeps the right frames, noise goes on."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.stepaudio import tokens
from pipeline.stepaudio.vocoder.flow.dit import Retention
from pipeline.stepaudio.vocoder.flow.flow import (
    NOISE_FRAMES,
    Flow,
    FlowCache,
    Schedule,
    stretch_mel,
)
from tests.vocoder_files import make_ids, make_voice, small_modules, write_vocoder

pytestmark = pytest.mark.unit

STEPS = 3


@pytest.fixture(scope="module")
def flow(tmp_path_factory: pytest.TempPathFactory) -> Flow:
    return small_modules(write_vocoder(tmp_path_factory.mktemp("vocoder")))[0]


@pytest.fixture(autouse=True)
def _inference() -> Iterator[None]:
    """One thread: the modules are tiny, and threads that wait for each other cost seconds."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.inference_mode():
        yield
    torch.set_num_threads(n_threads)


@pytest.fixture
def schedule(flow: Flow) -> Schedule:
    return flow.schedule(STEPS)


def rows_of(n_groups: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(tokens.to_rows(make_ids(n_groups, seed)))[None]


@pytest.fixture
def embedding() -> Tensor:
    return torch.from_numpy(make_voice().speaker_embedding)[None]


@pytest.fixture
def start(flow: Flow, schedule: Schedule, embedding: Tensor) -> FlowCache:
    """After a prompt of 4 groups: 12 rows, 24 frames."""
    mel = stretch_mel(torch.from_numpy(make_voice(4).prompt_mel)[None], 24)
    return flow.setup_cache(rows_of(4, 9), rows_of(1), mel, embedding, schedule)


def cached_frames(cache: FlowCache) -> int:
    return cache.estimator[0][0].keys.shape[2]


def test_a_cache_is_a_value(
    flow: Flow, schedule: Schedule, embedding: Tensor, start: FlowCache
) -> None:
    """Continuing twice from one cache gives the same, and other work between changes nothing."""
    rows, ahead = rows_of(5), rows_of(1, 5)
    first, _ = flow.inference_chunk(rows, ahead, embedding, start, schedule)
    flow.inference_chunk(rows_of(7, 3), None, -embedding, start, schedule)
    again, _ = flow.inference_chunk(rows, ahead, embedding, start, schedule)
    assert torch.equal(first, again)


def test_whole_utterance_as_one_chunk_equals_offline(
    flow: Flow, schedule: Schedule, embedding: Tensor
) -> None:
    rows = rows_of(6)
    none = rows[:, :0]
    offline = flow.inference(rows, none, torch.zeros(1, 0, 80), embedding, schedule)
    chunk, cache = flow.inference_chunk(rows, None, embedding, None, schedule)
    assert torch.equal(offline, chunk)
    assert (cache.n_frames, cache.prompt_frames) == (36, 0)


def test_batch_equals_singles(flow: Flow, schedule: Schedule) -> None:
    rows = torch.cat((rows_of(4, 1), rows_of(4, 2)))
    prompt = torch.cat((rows_of(3, 3), rows_of(3, 4)))
    mel = torch.randn(2, 18, 80, generator=torch.Generator().manual_seed(0))
    speakers = torch.randn(2, 192, generator=torch.Generator().manual_seed(1))
    both = flow.inference(rows, prompt, mel, speakers, schedule)
    for i in range(2):
        one = slice(i, i + 1)
        single = flow.inference(rows[one], prompt[one], mel[one], speakers[one], schedule)
        torch.testing.assert_close(both[one], single, atol=1e-5, rtol=0)


def test_only_the_direction_of_the_embedding_counts(
    flow: Flow, schedule: Schedule, embedding: Tensor, start: FlowCache
) -> None:
    rows = rows_of(3)
    mel, _ = flow.inference_chunk(rows, None, embedding, start, schedule)
    louder, _ = flow.inference_chunk(rows, None, 7 * embedding, start, schedule)
    other, _ = flow.inference_chunk(rows, None, -embedding, start, schedule)
    torch.testing.assert_close(mel, louder, atol=1e-5, rtol=0)
    assert (mel - other).abs().max() > 1e-3


def test_retention_keeps_prompt_and_newest() -> None:
    frames = torch.arange(20.0).reshape(1, 1, 20, 1)
    kept = torch.cat(Retention(prompt_frames=4, recent_frames=6).select(frames), dim=2)
    assert kept.flatten().tolist() == [0, 1, 2, 3, 14, 15, 16, 17, 18, 19]
    whole = torch.cat(Retention(prompt_frames=4, recent_frames=16).select(frames), dim=2)
    assert torch.equal(whole, frames)
    none = torch.cat(Retention(prompt_frames=0, recent_frames=0).select(frames), dim=2)
    assert none.shape[2] == 0


def test_trimmed_cache_stays_bounded_and_noise_goes_on(
    flow: Flow, schedule: Schedule, embedding: Tensor, start: FlowCache
) -> None:
    cache, firsts = start, []
    noise = flow.decoder.noise_at

    def watched(first_frame: int, n_frames: int) -> Tensor:
        firsts.append(first_frame)
        return noise(first_frame, n_frames)

    flow.decoder.noise_at = watched  # type: ignore[method-assign]
    try:
        for seed in range(6):
            rows, ahead = rows_of(5, seed), rows_of(1, seed + 1)
            _, cache = flow.inference_chunk(rows, ahead, embedding, cache, schedule, 20)
            assert cached_frames(cache) <= 24 + 20 + 30
    finally:
        del flow.decoder.noise_at
    assert firsts == [24, 54, 84, 114, 144, 174]
    assert cache.n_frames == 24 + 6 * 30


def test_trimming_matters_only_beyond_its_reach(
    flow: Flow, schedule: Schedule, embedding: Tensor, start: FlowCache
) -> None:
    cache, trimmed = start, start
    differences = []
    for seed in range(4):
        rows, ahead = rows_of(5, seed), rows_of(1, seed + 1)
        mel, cache = flow.inference_chunk(rows, ahead, embedding, cache, schedule)
        short, trimmed = flow.inference_chunk(rows, ahead, embedding, trimmed, schedule, 60)
        differences.append(float((mel - short).abs().max()))
    assert differences[:3] == [0.0, 0.0, 0.0]
    assert differences[3] > 0


def test_small_cached_tensors_own_their_memory(start: FlowCache) -> None:
    """A view into a chunk would keep the whole chunk alive in every block and step."""
    block = start.estimator[0][0]
    small = (block.conv_in, block.conv_out, start.encoder.lookahead, start.encoder.upsample)
    for tensor in small:
        assert tensor.untyped_storage().nbytes() == tensor.nbytes


def test_noise_depends_on_the_seed_alone_and_wraps(flow: Flow) -> None:
    tail = flow.decoder.noise_at(NOISE_FRAMES - 2, 4)
    assert torch.equal(tail[:, :, 2:], flow.decoder.noise_at(0, 2))
    assert "decoder.noise" not in flow.state_dict()


def test_on_step_ends_the_work(flow: Flow, schedule: Schedule, embedding: Tensor) -> None:
    class EnoughError(Exception):
        pass

    calls = []

    def stop() -> None:
        calls.append(1)
        if len(calls) == 2:
            raise EnoughError

    with pytest.raises(EnoughError):
        flow.inference_chunk(rows_of(2), None, embedding, None, schedule, None, stop)
    assert len(calls) == 2


def test_stretch_is_nearest() -> None:
    mel = torch.arange(3.0).reshape(1, 3, 1)
    assert stretch_mel(mel, 6).flatten().tolist() == [0, 0, 1, 1, 2, 2]
    assert stretch_mel(mel, 2).flatten().tolist() == np.array([0.0, 1.0]).tolist()
