from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from functools import cache
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.audio.encode import (
    AUDIO_FORMATS,
    encode_file,
    make_encoder,
    to_pcm16,
    wav_header,
    whole_wav,
)
from pipeline.errors import UnsupportedError
from pipeline.voice_list import VOICES_DIR
from tests.audio_files import decode, tone
from tests.conftest import ROOT

pytestmark = pytest.mark.unit

RATE_HZ = 24_000
EXACT = ("wav", "flac", "opus")  # pcm has no container to decode
DELAY_S = {"wav": 0.0, "flac": 0.0, "opus": 0.0, "mp3": 0.07, "aac": 0.05}  # priming and padding
SUFFIXES = (".wav", ".flac", ".mp3", ".ogg", ".opus", ".aac", ".m4a")


@cache
def speech() -> np.ndarray:
    """2 s of a voice, float32 at 24 kHz."""
    samples, rate_hz = decode((VOICES_DIR / "bruno.wav").read_bytes())
    at = np.arange(2 * RATE_HZ) * rate_hz / RATE_HZ
    made = np.interp(at, np.arange(len(samples)), samples).astype(np.float32)
    made.flags.writeable = False
    return made


def encoded(
    audio_format: str, samples: np.ndarray, cut: int = 2_880, rate_hz: int = RATE_HZ
) -> bytes:
    encoder = make_encoder(audio_format, sample_rate_hz=rate_hz)
    parts = [encoder.encode(samples[i : i + cut]) for i in range(0, len(samples), cut)]
    return b"".join([*parts, encoder.finish()])


