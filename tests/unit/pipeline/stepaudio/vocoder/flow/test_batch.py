"""Batches of mixed lengths equal one at a time; nothing of one stream reaches another."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from pipeline.stepaudio import tokens
from pipeline.stepaudio.parity.vocoder import MEL_TOLERANCE
from pipeline.stepaudio.vocoder.flow.batch import (
    StreamChunk,
    WholeUtterance,
    inference_batch,
    inference_chunks,
)
from pipeline.stepaudio.vocoder.flow.flow import Flow, FlowCache, Schedule, stretch_mel
from tests.vocoder_files import make_ids, make_voice, small_modules, write_vocoder

pytestmark = pytest.mark.unit

CLOSE = 1e-5  # a hundredth of the golden tolerance
LENGTHS = [(4, 5), (9, 1), (1, 9), (5, 5), (2, 12), (7, 3), (0, 6), (3, 2)]  # groups: prompt, text


@pytest.fixture(scope="module")
def flow(tmp_path_factory: pytest.TempPathFactory) -> Flow:
    return small_modules(write_vocoder(tmp_path_factory.mktemp("vocoder")))[0]


@pytest.fixture(autouse=True)
def _inference() -> Iterator[None]:
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.inference_mode():
        yield
    torch.set_num_threads(n_threads)


@pytest.fixture
def schedule(flow: Flow) -> Schedule:
    return flow.schedule(3)


def rows_of(n_groups: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(tokens.to_rows(make_ids(n_groups, seed)))[None]


def utterance(n_prompt: int, n_groups: int, seed: int) -> WholeUtterance:
    voice = make_voice(n_prompt, seed)
    mel = torch.from_numpy(voice.prompt_mel)[None]
    mel = stretch_mel(mel, 6 * n_prompt) if n_prompt else mel[:, :0]
    embedding = torch.from_numpy(voice.speaker_embedding)[None]
    return WholeUtterance(rows_of(n_groups, seed), rows_of(n_prompt, seed + 50), mel, embedding)


def alone(flow: Flow, one: WholeUtterance, schedule: Schedule) -> Tensor:
    return flow.inference(one.rows, one.prompt_rows, one.prompt_mel, one.embedding, schedule)


def test_eight_of_mixed_lengths_equal_eight_alone(flow: Flow, schedule: Schedule) -> None:
    utterances = [utterance(*lengths, seed) for seed, lengths in enumerate(LENGTHS)]
    mels = inference_batch(flow, utterances, schedule)
    for mel, one in zip(mels, utterances, strict=True):
        torch.testing.assert_close(mel, alone(flow, one, schedule), atol=CLOSE, rtol=0)
    assert CLOSE < MEL_TOLERANCE


def test_what_stands_beside_an_utterance_does_not_matter(flow: Flow, schedule: Schedule) -> None:
    """Bit for bit: sizes are the same, and masked values have no weight at all."""
    short, long = utterance(2, 3, 0), utterance(4, 9, 1)
    other = replace(long, rows=rows_of(9, 77), embedding=-long.embedding)
    with_long = inference_batch(flow, [short, long], schedule)[0]
    with_other = inference_batch(flow, [short, other], schedule)[0]
    assert torch.equal(with_long, with_other)


def start(flow: Flow, one: WholeUtterance, schedule: Schedule) -> FlowCache:
    return flow.setup_cache(
        one.prompt_rows, one.rows[:, :3], one.prompt_mel, one.embedding, schedule
    )


@pytest.mark.slow
@pytest.mark.parametrize("recent_frames", [None, 20])
def test_streams_in_a_batch_equal_streams_alone(
    flow: Flow, schedule: Schedule, recent_frames: int | None
) -> None:
    """Prompts of different lengths, chunk after chunk, past the point where caches are trimmed."""
    streams = [utterance(n_prompt, 21, seed) for seed, n_prompt in enumerate((4, 9, 1, 4))]
    singles = [start(flow, one, schedule) for one in streams]
    together = list(singles)
    for chunk in range(4):
        at, end = 15 * chunk, 15 * (chunk + 1)
        cut = [(one.rows[:, at:end], one.rows[:, end : end + 3]) for one in streams]
        chunks = [
            StreamChunk(rows, ahead, one.embedding, cache)
            for (rows, ahead), one, cache in zip(cut, streams, together, strict=True)
        ]
        results = inference_chunks(flow, chunks, schedule, recent_frames)
        together = [cache for _, cache in results]
        for i, (rows, ahead) in enumerate(cut):
            mel, singles[i] = flow.inference_chunk(
                rows, ahead, streams[i].embedding, singles[i], schedule, recent_frames
            )
            torch.testing.assert_close(results[i][0], mel, atol=CLOSE, rtol=0)
            assert together[i].n_frames == singles[i].n_frames
            keys = together[i].estimator[0][0].keys
            assert keys.shape == singles[i].estimator[0][0].keys.shape


def test_a_stream_may_leave_the_batch_and_go_on_alone(flow: Flow, schedule: Schedule) -> None:
    one, other = utterance(3, 12, 0), utterance(6, 12, 1)
    rows, ahead = one.rows[:, :15], one.rows[:, 15:18]
    first = start(flow, one, schedule)
    chunks = [
        StreamChunk(rows, ahead, one.embedding, first),
        StreamChunk(rows, ahead, other.embedding, start(flow, other, schedule)),
    ]
    _, joined = inference_chunks(flow, chunks, schedule)[0]
    _, single = flow.inference_chunk(rows, ahead, one.embedding, first, schedule)
    tails = [
        flow.inference_chunk(one.rows[:, 15:], None, one.embedding, cache, schedule)[0]
        for cache in (joined, single)
    ]
    torch.testing.assert_close(*tails, atol=CLOSE, rtol=0)
