"""What makes the decoder fast must not change what it says: batches, kept prompts, first chunks."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.contracts import VoicePrompt
from pipeline.errors import ConfigError, StageError
from pipeline.stepaudio.vocoder import stream as stream_module
from pipeline.stepaudio.vocoder.wave_decoder import StepWaveDecoder, chunk_schedule
from tests.vocoder_files import join, make_ids, make_voice, token_stream, write_vocoder
from tests.waiting import GIVE_UP_S

pytestmark = [pytest.mark.unit, pytest.mark.slow]
# The mels of a batch agree to 1e-5 (test_flow_batch); the sines' phase adds up differences of F0,
# which these weights make a thousandfold larger than real ones do. The signal's level is 0.04;
# with batches of eight, cut by chance in many ways, differences of up to 7e-4 were seen.
CLOSE = 1e-3


@pytest.fixture(scope="module")
def vocoder_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_vocoder(tmp_path_factory.mktemp("vocoder"))


@pytest.fixture(scope="module")
def plain(vocoder_dir: Path) -> Iterator[StepWaveDecoder]:
    decoder = StepWaveDecoder(vocoder_dir, threads=1, steps=3)
    yield decoder
    decoder.close()


@pytest.fixture(scope="module")
def fast(vocoder_dir: Path) -> Iterator[StepWaveDecoder]:
    decoder = StepWaveDecoder(
        vocoder_dir, threads=1, steps=3, max_batch=8, prompt_memory_bytes=10**7
    )
    yield decoder
    assert decoder.active_streams == 0
    decoder.close()


async def pieces(
    decoder: StepWaveDecoder, ids: np.ndarray, voice: VoicePrompt, first: int | None = None
) -> list[np.ndarray]:
    return [c.samples async for c in decoder.stream(token_stream(ids, 99), voice, first)]


def test_eight_utterances_at_once_equal_eight_alone(plain: StepWaveDecoder) -> None:
    jobs = [(make_ids(n, n), make_voice(3 + n % 4, n)) for n in (1, 12, 5, 0, 7, 7, 3, 9)]
    for audio, job in zip(plain.decode_batch(jobs), jobs, strict=True):
        alone = plain.decode(*job)
        assert audio.shape == alone.shape
        np.testing.assert_allclose(audio, alone, rtol=0, atol=CLOSE)
    assert plain.decode_batch([]) == []


async def test_streams_share_batches_and_sound_the_same(
    plain: StepWaveDecoder, fast: StepWaveDecoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = [(make_ids(22, i), make_voice(3 + 2 * i, i)) for i in range(8)]
    alone = [join(await pieces(plain, *job)) for job in jobs]
    sizes: list[int] = []
    real = stream_module.inference_chunks

    def watched(flow: Any, chunks: Any, *args: Any) -> Any:
        sizes.append(len(chunks))
        return real(flow, chunks, *args)

    monkeypatch.setattr(stream_module, "inference_chunks", watched)
    together = await asyncio.gather(*(pieces(fast, *job) for job in jobs))
    assert max(sizes) > 1
    for one, parts in zip(alone, together, strict=True):
        np.testing.assert_allclose(join(parts), one, rtol=0, atol=CLOSE)


async def test_leaving_a_batch_harms_nobody(
    fast: StepWaveDecoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, may_go_on = threading.Event(), threading.Event()
    real = stream_module.inference_chunks

    def held(*args: Any) -> Any:
        began.set()
        assert may_go_on.wait(GIVE_UP_S)
        return real(*args)

    monkeypatch.setattr(stream_module, "inference_chunks", held)
    jobs = [(make_ids(40, i), make_voice(4, i)) for i in range(3)]
    tasks = [asyncio.create_task(pieces(fast, *job)) for job in jobs]
    assert await asyncio.to_thread(began.wait, GIVE_UP_S)
    tasks[1].cancel()
    await asyncio.sleep(0)
    may_go_on.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(results[1], asyncio.CancelledError)
    for parts in (results[0], results[2]):
        assert not isinstance(parts, BaseException)
        assert len(join(parts)) == 40 * 2880
    assert fast.active_streams == 0


async def test_a_failing_batch_is_a_stage_error(
    fast: StepWaveDecoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("out of memory\nwith details")

    monkeypatch.setattr(stream_module, "inference_chunks", fail)
    jobs = [(make_ids(20, i), make_voice(4, i)) for i in range(3)]
    results = await asyncio.gather(*(pieces(fast, *j) for j in jobs), return_exceptions=True)
    failures = [result for result in results if isinstance(result, StageError)]
    assert len(failures) >= 2
    assert all("out of memory" in str(failure) for failure in failures)


@pytest.mark.parametrize(("is_exact", "n_setups"), [(True, 2), (False, 1)])
async def test_a_kept_prompt_gives_the_same_bytes(
    vocoder_dir: Path, monkeypatch: pytest.MonkeyPatch, is_exact: bool, n_setups: int
) -> None:
    """Exact caches are those of the same first rows alone; a voice's state serves any text."""
    decoder = StepWaveDecoder(
        vocoder_dir, threads=1, steps=3, prompt_memory_bytes=10**7, is_exact=is_exact
    )
    plain = StepWaveDecoder(vocoder_dir, threads=1, steps=3, is_exact=is_exact)
    setups: list[int] = []
    setup = decoder._model.flow.setup_cache
    monkeypatch.setattr(
        decoder._model.flow, "setup_cache", lambda *args: (setups.append(1), setup(*args))[1]
    )
    voice, ids, others = make_voice(), make_ids(9), make_ids(9, 5)
    fresh = [join(await pieces(plain, one, voice)) for one in (ids, ids, others)]
    kept = [join(await pieces(decoder, one, voice)) for one in (ids, ids, others)]
    assert len(setups) == n_setups
    for one, other in zip(fresh, kept, strict=True):
        assert np.array_equal(one, other)
    assert decoder._prompt_memory.hits == 5 - n_setups  # the voice twice, caches the rest
    decoder.close()
    plain.close()