def snr_db(truth: np.ndarray, found: np.ndarray, max_delay: int) -> float:
    """Signal to error ratio at the best delay of `found`."""
    truth = truth[: len(truth) - max_delay]
    best = 0.0
    for delay in range(max_delay + 1):
        error = found[delay : delay + len(truth)] - truth
        best = max(best, float(np.sum(truth**2) / max(np.sum(error**2), 1e-20)))
    return 10 * np.log10(best)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("audio_format", "least_db"),
    [("wav", 75), ("flac", 75), ("opus", 12), ("mp3", 20), ("aac", 20)],
)
def test_what_was_said_comes_back(audio_format: str, least_db: float) -> None:
    samples = speech()
    found, rate_hz = decode(encoded(audio_format, samples))
    found = found[:: rate_hz // RATE_HZ]
    assert len(samples) <= len(found) <= len(samples) + DELAY_S[audio_format] * RATE_HZ
    assert snr_db(samples, found, max_delay=2_200) >= least_db


@pytest.mark.parametrize("n_samples", [1, 100, 575, 576, 577, 24_000, 24_001])
@pytest.mark.parametrize("audio_format", EXACT)
def test_sample_counts_are_exact(audio_format: str, n_samples: int) -> None:
    found, rate_hz = decode(encoded(audio_format, speech()[:n_samples]))
    assert len(found) == n_samples * rate_hz // RATE_HZ


@pytest.mark.parametrize("audio_format", ["wav", "pcm", "flac"])
def test_lossless_formats_are_exact(audio_format: str) -> None:
    samples = np.concatenate([speech(), np.float32([1.5, -1.5, 1, -1, 0, 1 / 32768])])
    data = encoded(audio_format, samples)
    found = np.frombuffer(data, "<i2") if audio_format == "pcm" else to_pcm16(decode(data)[0])
    np.testing.assert_array_equal(found, to_pcm16(samples))
    assert found[-6:].tolist() == [32767, -32768, 32767, -32768, 0, 1]


def test_a_wav_stream_starts_with_its_header() -> None:
    encoder = make_encoder("wav")
    first = encoder.encode(np.zeros(3, np.float32))
    assert first == wav_header(RATE_HZ, n_samples=None) + bytes(6)
    assert first[4:8] == first[40:44] == b"\xff\xff\xff\xff"
    assert encoder.encode(np.float32([0.5])) == b"\x00\x40"
    assert encoder.finish() == b""


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(
    audio_format=st.sampled_from(AUDIO_FORMATS),
    rate_hz=st.sampled_from([24_000, 16_000, 48_000]),
    cuts=st.lists(st.integers(0, 4_000), min_size=1, max_size=12),
)
def test_bytes_do_not_depend_on_cuts(audio_format: str, rate_hz: int, cuts: list[int]) -> None:
    samples = speech()[:9_001]
    encoder = make_encoder(audio_format, sample_rate_hz=rate_hz)
    parts = [encoder.encode(part) for part in np.split(samples, np.minimum(np.cumsum(cuts), 9_001))]
    whole = encoded(audio_format, samples, cut=9_001, rate_hz=rate_hz)
    assert b"".join([*parts, encoder.finish()]) == whole


@pytest.mark.parametrize("audio_format", AUDIO_FORMATS)
def test_sound_leaves_within_a_tenth_of_a_second(audio_format: str) -> None:
    encoder = make_encoder(audio_format)
    head = len(encoder.encode(np.zeros(0, np.float32)))
    samples = speech()
    latest = max(latency_samples(encoder, samples), 0)
    assert head < 200
    assert latest <= 0.12 * RATE_HZ
    # and then without long gaps
    sizes = [len(encoder.encode(samples[i : i + 480])) for i in range(4_800, 24_000, 480)]
    gaps = "".join("x" if size else "." for size in sizes).split("x")
    assert max(map(len, gaps)) * 480 <= 0.1 * RATE_HZ


def latency_samples(encoder: object, samples: np.ndarray) -> int:
    for start in range(0, 4_800, 480):
        if encoder.encode(samples[start : start + 480]):  # type: ignore[attr-defined]
            return start + 480
    raise AssertionError("no bytes for 0.2 s")


@pytest.mark.parametrize("audio_format", AUDIO_FORMATS)
def test_a_stream_without_sound_ends_well(audio_format: str) -> None:
    data = encoded(audio_format, np.zeros(0, np.float32))
    assert len(data) < 200
    if audio_format == "opus":
        assert data.count(b"OggS") == 2
        assert data.index(b"OpusHead") < data.index(b"OpusTags")


@pytest.mark.slow
def test_bytes_are_the_same_in_another_process() -> None:
    program = (
        "import json, sys; from tests.unit.pipeline.audio.test_encode import digests;"
        "json.dump(digests(), sys.stdout)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        check=True,
        text=True,
        cwd=ROOT,
    )
    assert json.loads(done.stdout) == digests()


def digests() -> dict[str, str]:
    """Of the same speech in every format."""
    return {name: hashlib.sha256(encoded(name, speech())).hexdigest() for name in AUDIO_FORMATS}


def test_ogg_ends_with_an_end_page() -> None:
    data = encoded("opus", speech())
    last = data.rindex(b"OggS")
    assert data[last + 5] & 0x04
    assert data[:4] == b"OggS"
    assert data[5] & 0x02
    serials = {data[i + 14 : i + 18] for i in range(len(data)) if data[i : i + 4] == b"OggS"}
    assert serials == {bytes(4)}


@pytest.mark.parametrize(
    ("audio_format", "rates_hz"),
    [
        ("wav", (8_000, 22_050, 44_100, 48_000, 12_345)),
        ("flac", (8_000, 22_050, 44_100, 48_000, 12_345)),
        ("mp3", (8_000, 11_025, 12_000, 16_000, 22_050, 32_000, 44_100, 48_000)),
        ("aac", (8_000, 11_025, 12_000, 16_000, 22_050, 32_000, 44_100, 48_000)),
        ("opus", (8_000, 12_000, 16_000, 48_000)),
    ],
)
def test_other_rates(audio_format: str, rates_hz: tuple[int, ...]) -> None:
    samples = tone(RATE_HZ, 1)[0].astype(np.float32)
    for wanted_hz in rates_hz:
        found, rate_hz = decode(encoded(audio_format, samples, rate_hz=wanted_hz))
        assert rate_hz == (48_000 if audio_format == "opus" else wanted_hz)
        if audio_format in EXACT:
            assert len(found) == rate_hz
        middle = found[len(found) // 4 :][: rate_hz // 2]
        spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle))))
        assert abs(spectrum.argmax() * rate_hz / len(middle) - 220) < 3
        assert middle.std() == pytest.approx(samples.std(), rel=0.08)


@pytest.mark.parametrize(
    ("audio_format", "rate_hz", "message"),
    [
        (
            "ogg",
            24_000,
            "unknown audio format 'ogg'; allowed are wav, pcm, flac, mp3, opus, aac, pcmu, pcma",
        ),
        ("wav", 7_999, "7999 Hz; allowed is 8000 to 48000 Hz"),
        ("pcm", 48_001, "48001 Hz; allowed is 8000 to 48000 Hz"),
        ("opus", 44_100, "allowed are 8000, 12000, 16000, 24000, 48000 Hz"),
        ("mp3", 20_000, "mp3 cannot hold 20000 Hz"),
    ],
)
def test_what_is_not_offered(audio_format: str, rate_hz: int, message: str) -> None:
    with pytest.raises(UnsupportedError, match=message):
        make_encoder(audio_format, sample_rate_hz=rate_hz)


def test_media_types() -> None:
    found = {name: make_encoder(name).media_type for name in AUDIO_FORMATS}
    assert found == {
        "wav": "audio/wav",
        "pcm": "audio/pcm",
        "flac": "audio/flac",
        "mp3": "audio/mpeg",
        "opus": "audio/ogg",
        "aac": "audio/aac",
        "pcmu": "audio/pcmu",
        "pcma": "audio/pcma",
    }


