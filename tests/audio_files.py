"""Builds audio files for tests: honest ones in every container, and hostile ones."""

from __future__ import annotations

import io
import struct
import zlib

import av
import numpy as np


def tone(rate_hz: int, duration_s: float, n_channels: int = 1, peak: float = 0.4) -> np.ndarray:
    """float64 (channels, n): another pitch in each channel, plus a little noise."""
    t = np.arange(round(rate_hz * duration_s)) / rate_hz
    rng = np.random.default_rng(7)
    waves = [np.sin(2 * np.pi * 110 * (c + 2) * t) for c in range(n_channels)]
    return peak * (0.95 * np.stack(waves) + 0.05 * rng.uniform(-1, 1, (n_channels, len(t))))


def quantised(samples: np.ndarray, bits: int) -> np.ndarray:
    """±1 floats as int64 of that many bits."""
    full = 2 ** (bits - 1)
    return np.clip(np.rint(samples * full), -full, full - 1).astype(np.int64)


def wav(samples: np.ndarray, rate_hz: int, bits: int = 16, **claims: int) -> bytes:
    """samples: (channels, n). bits: 8-32 integers, -32 or -64 floats. claims: lies."""
    if bits < 0:
        body = samples.T.astype(f"<f{-bits // 8}").tobytes()
    elif bits == 8:
        body = (quantised(samples, 8).T + 128).astype(np.uint8).tobytes()
    else:
        little = quantised(samples, bits).T.astype("<i8")
        body = little.reshape(-1, 1).view(np.uint8)[:, : bits // 8].tobytes()
    return wav_of(body, rate_hz, len(samples), abs(bits), 3 if bits < 0 else 1, **claims)


def wav_of(
    body: bytes,
    rate_hz: int,
    n_channels: int = 1,
    bits: int = 16,
    tag: int = 1,
    data_bytes: int | None = None,
) -> bytes:
    align = n_channels * bits // 8
    claimed = len(body) if data_bytes is None else data_bytes
    fmt = struct.pack(
        "<HHIIHH", tag, n_channels, rate_hz, (rate_hz * align) % 2**32, align % 2**16, bits
    )
    riff = min(claimed + 36, 2**32 - 1)
    head = struct.pack("<4sI4s4sI", b"RIFF", riff, b"WAVE", b"fmt ", len(fmt))
    return head + fmt + struct.pack("<4sI", b"data", claimed) + body


def libav(
    samples: np.ndarray,
    rate_hz: int,
    container: str,
    encoder: str,
    layout: str = "mono",
    *,
    sample_format: str | None = None,
    bit_rate: int | None = None,
    muxer: dict[str, str] | None = None,
) -> bytes:
    """samples: (channels, n) encoded by libav into a seekable file, with a video track for mp4.

    muxer: its options.
    """
    out = io.BytesIO()
    options = {"fflags": "+bitexact", **(muxer or {})}
    with av.open(out, "w", format=container, options=options) as file:
        stream = file.add_stream(encoder, rate=rate_hz)
        assert isinstance(stream, av.AudioStream)
        stream.layout = layout
        if sample_format is not None:
            stream.codec_context.format = sample_format
        if bit_rate is not None:
            stream.bit_rate = bit_rate
        video = file.add_stream("mpeg4", rate=25) if container == "mp4" else None
        if video is not None:
            video.width, video.height, video.pix_fmt = 64, 64, "yuv420p"
            for _ in range(25):
                file.mux(video.encode(av.VideoFrame(64, 64, "yuv420p")))
        file.start_encoding()
        sample_format = stream.codec_context.format.name
        frame_samples = stream.codec_context.frame_size or 1024
        values = _as_format(samples, sample_format.removesuffix("p"))
        for start in range(0, values.shape[1], frame_samples):
            block = values[:, start : start + frame_samples]
            if not sample_format.endswith("p"):
                block = block.T.reshape(1, -1)
            frame = av.AudioFrame.from_ndarray(
                np.ascontiguousarray(block), format=sample_format, layout=layout
            )
            frame.sample_rate, frame.pts = rate_hz, start
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
        if video is not None:
            file.mux(video.encode(None))
    return out.getvalue()


def _as_format(samples: np.ndarray, sample_format: str) -> np.ndarray:
    if sample_format == "flt":
        return samples.astype(np.float32)
    bits = {"s16": 16, "s32": 32}[sample_format]
    return quantised(samples, bits).astype(f"i{bits // 8}")


def decode(data: bytes) -> tuple[np.ndarray, int]:
    """(float32 (n,), rate) of a mono file, by libav and nothing of ours."""
    with av.open(io.BytesIO(data), "r") as file:
        frames = list(file.decode(audio=0))
    parts = []
    for frame in frames:
        values = frame.to_ndarray().ravel()
        scale = 32768 if values.dtype == np.int16 else 2**31 if values.dtype == np.int32 else 1
        parts.append((values / scale).astype(np.float32))
    return np.concatenate(parts), frames[0].sample_rate


def damaged(data: bytes, at: float = 0.5, n_bytes: int = 64) -> bytes:
    """Some bytes inverted in the middle."""
    start = int(len(data) * at)
    bad = bytes(b ^ 0xFF for b in data[start : start + n_bytes])
    return data[:start] + bad + data[start + n_bytes :]


def box(kind: bytes, *content: bytes) -> bytes:
    body = b"".join(content)
    return struct.pack(">I4s", 8 + len(body), kind) + body


def full_box(kind: bytes, *content: bytes) -> bytes:
    return box(kind, bytes(4), *content)


def numbers(*values: int) -> bytes:
    return struct.pack(f">{len(values)}I", *values)


FTYP = box(b"ftyp", b"M4A ", numbers(0), b"M4A ")


def mp4(
    entry: bytes,
    n_samples: int,
    sample_bytes: int,
    body: bytes,
    *,
    is_long: bool = False,
    n_chunks: int = 1,
    chunk_samples: int | None = None,
    n_edits: int = 0,
) -> bytes:
    """An mp4 whose sample table claims n_samples of sample_bytes each, all chunks in one place."""
    table = numbers(sample_bytes, n_samples)
    stsz = full_box(b"stsz", table)
    if is_long:
        stsz = numbers(1) + b"stsz" + struct.pack(">Q", 28) + bytes(4) + table
    sound = box(
        entry, bytes(6), b"\0\1", bytes(8), struct.pack(">HHHH", 1, 16, 0, 0), numbers(8000 << 16)
    )
    ticks = 1 if entry == b"sowt" else 1024
    stbl = box(
        b"stbl",
        full_box(b"stsd", numbers(1), sound),
        full_box(b"stts", numbers(1, n_samples, ticks)),
        full_box(b"stsc", numbers(1, 1, chunk_samples or n_samples, 1)),
        stsz,
        full_box(b"stco", numbers(n_chunks, *[len(FTYP) + 8] * n_chunks)),
    )
    mdhd = full_box(b"mdhd", numbers(0, 0, 8000, n_samples), b"\x55\xc4\0\0")
    handler = full_box(b"hdlr", numbers(0), b"soun", bytes(13))
    media = box(b"mdia", mdhd, handler, box(b"minf", full_box(b"smhd", bytes(4)), stbl))
    edits = full_box(b"elst", numbers(n_edits, *[n_samples, 0, 0x10000] * n_edits))
    track_header = full_box(b"tkhd", numbers(0, 0, 1, 0, n_samples), bytes(60))
    track = box(b"trak", track_header, box(b"edts", edits) if n_edits else b"", media)
    header = full_box(b"mvhd", numbers(0, 0, 8000, n_samples), bytes(80))
    return FTYP + box(b"mdat", body) + box(b"moov", header, track)


def compressed_header_mp4(expanded_bytes: int) -> bytes:
    content = box(b"cmvd", numbers(expanded_bytes), packed_zeros(expanded_bytes))
    return FTYP + box(b"moov", box(b"cmov", box(b"dcom", b"zlib"), content))


def packed_zeros(n_bytes: int, step_bytes: int = 10_000_000) -> bytes:
    """What zlib packs so many zeros into, whole steps of them, without packing each step anew."""
    packer, step = zlib.compressobj(9), bytes(step_bytes)
    first, other = (packer.compress(step) + packer.flush(zlib.Z_FULL_FLUSH) for _ in range(2))
    end = b"\x03\0" + struct.pack(">HH", n_bytes % 65_521, 1)  # an empty block, and Adler's sum
    return first + other * (n_bytes // step_bytes - 1) + end


def flac_bomb(duration_s: int, claimed_s: int) -> bytes:
    """An 8 kHz flac of a constant, which packs a thousandfold; STREAMINFO claims another length."""
    data = bytearray(libav(np.full((1, 8000 * duration_s), 0.25), 8000, "flac", "flac"))
    streaminfo = 8
    low = struct.unpack_from(">Q", data, streaminfo + 10)[0]
    struct.pack_into(">Q", data, streaminfo + 10, (low >> 36 << 36) | (8000 * claimed_s))
    return bytes(data)


def fragmented_mp4(n_claimed: int) -> bytes:
    """A movie fragment whose run claims samples without listing one."""
    start = mp4(b".mp3", 0, 0, b"")
    defaults = full_box(b"trex", numbers(1, 1, 1024, 24, 0))
    moov_at = start.index(b"moov") - 4
    moov = box(b"moov", start[moov_at + 8 :], box(b"mvex", defaults))
    run = full_box(b"trun", numbers(n_claimed))
    fragment = box(b"traf", full_box(b"tfhd", numbers(1)), run)
    moof = box(b"moof", full_box(b"mfhd", numbers(1)), fragment)
    return start[:moov_at] + moov + moof + box(b"mdat", bytes(16_000))
