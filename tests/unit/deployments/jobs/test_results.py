"""One file of many parts: times, loudness by voice, and memory that does not grow."""

from __future__ import annotations

import io
from pathlib import Path

import av
import numpy as np
import pytest

from cache_store.keys import raw_key
from deployments.config.settings import load_settings
from deployments.jobs import results as joining
from deployments.jobs.documents import Cue, JobPlan, JobSegment, PartFacts
from deployments.jobs.flac import from_flac, to_flac
from deployments.jobs.parts import Parts
from deployments.jobs.results import Results
from deployments.jobs.store import JobName
from deployments.voices.shelf import Shelf
from pipeline.audio.encode import to_pcm16
from pipeline.audio.levels import measure_levels
from pipeline.contracts import Float32Array, Int16Array

pytestmark = pytest.mark.unit
RATE_HZ = 24_000
JOB = JobName("shared", "job_" + "0" * 32)


def noise(seconds: float, level: float, seed: int = 0) -> Float32Array:
    rng = np.random.default_rng(seed)
    return (level * rng.standard_normal(round(seconds * RATE_HZ))).astype(np.float32)


def plan(count: int, **how: object) -> JobPlan:
    return JobPlan.read(
        {"created_unix_s": 0, "n_segments": count, "n_chars": 1, "seed": 0,
         "response_format": "wav", **how}
    )  # fmt: skip


class Joined:
    """Parts that are joined, and what comes of it."""

    def __init__(self, directory: Path) -> None:
        shelf = Shelf.open(load_settings({"cache": {"url": str(directory)}}).cache)
        assert shelf is not None
        self.parts = Parts(shelf)
        self.results = Results(shelf)
        self.kept: dict[int, PartFacts] = {}

    async def keep(self, number: int, samples: Float32Array) -> None:
        pcm = to_pcm16(samples)
        audio = to_flac(pcm)
        loudness = measure_levels(samples, RATE_HZ).loudness_lufs()
        facts = PartFacts(
            number=number, audio=raw_key(audio), size_bytes=len(audio), n_samples=len(pcm),
            loudness_lufs=loudness,
        )  # fmt: skip
        self.kept[number] = await self.parts.keep(JOB, facts, audio)

    async def file(self, segments: list[JobSegment], **how: object) -> bytes:
        await self.results.build(JOB, 1, plan(len(segments), **how), segments, self.kept)
        note = await self.results.note(JOB, 1)
        slabs = [slab async for slab in self.results.audio(JOB, 1, note)]
        assert len(slabs) == note.n_slabs
        assert sum(map(len, slabs)) == note.size_bytes
        return b"".join(slabs)


def pcm_of(wav: bytes) -> Int16Array:
    return np.frombuffer(wav[44:], "<i2")


def test_flac_keeps_every_sample():
    pcm = to_pcm16(noise(0.7, 0.3))
    back = np.concatenate([to_pcm16(piece) for piece in from_flac(to_flac(pcm))])
    assert np.array_equal(back, pcm)


async def test_parts_are_where_pauses_and_times_put_them(tmp_path: Path):
    joined = Joined(tmp_path)
    segments = [
        JobSegment(text="a", voice="x", pause_s=0.5),
        JobSegment(text="b", voice="x", cue=Cue(begin_s=3.0, end_s=4.0)),
        JobSegment(text="c", voice="x", cue=Cue(begin_s=3.1, end_s=4.0)),
    ]
    for number in range(3):
        await joined.keep(number, noise(0.4, 0.1, number))
    pcm = pcm_of(await joined.file(segments))
    loud = np.abs(pcm) > 0
    edge = round(0.02 * RATE_HZ)
    assert loud[edge : round(0.38 * RATE_HZ)].mean() > 0.9
    assert not loud[round(0.4 * RATE_HZ) : round(3.0 * RATE_HZ)].any()
    assert loud[round(3.02 * RATE_HZ) : round(3.38 * RATE_HZ)].mean() > 0.9
    assert len(pcm) == round(3.8 * RATE_HZ), "the third begins when the second has ended"


async def test_a_voice_is_brought_to_the_target_and_keeps_its_dynamics(tmp_path: Path):
    joined = Joined(tmp_path)
    segments = [JobSegment(text="a", voice=voice) for voice in ("x", "x", "y")]
    for number, level in enumerate((0.02, 0.01, 0.2)):
        await joined.keep(number, noise(1.0, level, number))
    pcm = pcm_of(await joined.file(segments, target_lufs=-19.0)).astype(np.float32) / 32_768
    levels = [
        measure_levels(pcm[at * RATE_HZ : (at + 1) * RATE_HZ], RATE_HZ).loudness_lufs()
        for at in range(3)
    ]
    assert levels[0] - levels[1] == pytest.approx(6.0, abs=0.3)
    assert levels[2] == pytest.approx(-19.0, abs=0.5)
    whole = measure_levels(pcm[: 2 * RATE_HZ], RATE_HZ).loudness_lufs()
    assert whole == pytest.approx(-19.0, abs=0.5)


@pytest.mark.parametrize("sound", ["mp3", "flac", "opus"])
async def test_any_format_lies_in_slabs(
    tmp_path: Path, sound: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(joining, "SLAB_BYTES", 5_000)
    joined = Joined(tmp_path)
    for number in range(4):
        await joined.keep(number, noise(0.5, 0.1, number))
    segments = [JobSegment(text="a", voice="x")] * 4
    data = await joined.file(segments, response_format=sound)
    with av.open(io.BytesIO(data)) as container:
        decoded = sum(frame.samples / frame.sample_rate for frame in container.decode(audio=0))
    assert decoded == pytest.approx(2.0, abs=0.1)


async def test_of_two_makers_the_first_is_kept(tmp_path: Path):
    joined = Joined(tmp_path)
    await joined.keep(0, noise(0.1, 0.1, 1))
    first = joined.kept[0]
    await joined.keep(0, noise(0.1, 0.1, 2))
    assert joined.kept[0] == first
    assert raw_key(await joined.parts.audio(JOB, first)) == first.audio
