"""The recorded encoder equals the plain one, padded to buckets as on a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from pipeline.stepaudio import tokens
from pipeline.stepaudio.config import VocoderConfig
from pipeline.stepaudio.vocoder import encoder_records
from pipeline.stepaudio.vocoder.encoder_records import EncoderRecords, EncoderSize
from pipeline.stepaudio.vocoder.flow.conformer import ConformerCache, StackedCache
from pipeline.stepaudio.vocoder.flow.flow import Encoded, Flow
from pipeline.stepaudio.vocoder.memory_plan import ENCODER_RECORDS, EncoderRoom
from tests.replay import run_again
from tests.vocoder_files import make_ids, small_modules, write_vocoder

pytestmark = pytest.mark.unit

CLOSE = 1e-5
ROOM = EncoderRoom.of((15, 24, 48), 3, 4)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_vocoder(tmp_path_factory.mktemp("vocoder"))


@pytest.fixture(scope="module")
def flow(directory: Path) -> Flow:
    return small_modules(directory)[0]


@pytest.fixture(autouse=True)
def _inference() -> Iterator[None]:
    with torch.inference_mode():
        yield


def records_of(flow: Flow, directory: Path, room: EncoderRoom = ROOM) -> EncoderRecords:
    return EncoderRecords(flow, VocoderConfig.load(directory).encoder, room, run_again)


class Speech:
    """One stream behind its prompt, encoded plainly and as recorded."""

    def __init__(self, flow: Flow, n_prompt_rows: int, seed: int = 0) -> None:
        self.rows = torch.from_numpy(tokens.to_rows(make_ids(80, seed)))[None]
        _, self.plain = flow.mu(self.rows[:, :n_prompt_rows])
        self.recorded: Encoded = self.plain
        self.flow, self.at = flow, n_prompt_rows

    def cut(self, n_rows: int, *, last: bool) -> tuple[Tensor, Tensor | None]:
        start, self.at = self.at, self.at + n_rows
        ahead = None if last else self.rows[:, self.at : self.at + 3]
        return self.rows[:, start : self.at], ahead

    def expect(self, rows: Tensor, ahead: Tensor | None, mu: Tensor, after: Encoded) -> None:
        """Both ways, and what the next chunk needs."""
        expected, self.plain = self.flow.mu(rows, ahead, self.plain)
        torch.testing.assert_close(mu, expected, atol=CLOSE, rtol=0)
        self.recorded = after
        assert isinstance(after, StackedCache)
        if ahead is None:
            return  # nothing comes behind an end
        for one, other in zip(tensors(self.plain), tensors(after.by_block()), strict=True):
            torch.testing.assert_close(one, other, atol=CLOSE, rtol=0)


def tensors(cache: ConformerCache) -> list[Tensor]:
    pairs = (*cache.row_blocks, *cache.frame_blocks)
    return [cache.lookahead, cache.upsample, *(tensor for pair in pairs for tensor in pair)]


def poison(records: EncoderRecords) -> None:
    """What is hidden is still multiplied by zero, so it must be finite: any number will do."""
    for memory in (records._static._rows, records._static._frames):
        memory.fill_(7.0)


@pytest.mark.parametrize("n_prompt_rows", [3, 40, 150])
def test_recorded_chunks_equal_plain_ones(flow: Flow, directory: Path, n_prompt_rows: int) -> None:
    """Also past a bucket's end, and an end of any length."""
    records, speech = records_of(flow, directory), Speech(flow, n_prompt_rows)
    for n_rows, last in ((5, False), (15, False), (24, False), (24, False), (7, True)):
        rows, ahead = speech.cut(n_rows, last=last)
        poison(records)
        replayed = records(rows, ahead, [speech.recorded])
        assert replayed is not None
        speech.expect(rows, ahead, replayed[0], replayed[1][0])
    assert {size.past for size in records._recorded} >= {128 if n_prompt_rows < 100 else 256}


def expect_together(records: EncoderRecords, streams: list[Speech], n_rows: int) -> None:
    """Replayed together, the next rows of each are as they are alone."""
    cuts = [stream.cut(n_rows, last=False) for stream in streams]
    ahead = torch.cat([ahead for _, ahead in cuts if ahead is not None])
    poison(records)
    recorded = [stream.recorded for stream in streams]
    replayed = records(torch.cat([rows for rows, _ in cuts]), ahead, recorded)
    assert replayed is not None
    for i, (stream, cut) in enumerate(zip(streams, cuts, strict=True)):
        stream.expect(*cut, replayed[0][i : i + 1], replayed[1][i])


def test_streams_together_equal_streams_alone(flow: Flow, directory: Path) -> None:
    """Of different lengths, and fewer than the record holds."""
    records = records_of(flow, directory)
    streams = [Speech(flow, 3 + 20 * i, i) for i in range(3)]
    for n_rows in (15, 24):
        expect_together(records, streams, n_rows)
    assert {size.streams for size in records._recorded} == {3}


def test_streams_too_many_for_the_room_go_in_halves(flow: Flow, directory: Path) -> None:
    records = records_of(flow, directory, EncoderRoom(streams=4, rows=64, past=256))
    streams = [Speech(flow, 3 + 20 * i, i) for i in range(3)]
    expect_together(records, streams, 15)
    assert {size.streams for size in records._recorded} == {1, 2}


def test_what_is_too_large_is_not_recorded(flow: Flow, directory: Path) -> None:
    records, speech = records_of(flow, directory), Speech(flow, 30)
    rows, ahead = speech.cut(100, last=False)
    assert records(rows, ahead, [speech.recorded]) is None
    long = StackedCache.of(speech.recorded)
    long = StackedCache(
        long.lookahead, long.upsample, long.rows.repeat(1, 1, 1, 150, 1), long.frames
    )
    assert records(rows[:, :15], ahead, [long]) is None
    assert records(rows[:, :15], rows[:, 15:17], [speech.recorded]) is None, "too few rows ahead"
    assert not records._recorded


def test_records_are_bounded_the_oldest_go(
    flow: Flow, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoder_records, "ENCODER_RECORDS", 2)
    records, speech = records_of(flow, directory), Speech(flow, 30)
    for n_rows in (5, 10, 5, 15):
        rows, ahead = speech.cut(n_rows, last=False)
        assert records(rows, ahead, [speech.recorded]) is not None
    assert [size.rows for size in records._recorded] == [5, 15]


def test_the_common_ones_fit_beside_others() -> None:
    sizes = {EncoderSize.of(n, 256, rows, 3) for n in range(1, 17) for rows in (15, 24, 48)}
    assert len(sizes) <= ENCODER_RECORDS // 2 + 6
    room = EncoderRoom.of((15, 24, 48), 3, 16)
    assert all(room.holds(size.streams, size.past, size.rows + size.ahead) for size in sizes)
    assert room.holds(16, 1024, 51)
    assert room.holds(1, 2048, 64)
