from __future__ import annotations

import io
import json
from pathlib import Path

import av
import numpy as np
import pytest
from blake3 import blake3

from pipeline.audio.decode import ClipLimits, decode_clip
from pipeline.errors import (
    ClipDurationError,
    SampleRateError,
    SilentAudioError,
    TooLargeError,
    UndecodableAudioError,
)
from tests.audio_files import damaged, libav, mp4, quantised, tone, wav, wav_of

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("n_channels", [1, 2, 6, 8, 16])
@pytest.mark.parametrize("bits", [8, 16, 24, 32, -32, -64])
def test_wav_is_sample_exact(bits: int, n_channels: int) -> None:
    samples = tone(16_000, 0.6, n_channels)
    stored = samples if bits < 0 else quantised(samples, bits) / 2 ** (bits - 1)
    if bits == -32:
        stored = stored.astype(np.float32)
    clip = decode_clip(wav(samples, 16_000, bits))
    assert clip.samples.dtype == np.float32
    np.testing.assert_array_equal(
        clip.samples, stored.astype(np.float64).mean(axis=0).astype(np.float32)
    )


@pytest.mark.parametrize("rate_hz", [8_000, 11_025, 22_050, 44_100, 48_000, 96_000, 192_000])
def test_rate_is_kept(rate_hz: int) -> None:
    clip = decode_clip(wav(tone(rate_hz, 1), rate_hz))
    assert clip.sample_rate_hz == rate_hz
    assert clip.duration_s == 1


@pytest.mark.parametrize("layout", ["mono", "stereo", "5.1", "7.1"])
def test_flac_is_sample_exact(layout: str) -> None:
    n_channels = {"mono": 1, "stereo": 2, "5.1": 6, "7.1": 8}[layout]
    samples = tone(48_000, 0.7, n_channels)
    clip = decode_clip(libav(samples, 48_000, "flac", "flac", layout))
    stored = quantised(samples, 16) / 32768
    np.testing.assert_array_equal(clip.samples, stored.mean(axis=0).astype(np.float32))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("container", "encoder", "rate_hz", "slack_s"),
    [
        ("mp3", "libmp3lame", 44_100, 0.0),
        ("ogg", "libopus", 48_000, 0.0),
        ("webm", "libopus", 48_000, 0.0),
        ("adts", "aac", 44_100, 0.05),
        ("ipod", "aac", 44_100, 0.03),
        ("mp4", "aac", 48_000, 0.03),  # with a video track
        ("matroska", "flac", 48_000, 0.0),
        ("ogg", "flac", 48_000, 0.0),
        ("wav", "pcm_s24le", 48_000, 0.0),
        ("wav", "pcm_mulaw", 48_000, 0.0),
        ("wav", "adpcm_ms", 48_000, 0.03),
    ],
)
def test_what_phones_and_browsers_record(
    container: str, encoder: str, rate_hz: int, slack_s: float
) -> None:
    samples = tone(rate_hz, 1.2, 2)
    clip = decode_clip(libav(samples, rate_hz, container, encoder, "stereo"))
    assert clip.sample_rate_hz == rate_hz
    assert 1.2 <= clip.duration_s <= 1.2 + slack_s + 1e-9
    # the channels' two pitches are the two highest peaks, and as loud as they were
    for pitch_hz in (220, 330):
        n_samples = round(rate_hz * 1.0)
        t = np.arange(n_samples) / rate_hz
        level = 2 * abs(np.mean(clip.samples[:n_samples] * np.exp(-2j * np.pi * pitch_hz * t)))
        assert level == pytest.approx(0.4 * 0.95 / 2, rel=0.1)


def test_eight_channels_in_separate_planes() -> None:
    samples = tone(48_000, 1, 8)
    clip = decode_clip(libav(samples, 48_000, "ogg", "libopus", "7.1"))
    assert len(clip.samples) == 48_000
    t = np.arange(40_000) / 48_000
    for channel in (0, 1, 2, 4, 5, 6, 7):  # Opus cuts the band of 3, the bass
        wave = np.exp(-2j * np.pi * 110 * (channel + 2) * t)
        level = 2 * abs(np.mean(clip.samples[: len(t)] * wave))
        assert level == pytest.approx(0.4 * 0.95 / 8, rel=0.1), channel


def test_plain_mp4_tables_are_accepted() -> None:
    body = quantised(tone(8000, 1)[0], 16).astype("<i2").tobytes()
    for is_long in (False, True):
        clip = decode_clip(mp4(b"sowt", 8000, 2, body, is_long=is_long))
        np.testing.assert_array_equal(clip.samples, np.frombuffer(body, "<i2") / np.float32(32768))


def test_digest_names_samples_and_rate() -> None:
    samples = tone(16_000, 0.6)
    clip = decode_clip(wav(samples, 16_000))
    expected = blake3((16_000).to_bytes(8, "little") + clip.samples.tobytes()).hexdigest()
    assert clip.digest == expected
    assert decode_clip(libav(samples, 16_000, "flac", "flac")).digest == expected
    assert decode_clip(wav(samples, 16_001)).digest != expected
    assert decode_clip(wav(samples * 0.99, 16_000)).digest != expected


@pytest.mark.parametrize("claimed_bytes", [0xFFFFFFFF, 0, 2 * 16_000 * 36_000])
def test_the_header_s_length_is_not_believed(claimed_bytes: int) -> None:
    samples = tone(16_000, 0.5)
    clip = decode_clip(wav(samples, 16_000, data_bytes=claimed_bytes))
    np.testing.assert_array_equal(clip.samples, quantised(samples[0], 16) / np.float32(32768))


