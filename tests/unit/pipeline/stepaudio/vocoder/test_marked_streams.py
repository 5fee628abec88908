"""Streams leave the decoder marked, and as they are made where nobody wants a mark."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from pipeline.marks.marker import Marker
from pipeline.serving.tracing import Span, Trace
from pipeline.stepaudio.vocoder.wave_decoder import StepWaveDecoder
from tests.vocoder_files import join, make_ids, make_voice, token_stream, write_vocoder

pytestmark = [pytest.mark.unit, pytest.mark.slow]
GROUPS = 40  # 4.8 s: five chunks


@pytest.fixture(scope="module")
def marker() -> Marker:
    return Marker.load()


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StepWaveDecoder]:
    directory: Path = write_vocoder(tmp_path_factory.mktemp("vocoder"))
    decoder = StepWaveDecoder(directory, threads=1, steps=2, marks=True)
    yield decoder
    decoder.close()


async def chunks(
    decoder: StepWaveDecoder, groups_per_chunk: int = 1, *, is_marked: bool = True
) -> list[np.ndarray]:
    stream = decoder.stream(
        token_stream(make_ids(GROUPS), groups_per_chunk), make_voice(), is_marked=is_marked
    )
    return [chunk.samples async for chunk in stream]


async def test_each_chunk_leaves_marked(decoder: StepWaveDecoder, marker: Marker) -> None:
    plain = await chunks(decoder, is_marked=False)
    marked = await chunks(decoder)
    mark = marker.begin()
    assert len(plain) > 3
    expected = [mark.process(piece) for piece in plain]
    assert [len(piece) for piece in marked] == [len(piece) for piece in plain]
    np.testing.assert_allclose(join(marked), join(expected), atol=1e-6)
    assert np.abs(join(marked) - join(plain)).max() > 1e-4


async def test_each_chunk_is_traced_through_flow_hift_and_mark(decoder: StepWaveDecoder) -> None:
    spans: list[Span] = []
    trace = Trace(spans.append, trace_id=1, span_id=2)
    stream = decoder.stream(token_stream(make_ids(GROUPS), 1), make_voice(), trace=trace)
    n_chunks = len([chunk async for chunk in stream])
    waits = {"voice state", "tokens", "turn"}
    assert "voice state" in {span.name for span in spans}
    names = [span.name for span in spans if span.name not in waits]
    assert names == ["flow", "hift", "mark"] * n_chunks
    assert all(before.ended_ns <= after.ended_ns for before, after in pairwise(spans))
    assert {(span.trace_id, span.parent_id) for span in spans} == {(1, 2)}


async def test_bytes_depend_neither_on_arrival_nor_on_who_is_beside(
    decoder: StepWaveDecoder,
) -> None:
    alone = join(await chunks(decoder))
    assert np.array_equal(join(await chunks(decoder, GROUPS)), alone)
    crowd = await asyncio.gather(*(chunks(decoder, 1 + n, is_marked=n != 1) for n in range(3)))
    assert np.array_equal(join(crowd[0]), alone)
    assert np.array_equal(join(crowd[2]), alone)
    assert not np.array_equal(join(crowd[1]), alone)


@pytest.mark.parametrize("is_recorded", [False, True], ids=["made", "replayed"])
async def test_chunks_computed_together_are_marked_too(
    tmp_path: Path, marker: Marker, is_recorded: bool
) -> None:
    together = StepWaveDecoder(write_vocoder(tmp_path), threads=1, steps=2, marks=True, max_batch=4)
    if is_recorded:
        frames = {n for sizes in together._common_chunks() for n in sizes}
        together._model.record_hift(lambda run: run, frames, 4)
    try:
        plain = await asyncio.gather(*(chunks(together, is_marked=False) for _ in range(3)))
        crowd = await asyncio.gather(*(chunks(together) for _ in range(3)))
    finally:
        together.close()
    for made, marked in zip(plain, crowd, strict=True):
        mark = marker.begin()
        expected = join([mark.process(piece) for piece in made])
        added = np.abs(expected - join(made)).max()
        assert np.abs(join(marked) - expected).max() < 0.1 * added