async def test_a_forgotten_voice_leaves_nothing_even_when_it_is_being_spoken(
    plain: StepWaveDecoder, vocoder_dir: Path
) -> None:
    decoder = StepWaveDecoder(vocoder_dir, threads=1, steps=3, prompt_memory_bytes=10**7)
    voice, other, ids = make_voice(), make_voice(5, 1), make_ids(9)

    async def speak(voice: VoicePrompt, owner: str, *, forget: bool = False) -> np.ndarray:
        stream = decoder.stream(token_stream(ids, 1), voice, owner=owner)
        if forget:
            decoder.forget(owner)
        return join([chunk.samples async for chunk in stream])

    await speak(other, "clone_b")
    kept_bytes = decoder._prompt_memory.used_bytes
    await speak(voice, "clone_a")
    decoder.forget("clone_a")
    assert decoder._prompt_memory.used_bytes == kept_bytes > 0
    again = await speak(voice, "clone_a", forget=True)
    assert decoder._prompt_memory.used_bytes == kept_bytes
    assert np.array_equal(again, join(await pieces(plain, ids, voice)))
    decoder.close()


@pytest.mark.parametrize(
    ("first", "expected"),
    [
        (None, (15, 24, 48)),
        (1, (5, 10, 15, 24, 48)),
        (6, (6, 12, 15, 24, 48)),
        (8, (8, 15, 24, 48)),
        (15, (15, 24, 48)),
        (40, (40, 24, 48)),
    ],
)
def test_a_smaller_first_chunk_ramps_up(first: int | None, expected: tuple[int, ...]) -> None:
    assert chunk_schedule((15, 24, 48), first) == expected


def test_a_single_size_stays_single() -> None:
    assert chunk_schedule((20,), 30) == (30, 20)
    assert chunk_schedule((20,), 6) == (6, 12, 20)


async def test_the_first_chunk_is_as_asked_and_the_total_is_not_changed(
    plain: StepWaveDecoder,
) -> None:
    ids, voice = make_ids(30), make_voice()
    usual, small = await pieces(plain, ids, voice), await pieces(plain, ids, voice, 6)
    frames = [len(piece) // 480 for piece in small]
    assert frames[:3] == [2 * 6 - 8, 2 * 12, 2 * 15]
    assert len(join(small)) == len(join(usual))
    again = await pieces(plain, ids, voice, 6)
    assert np.array_equal(join(small), join(again))


def test_impossible_settings_are_refused(vocoder_dir: Path) -> None:
    for settings in ({"max_batch": 0}, {"prompt_memory_bytes": -1}):
        with pytest.raises(ConfigError):
            StepWaveDecoder(vocoder_dir, **settings)  # type: ignore[arg-type]