@pytest.mark.parametrize(
    ("container", "encoder"),
    [
        ("flac", "flac"),
        ("mp3", "libmp3lame"),
        ("webm", "libopus"),
        ("adts", "aac"),
        ("wav", "pcm_s16le"),
    ],
)
def test_a_file_that_breaks_off_gives_what_is_there(container: str, encoder: str) -> None:
    whole = libav(tone(48_000, 3), 48_000, container, encoder)
    full = decode_clip(whole)
    part = decode_clip(whole[: int(len(whole) * 0.6)])
    n_samples = len(part.samples)
    assert 1.4 < part.duration_s < 2.2
    keep = n_samples - 2400  # a codec's last frame may lack its overlap
    np.testing.assert_allclose(part.samples[:keep], full.samples[:keep], atol=1e-6)


def test_damage_in_the_middle_is_refused() -> None:
    flac = libav(tone(24_000, 2), 24_000, "flac", "flac")
    with pytest.raises(UndecodableAudioError, match=r"damaged after \d\.\d\d s"):
        decode_clip(damaged(flac))
    opus = libav(np.concatenate([tone(48_000, 4)] * 2, axis=1), 48_000, "ogg", "libopus")
    with pytest.raises(UndecodableAudioError, match=r"damaged after \d\.\d\d s"):
        decode_clip(damaged(opus))


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (b"", UndecodableAudioError, "the file is empty"),
        (b"x" * 101, TooLargeError, "101 bytes; allowed are 100"),
        (b"hello, world", UndecodableAudioError, "no known audio format"),
    ],
)
def test_bytes_that_are_no_audio(data: bytes, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        decode_clip(data, ClipLimits(max_bytes=100))


def test_every_bound_is_allowed_and_one_beyond_is_not() -> None:
    limits = ClipLimits(0.5, 1.0, 16_000, 24_000)
    for n_samples in (8_000, 16_000):
        assert len(decode_clip(wav(tone(16_000, n_samples / 16_000), 16_000), limits).samples) == (
            n_samples
        )
    for n_samples, found in ((7_999, "lasts 0.49994 s"), (16_001, "longer than 1 s")):
        with pytest.raises(ClipDurationError, match=f"{found}; allowed is 0.5 to 1 s"):
            decode_clip(wav(tone(16_000, n_samples / 16_000), 16_000), limits)
    for rate_hz in (15_999, 24_001):
        with pytest.raises(SampleRateError, match=f"{rate_hz} Hz; allowed is 16000 to 24000 Hz"):
            decode_clip(wav(tone(rate_hz, 0.75), rate_hz), limits)


@pytest.mark.parametrize("offset", [0.0, 0.5])
def test_silence_is_refused_with_any_offset(offset: float) -> None:
    hiss = tone(16_000, 1, peak=0.0009) + offset
    with pytest.raises(SilentAudioError, match=r"0\.0009\d of full scale; more than 0\.001"):
        decode_clip(wav(hiss, 16_000, -32))
    murmur = tone(16_000, 1, peak=0.0012) + offset
    assert len(decode_clip(wav(murmur, 16_000, -32)).samples) == 16_000


def test_channels_that_cancel_are_silence() -> None:
    wave = tone(16_000, 1)
    with pytest.raises(SilentAudioError):
        decode_clip(wav(np.concatenate([wave, -wave]), 16_000, -32))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30, 32_000.0])
def test_samples_off_the_scale_are_refused(value: float) -> None:
    for bits in (-32, -64):
        samples = tone(16_000, 1, 2)
        samples[1, 5_000] = value
        with pytest.raises(UndecodableAudioError, match="times full scale"):
            decode_clip(wav(samples, 16_000, bits))


def test_a_float_that_goes_over_full_scale_is_kept() -> None:
    assert decode_clip(wav(tone(16_000, 1, peak=1.5), 16_000, -32)).samples.max() > 1.4


def test_a_video_without_sound_is_refused() -> None:
    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as file:
        video = file.add_stream("mpeg4", rate=25)
        video.width, video.height, video.pix_fmt = 64, 64, "yuv420p"
        for _ in range(25):
            file.mux(video.encode(av.VideoFrame(64, 64, "yuv420p")))
        file.mux(video.encode(None))
    with pytest.raises(UndecodableAudioError, match="no audio track"):
        decode_clip(out.getvalue())


def test_playlists_open_nothing(tmp_path: Path) -> None:
    target = tmp_path / "clip.wav"
    target.write_bytes(wav(tone(16_000, 1), 16_000))
    for text in (
        f"ffconcat version 1.0\nfile {target}\n",
        f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{target}\n#EXT-X-ENDLIST\n",
        f"v=0\ns=x\nc=IN IP4 127.0.0.1\nm=audio 9 RTP/AVP 0\na={target}\n",
    ):
        with pytest.raises(UndecodableAudioError, match="no known audio format"):
            decode_clip(text.encode())


def test_an_unaccepted_codec_is_named() -> None:
    body = wav_of(bytes(64_000), 16_000, bits=4, tag=0x11)  # ima adpcm
    yamaha = body.replace(b"\x11\x00\x01\x00", b"\x20\x00\x01\x00", 1)
    with pytest.raises(UndecodableAudioError, match="codec is adpcm_yamaha"):
        decode_clip(yamaha)


def test_human_clips_decode(shared_dir: Path) -> None:
    transcripts = json.loads((shared_dir / "audio" / "transcripts.json").read_text())
    for name in transcripts:
        clip = decode_clip((shared_dir / "audio" / name).read_bytes())
        assert clip.sample_rate_hz in (24_000, 44_100)
        assert 1 < clip.duration_s < 30
        assert np.abs(clip.samples).max() > 0.1
