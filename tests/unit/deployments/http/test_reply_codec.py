"""Codecs leave the event loop alone; what comes out is what one call at a time would give."""

from __future__ import annotations

import asyncio
import threading

import numpy as np
import pytest

from deployments.http import reply_codec
from deployments.http.reply_codec import CHEAP_FORMATS, CHEAP_SAMPLES, ReplyCodec
from pipeline.audio.encode import AUDIO_FORMATS, make_encoder
from pipeline.audio.speed import SpeedChanger
from pipeline.contracts import Float32Array
from pipeline.errors import UnsupportedError
from tests.waiting import GIVE_UP_S

pytestmark = pytest.mark.unit

SPEECH = (np.random.default_rng(0).standard_normal(48_000) * 0.1).astype(np.float32)


async def whole(codec: ReplyCodec, cuts: int = 7) -> bytes:
    pieces = [await codec.encode(piece) for piece in np.array_split(SPEECH, cuts)]
    pieces.append(await codec.finish())
    return b"".join(piece.data for piece in pieces)


@pytest.mark.slow
@pytest.mark.parametrize("speed", [1.0, 2.0])
@pytest.mark.parametrize("audio_format", AUDIO_FORMATS)
async def test_bytes_are_those_of_the_encoder_itself(audio_format: str, speed: float) -> None:
    changer, encoder = SpeedChanger(speed), make_encoder(audio_format)
    expected = b"".join(
        encoder.encode(changer.process(piece)) for piece in np.array_split(SPEECH, 7)
    )
    expected += encoder.encode(changer.finish()) + encoder.finish()
    assert await whole(ReplyCodec(audio_format, speed)) == expected


async def test_the_account_is_of_what_sounds() -> None:
    codec = ReplyCodec("mp3", 2.0)
    pieces = [await codec.encode(SPEECH), await codec.finish()]
    assert sum(piece.audio_s for piece in pieces) == pytest.approx(1.0)


async def test_frames_go_around_pieces_and_not_around_nothing() -> None:
    codec = ReplyCodec("mp3", 1.0, lambda data: b"<" + str(len(data)).encode() + b">")
    assert (await codec.encode(SPEECH[:10])).data == b""
    assert (await codec.encode(SPEECH)).data.startswith(b"<")
    assert (await codec.finish()).data.endswith(b">")


def test_mistakes_are_found_at_once() -> None:
    with pytest.raises(UnsupportedError):
        ReplyCodec("midi", 1.0)
    with pytest.raises(UnsupportedError):
        ReplyCodec("wav", 9.0)


class SlowEncoder:
    """Encodes when the test opens the gate; knows how many threads were inside at a time."""

    media_type = "audio/slow"
    sample_rate_hz = 24_000

    def __init__(self, _format: str = "") -> None:
        self.gate = threading.Event()
        self.entered = threading.Semaphore(0)
        self.inside = self.most_inside = 0
        self.threads: set[int] = set()
        self.calls: list[str] = []

    def encode(self, samples: Float32Array) -> bytes:
        self.inside += 1
        self.most_inside = max(self.most_inside, self.inside)
        self.threads.add(threading.get_ident())
        self.entered.release()
        is_open = self.gate.wait(GIVE_UP_S)
        self.inside -= 1
        self.calls.append(f"encode {len(samples)}")
        if not is_open:
            raise TimeoutError("the event loop stood still")
        return b"x"

    def finish(self) -> bytes:
        self.calls.append("finish")
        return b""


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> SlowEncoder:
    encoder = SlowEncoder()
    monkeypatch.setattr(reply_codec, "make_encoder", lambda _, **_rates: encoder)
    return encoder


@pytest.mark.parametrize(
    ("audio_format", "speed", "is_framed"),
    [
        ("mp3", 1.0, False),
        ("opus", 1.0, False),
        ("aac", 1.0, False),
        ("flac", 1.0, False),
        ("wav", 1.5, False),
        ("pcm", 1.0, True),
    ],
)
async def test_the_loop_turns_while_a_codec_works(
    slow: SlowEncoder, audio_format: str, speed: float, is_framed: bool
) -> None:
    codec = ReplyCodec(audio_format, speed, bytes if is_framed else None)
    asyncio.get_running_loop().call_soon(slow.gate.set)  # never comes to it on a loop that waits
    assert (await codec.encode(SPEECH)).data == b"x"
    assert (await codec.finish()).data == b"x"
    assert threading.get_ident() not in slow.threads
    assert slow.calls[-1] == "finish"


@pytest.mark.parametrize("audio_format", sorted(CHEAP_FORMATS))
async def test_cheap_formats_take_no_thread(slow: SlowEncoder, audio_format: str) -> None:
    slow.gate.set()
    await ReplyCodec(audio_format, 1.0).encode(SPEECH)
    assert slow.threads == {threading.get_ident()}


@pytest.mark.parametrize("audio_format", sorted(CHEAP_FORMATS))
async def test_much_at_once_of_a_cheap_format_takes_one(
    slow: SlowEncoder, audio_format: str
) -> None:
    """Speech that was kept comes in large pieces."""
    codec = ReplyCodec(audio_format, 1.0)
    asyncio.get_running_loop().call_soon(slow.gate.set)
    assert (await codec.encode(np.zeros(CHEAP_SAMPLES + 1, np.float32))).data == b"x"
    assert threading.get_ident() not in slow.threads


@pytest.mark.parametrize("n_cancels", [1, 3])
async def test_a_cancelled_call_ends_after_its_thread(slow: SlowEncoder, n_cancels: int) -> None:
    codec = ReplyCodec("mp3", 1.0)
    call = asyncio.create_task(codec.encode(SPEECH))
    assert await asyncio.to_thread(slow.entered.acquire, timeout=GIVE_UP_S)
    for _ in range(n_cancels):
        call.cancel()
        for _ in range(5):
            await asyncio.sleep(0)
    assert not call.done()
    slow.gate.set()
    await asyncio.wait([call], timeout=GIVE_UP_S)
    assert call.cancelled()
    assert slow.inside == 0
    await codec.finish()
    assert slow.calls == [f"encode {len(SPEECH)}", "encode 0", "finish"]
    assert slow.most_inside == 1


async def test_a_codecs_error_reaches_its_caller(slow: SlowEncoder) -> None:
    def broken(_: Float32Array) -> bytes:
        raise OSError("no room")

    slow.encode = broken  # type: ignore[method-assign]
    with pytest.raises(OSError, match="no room"):
        await ReplyCodec("mp3", 1.0).encode(SPEECH)
