"""What a replica runs before it is ready: every size of chunk that its first listeners will get."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from pathlib import Path

import pytest

from deployments.stages.warm_up import decode_once
from pipeline.contracts import AudioChunk, Stream, TokenChunk, VoicePrompt
from pipeline.stepaudio.tokens import GROUP_TOKENS
from pipeline.stepaudio.vocoder.wave_decoder import StepWaveDecoder
from tests.vocoder_files import write_vocoder

pytestmark = pytest.mark.unit
CHUNK_ROWS = (6, 6, 9, 12)
QUIET_ROWS = 5


@pytest.fixture
def decoder(tmp_path: Path) -> Iterator[StepWaveDecoder]:
    decoder = StepWaveDecoder(write_vocoder(tmp_path), threads=1, steps=2, chunk_rows=CHUNK_ROWS)
    yield decoder
    decoder.close()


class Watched:
    """A decoder whose streams are counted: rows of each chunk, by the samples that came."""

    def __init__(self, decoder: StepWaveDecoder) -> None:
        self._decoder = decoder
        self.tokens: list[int] = []
        self.chunks: list[list[float]] = []

    async def stream(
        self,
        tokens: Stream[TokenChunk],
        voice: VoicePrompt,
        first_chunk_rows: int | None = None,
    ) -> AsyncGenerator[AudioChunk]:
        rows: list[float] = []
        self.chunks.append(rows)

        async def counted() -> AsyncGenerator[TokenChunk]:
            async for chunk in tokens:
                self.tokens.append(len(chunk.ids))
                yield chunk

        async for chunk in self._decoder.stream(counted(), voice, first_chunk_rows):
            rows.append(len(chunk.samples) / 960)
            yield chunk


async def test_every_size_of_chunk_is_decoded(decoder: StepWaveDecoder) -> None:
    """The newest four rows of a chunk are heard with the next one."""
    watched = Watched(decoder)
    await decode_once(watched, QUIET_ROWS + sum(CHUNK_ROWS) + 3, (None, QUIET_ROWS))
    usual, quick = watched.chunks
    assert usual[:4] == [2, 6, 9, 12]
    assert quick[:5] == [1, 6, 6, 9, 12]
    assert watched.tokens[0] % GROUP_TOKENS == 0
    assert sum(usual) == sum(quick) == watched.tokens[0] / GROUP_TOKENS * 3
    assert decoder.active_streams == 0