def expanded(audio_format: str, data: bytes) -> np.ndarray:
    """G.711 as int16, by the recommendation's own formulas (its table 2a and 1a)."""
    code = np.frombuffer(data, np.uint8).astype(np.int32)
    code = code ^ (0xFF if audio_format == "pcmu" else 0x55)
    step, segment = code & 0x0F, (code >> 4) & 0x07
    if audio_format == "pcmu":
        level = (((step << 3) + 0x84) << segment) - 0x84
        return np.where(code & 0x80, -level, level)
    level = np.where(segment, ((step << 4) + 0x108) << np.maximum(segment - 1, 0), (step << 4) + 8)
    return np.where(code & 0x80, level, -level)


@pytest.mark.parametrize("rate_hz", [None, 8_000, 16_000, 24_000, 44_100])
@pytest.mark.parametrize("audio_format", ["pcmu", "pcma"])
def test_telephone_formats(audio_format: str, rate_hz: int | None) -> None:
    encoder = make_encoder(audio_format, sample_rate_hz=rate_hz)
    assert encoder.sample_rate_hz == (rate_hz or 8_000)
    samples = speech()
    found = expanded(audio_format, encoder.encode(samples) + encoder.finish())
    pcm = make_encoder("pcm", sample_rate_hz=rate_hz or 8_000)
    linear = np.frombuffer(pcm.encode(samples) + pcm.finish(), "<i2").astype(np.int32)
    assert len(found) == len(linear)
    error = (found - linear).astype(float)
    assert 10 * np.log10(np.sum(linear.astype(float) ** 2) / np.sum(error**2)) > 30


@pytest.mark.parametrize(("audio_format", "rate_hz"), [("mp3", 44_100), ("opus", 48_000)])
def test_a_bit_rate_can_be_chosen(audio_format: str, rate_hz: int) -> None:
    samples = speech()
    sizes = []
    for bit_rate in (32_000, 128_000):
        encoder = make_encoder(audio_format, sample_rate_hz=rate_hz, bit_rate=bit_rate)
        sizes.append(len(encoder.encode(samples) + encoder.finish()))
    assert sizes[1] > 2 * sizes[0]
    assert sizes[0] * 8 / 2 == pytest.approx(32_000, rel=0.35)


@pytest.mark.parametrize("rate_hz", [8_000, 24_000, 48_000])
def test_a_finished_wav_stream_can_tell_its_length(rate_hz: int) -> None:
    stream = encoded("wav", speech(), rate_hz=rate_hz)
    whole = whole_wav(stream, rate_hz)
    assert whole[44:] == stream[44:]
    assert whole[:44] == wav_header(rate_hz, n_samples=2 * rate_hz)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_files(suffix: str, tmp_path: Path) -> None:
    samples = speech()
    for name in ("one", "two"):
        encode_file(samples, tmp_path / f"{name}{suffix}")
    data = (tmp_path / f"one{suffix}").read_bytes()
    assert data == (tmp_path / f"two{suffix}").read_bytes()
    found, rate_hz = decode(data)
    slack = {".aac": 0.05, ".m4a": 0.04}.get(suffix, 0)
    assert 2 <= len(found) / rate_hz <= 2 + slack
    with av.open(str(tmp_path / f"one{suffix}")) as file:
        assert file.duration is not None
        assert 2 <= file.duration / 1e6 <= 2.07


def test_a_wav_file_tells_its_length(tmp_path: Path) -> None:
    encode_file(np.zeros(5, np.float32), tmp_path / "x.WAV")
    assert (tmp_path / "x.WAV").read_bytes() == wav_header(RATE_HZ, n_samples=5) + bytes(10)
    assert wav_header(RATE_HZ, n_samples=5)[4:8] == (46).to_bytes(4, "little")


def test_a_flac_file_tells_its_length_and_digest(tmp_path: Path) -> None:
    samples = speech()
    encode_file(samples, tmp_path / "x.flac")
    info = (tmp_path / "x.flac").read_bytes()[8:42]
    assert int.from_bytes(info[13:18], "big") & (2**36 - 1) == len(samples)
    pcm = to_pcm16(samples).tobytes()
    assert info[18:34] == hashlib.md5(pcm, usedforsecurity=False).digest()


def test_an_unknown_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=r"'x\.wma'; allowed suffixes are \.wav \.flac"):
        encode_file(speech(), tmp_path / "x.wma")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_streams_that_are_dropped_leave_nothing() -> None:
    files = len(list(Path("/proc/self/fd").iterdir()))
    memory = Path("/proc/self/statm").read_text().split()[1]
    for _ in range(60):
        for audio_format in AUDIO_FORMATS:
            make_encoder(audio_format).encode(speech()[:4_800])
    grown = int(Path("/proc/self/statm").read_text().split()[1]) - int(memory)
    assert len(list(Path("/proc/self/fd").iterdir())) == files
    assert grown * 4096 < 20_000_000
