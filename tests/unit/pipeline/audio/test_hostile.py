"""Uploads made to break the decoder: each gets a typed error or decodes within the limits."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from pipeline.audio.decode import ClipLimits, decode_clip
from pipeline.audio.reference import read_reference
from pipeline.errors import InputError, UndecodableAudioError
from tests.audio_files import libav, tone, wav
from tests.conftest import ROOT
from tests.hostile_files import ANY, OK, Case, bombs, hostile_cases, wma_claims

pytestmark = pytest.mark.unit
MAX_S = 2.0  # of the processor; the slowest takes 0.1 on a usual one

LIMITS = ClipLimits()


@pytest.fixture(scope="module")
def cases() -> dict[str, Case]:
    return hostile_cases()


def _try(data: bytes) -> InputError | None:
    try:
        clip = decode_clip(data, LIMITS)
    except InputError as error:
        return error
    assert np.isfinite(clip.samples).all()
    assert LIMITS.min_duration_s <= clip.duration_s <= LIMITS.max_duration_s
    assert LIMITS.min_sample_rate_hz <= clip.sample_rate_hz <= LIMITS.max_sample_rate_hz
    return None


@pytest.mark.slow
def test_every_hostile_upload_is_refused_or_decoded(cases: dict[str, Case]) -> None:
    assert len(cases) >= 130
    wrong = []
    for name, (data, expected) in cases.items():
        started_s = time.process_time()
        error = _try(data)
        took_s = time.process_time() - started_s
        if took_s > MAX_S:
            wrong.append(f"{name}: took {took_s:.1f} s")
        is_right = error is None if expected is OK else isinstance(error, expected)
        if not is_right and not (expected is ANY and error is None):
            wrong.append(f"{name}: {error!r}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.slow
def test_what_is_decoded_can_be_conditioned(cases: dict[str, Case]) -> None:
    for name, (data, _) in cases.items():
        try:
            read = read_reference(data, LIMITS)
        except InputError:
            continue
        assert np.isfinite(read.clip.samples).all(), name
        assert 0 < read.clip.duration_s <= LIMITS.max_duration_s, name


@pytest.mark.slow
def test_a_thousand_hostile_uploads_leave_nothing_behind(cases: dict[str, Case]) -> None:
    honest = wav(tone(16_000, 1), 16_000)
    before = decode_clip(honest).digest
    uploads = [data for data, _ in cases.values()]
    for data in uploads:
        _try(data)  # fills what is filled once
    files, threads, memory = _open_files(), threading.active_count(), _resident_bytes()
    for turn in range(1_000):
        _try(uploads[turn % len(uploads)])
    assert _open_files() == files
    assert threading.active_count() == threads
    assert _resident_bytes() - memory < 20_000_000
    assert decode_clip(honest).digest == before


@pytest.mark.slow
def test_random_damage_is_never_a_crash() -> None:
    rng = np.random.default_rng(11)
    for container, encoder in (
        ("flac", "flac"),
        ("mp3", "libmp3lame"),
        ("ogg", "libopus"),
        ("webm", "libopus"),
        ("ipod", "aac"),
        ("wav", "pcm_s24le"),
        ("aiff", "pcm_s16be"),
        ("caf", "alac"),
        ("wv", "wavpack"),
        ("asf", "wmav2"),
        ("ac3", "ac3"),
        ("eac3", "eac3"),
        ("mpegts", "aac"),
        ("mpegts", "mp2"),
        ("amr", "libopencore_amrnb"),
        ("3gp", "libopencore_amrnb"),
    ):
        rate_hz = {"asf": 44_100, "amr": 8_000, "3gp": 8_000}.get(container, 48_000)
        music = tone(rate_hz, 1)
        sample_format = "s16p" if encoder == "wavpack" else None
        bit_rate = 96_000 if encoder == "wmav2" else None
        encoded = libav(
            music, rate_hz, container, encoder, sample_format=sample_format, bit_rate=bit_rate
        )
        whole = np.frombuffer(encoded, np.uint8)
        for _ in range(40):
            data = whole.copy()
            where = rng.integers(0, min(len(data), rng.choice([64, 400, len(data)])), 8)
            data[where] = rng.integers(0, 256, 8)
            _try(data.tobytes())


@pytest.mark.slow
def test_bombs_stay_small(tmp_path: Path) -> None:
    """In a fresh process, whose peak memory is its own."""
    for number, (_, (data, _)) in enumerate([*bombs(), *wma_claims()]):
        (tmp_path / str(number)).write_bytes(data)
    program = """
import sys
from pathlib import Path
from pipeline.audio.decode import decode_clip
from pipeline.errors import InputError, UndecodableAudioError
def peak(): return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
before = peak()
for path in Path(sys.argv[1]).iterdir():
    try:
        decode_clip(path.read_bytes())
    except InputError:
        continue
sys.stdout.write(str(peak() - before))
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        capture_output=True,
        check=True,
        text=True,
        cwd=ROOT,
    )
    assert int(done.stdout) < 60_000  # KiB


def _open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


@pytest.mark.parametrize(
    ("container", "encoder"),
    [("flac", "flac"), ("wv", "wavpack"), ("ogg", "libopus"), ("aiff", "pcm_s16be")],
)
def test_one_packet_cannot_hold_more_than_the_bound(
    monkeypatch: pytest.MonkeyPatch, container: str, encoder: str
) -> None:
    sample_format = "s16p" if encoder == "wavpack" else None
    data = libav(tone(48_000, 1), 48_000, container, encoder, sample_format=sample_format)
    assert decode_clip(data).duration_s == 1
    monkeypatch.setattr("pipeline.audio.decode._MAX_FRAME_VALUES", 100)
    with pytest.raises(UndecodableAudioError):
        decode_clip(data)
