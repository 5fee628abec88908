"""Places by count and by bytes, in the order streams came, and none lost."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from deployments.config.stage_settings import VocoderSettings
from deployments.http.errors import status_of
from deployments.stages.admission import StreamAdmission, StreamPermit
from deployments.stages.vocoder import permit_for, stream_budget_bytes
from pipeline.contracts import SpeechRequest
from pipeline.errors import CapacityError, ConfigError, TooLargeError
from pipeline.stepaudio.config import VocoderConfig
from pipeline.stepaudio.tokens import GROUP_ROWS
from pipeline.stepaudio.vocoder.memory_plan import VocoderMemory
from tests.fakes import voice_prompt
from tests.vocoder_files import SMALL_YAML

pytestmark = pytest.mark.unit

GIB = 2**30


async def entered(permit: StreamPermit) -> bool:
    """Whether the place is free now; it is taken if so."""
    try:
        async with asyncio.timeout(0.01):
            await permit.acquire()
    except TimeoutError:
        return False
    return True


async def test_streams_are_counted() -> None:
    admission = StreamAdmission(2)
    permits = [admission.permit(10**15) for _ in range(3)]
    assert [await entered(permit) for permit in permits] == [True, True, False]
    permits[0].release()
    assert await entered(permits[2])


async def test_bytes_are_counted() -> None:
    admission = StreamAdmission(10, 100)
    first, second, third = (admission.permit(n) for n in (60, 40, 1))
    assert [await entered(p) for p in (first, second, third)] == [True, True, False]
    assert admission.used_bytes == 100
    second.release()
    assert await entered(third)
    assert admission.used_bytes == 61


async def test_nobody_overtakes_and_leaving_the_queue_lets_others_in() -> None:
    admission = StreamAdmission(10, 100)
    await admission.acquire(60)
    large = asyncio.create_task(admission.acquire(80))
    small = asyncio.create_task(admission.acquire(20))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not large.done()
    assert not small.done()
    large.cancel()
    await asyncio.wait([large, small], timeout=60)
    assert small.done()
    assert admission.used_bytes == 80


async def test_a_turn_that_comes_with_the_cancellation_is_given_back() -> None:
    admission = StreamAdmission(1, 100)
    await admission.acquire(50)
    waiting = asyncio.create_task(admission.acquire(50))
    await asyncio.sleep(0)
    admission.release(50)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert admission.used_bytes == 0
    assert await entered(admission.permit(100))


async def test_a_place_left_before_a_cancelled_one_has_noticed_is_not_lost() -> None:
    admission = StreamAdmission(1, 100)
    await admission.acquire(50)
    gone, later = (asyncio.create_task(admission.acquire(50)) for _ in range(2))
    await asyncio.sleep(0)
    gone.cancel()
    admission.release(50)
    with pytest.raises(asyncio.CancelledError):
        await gone
    await asyncio.wait_for(later, 1)
    assert admission.used_bytes == 50
    admission.release(50)
    assert await entered(admission.permit(100))


def test_a_stream_that_would_never_fit_is_refused_at_once() -> None:
    with pytest.raises(TooLargeError, match=r"take 101 bytes .* 100 are there"):
        StreamAdmission(10, 100).permit(101)


async def test_only_so_many_wait_and_those_who_left_do_not_count() -> None:
    admission = StreamAdmission(1, max_waiting=2)
    await admission.acquire(1)
    waiting = [asyncio.create_task(admission.acquire(1)) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(CapacityError, match="2 streams wait already"):
        await admission.acquire(1)
    waiting[0].cancel()
    later = asyncio.create_task(admission.acquire(1))
    await asyncio.sleep(0)
    admission.release(1)
    await asyncio.wait_for(waiting[1], 60)
    admission.release(1)
    await asyncio.wait_for(later, 60)
    nobody = StreamAdmission(1, max_waiting=0)
    await nobody.acquire(1)
    with pytest.raises(CapacityError):
        await nobody.acquire(1)


def test_what_can_never_fit_is_the_callers_to_change(tmp_path: Path) -> None:
    """A permanent mistake is no 503: retrying would not cure it."""
    full, voice = memory(tmp_path), voice_prompt(n_groups=50)
    request = SpeechRequest("Hello.", "Hi.", first_chunk_rows=250)
    rows = voice.n_groups * GROUP_ROWS
    for budget_bytes, param in (
        (full.stream_bytes(rows), "initial_codec_chunk_frames"),
        (full.stream_bytes(rows) - 1, None),
    ):
        with pytest.raises(TooLargeError, match="take fewer") as caught:
            permit_for(request, voice, full, StreamAdmission(10, budget_bytes))
        assert caught.value.param == param
        assert 400 <= status_of(caught.value) < 500
    fits = full.stream_bytes(rows, 250)
    assert permit_for(request, voice, full, StreamAdmission(10, fits)).size_bytes == fits


def memory(tmp_path: Path, max_batch: int = 8, kept_bytes: int = 0) -> VocoderMemory:
    """Of a vocoder at the released sizes."""
    yaml_text = SMALL_YAML
    for small, full in (
        ("output_size: 32", "output_size: 512"),
        ("input_size: 32", "input_size: 512"),
        ("num_blocks: 1", "num_blocks: 6"),
        ("num_up_blocks: 1", "num_up_blocks: 4"),
        ("depth: 2", "depth: 16"),
        ("num_heads: 2", "num_heads: 8"),
        ("head_dim: 16", "head_dim: 64"),
        ("hidden_size: 32", "hidden_size: 512"),
    ):
        assert small in yaml_text
        yaml_text = yaml_text.replace(small, full)
    (tmp_path / "cosyvoice.yaml").write_text(yaml_text)
    config = VocoderConfig.load(tmp_path)
    return VocoderMemory.of(
        config, 10, 96, (15, 24, 48), max_batch=max_batch, kept_bytes=kept_bytes
    )


def test_a_frame_of_the_released_sizes_is_as_written_down(tmp_path: Path) -> None:
    """docs/decisions/0003: 1.3 MB a frame; six seconds of prompt are 300 frames."""
    full = memory(tmp_path)
    assert full.slab.frame_bytes == 10 * 16 * 2 * 2 * 512 * 4
    assert 0.6e9 < full.stream_bytes(150) < 0.9e9
    assert full.stream_bytes(750) > full.stream_bytes(150)
    assert full.stream_bytes(150, 250) > full.stream_bytes(150)


def test_a_cap_too_small_for_one_stream_stops_start_up(tmp_path: Path) -> None:
    weights = memory(tmp_path, kept_bytes=GIB)
    stage = VocoderSettings(device="cuda", gpu_memory_gib=11)
    budget_bytes = stream_budget_bytes(stage, weights, 30.0)
    assert budget_bytes == 11 * GIB - weights.shared_bytes
    assert budget_bytes // weights.stream_bytes(150) >= 10
    tight = VocoderSettings(device="cuda", gpu_memory_gib=4)
    with pytest.raises(ConfigError, match=r"gpu_memory_gib is 4: .* 30 s clip takes"):
        stream_budget_bytes(tight, weights, 30.0)
    assert stream_budget_bytes(tight, weights, 6.0) is not None
    assert stream_budget_bytes(VocoderSettings(), weights, 30.0) is None
