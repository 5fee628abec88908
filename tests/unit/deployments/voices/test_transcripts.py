"""Words of clips: kept once heard, gone with their clip, also while they are being heard."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest

from cache_store.errors import StoreTimeout
from cache_store.keys import ClipKey
from cache_store.settings import CacheSettings
from deployments.voices.transcripts import Transcripts
from pipeline.contracts import ReferenceClip
from pipeline.errors import StageUnavailableError
from tests.fakes import FakeHearing

pytestmark = pytest.mark.unit
DIGEST = "1" * 64
CLIP = ClipKey("ours", DIGEST)
AUDIO = ReferenceClip(np.zeros(100, np.float32), 16_000, DIGEST)


async def read() -> ReferenceClip:
    return AUDIO


@asynccontextmanager
async def opened(directory: Path, hearing: FakeHearing) -> AsyncIterator[Transcripts]:
    transcripts = Transcripts(CacheSettings(url=str(directory), l2="off"), hearing)
    await transcripts.start()
    try:
        yield transcripts
    finally:
        await transcripts.close()


@pytest.mark.parametrize("words", ["", "a", "你好，世界。", "Zoë said: «é́»", "x" * 10_000])
async def test_words_come_back_as_they_were_heard(tmp_path: Path, words: str):
    hearing = FakeHearing(words)
    for _ in range(2):
        async with opened(tmp_path, hearing) as transcripts:
            assert await transcripts.of("ours", DIGEST, read) == words
            assert await transcripts.of("ours", DIGEST, read) == words
    assert hearing.heard == [DIGEST]


async def test_a_clip_is_read_only_to_be_heard(tmp_path: Path):
    async with opened(tmp_path, FakeHearing("words")) as transcripts:
        await transcripts.of("ours", DIGEST, read)

        async def gone() -> ReferenceClip:
            raise AssertionError("it was heard before")

        assert await transcripts.of("ours", DIGEST, gone) == "words"


async def test_what_is_removed_while_it_is_heard_is_not_kept(tmp_path: Path):
    hearing, go = FakeHearing("words"), asyncio.Event()

    async def slowly() -> ReferenceClip:
        await go.wait()
        return AUDIO

    async with opened(tmp_path, hearing) as transcripts:
        asked = asyncio.create_task(transcripts.of("ours", DIGEST, slowly))
        await asyncio.sleep(0.05)
        await transcripts.forget(CLIP)
        go.set()
        assert await asked == "words", "whoever asked is answered"
        hearing.usual = "others"
        assert await transcripts.of("ours", DIGEST, read) == "others"


async def test_a_removal_that_may_have_left_some_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    async with opened(tmp_path, FakeHearing("words")) as transcripts:

        async def silent(_: ClipKey) -> None:
            raise StoreTimeout("no answer")

        monkeypatch.setattr(transcripts._cache, "forget", silent)
        with pytest.raises(StageUnavailableError, match="transcript could not be removed"):
            await transcripts.forget(CLIP)
