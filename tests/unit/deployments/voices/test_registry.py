"""Names of voices: as listed, by another name, in any case; the default; and none of them."""

from __future__ import annotations

import pytest

from cache_store.keys import raw_key
from deployments.config.settings import VoiceSettings
from deployments.voices.registry import HASH_INLINE_BYTES, Upload, VoiceRegistry
from pipeline.errors import UnknownVoiceError
from pipeline.voice_list import load_voices

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def registry() -> VoiceRegistry:
    return VoiceRegistry(VoiceSettings(default="bruno", aliases={"echo": "elena"}))


@pytest.mark.parametrize(
    ("asked", "meant"),
    [("aria", "aria"), (" Aria\n", "aria"), ("ECHO", "elena"), (None, "bruno"), ("", "bruno")],
)
def test_a_name_finds_its_clip(registry: VoiceRegistry, asked: str | None, meant: str) -> None:
    listed, found = load_voices()[meant], registry.find(asked)
    assert found.upload.data == listed.path.read_bytes()
    assert found.upload.digest == raw_key(found.upload.data)
    assert (found.transcript, found.language) == (listed.transcript, listed.language)


def test_an_unknown_name_lists_those_that_there_are(registry: VoiceRegistry) -> None:
    with pytest.raises(UnknownVoiceError) as caught:
        registry.find("x" * 10_000)
    assert caught.value.param == "voice"
    assert ", ".join(load_voices()) in caught.value.message
    assert len(caught.value.message) < 1_000


def test_every_voice_is_described(registry: VoiceRegistry) -> None:
    described = registry.describe()
    assert [voice["id"] for voice in described] == list(load_voices())
    assert all(voice["object"] == "voice" and voice["language"] for voice in described)


@pytest.mark.parametrize("size", [0, 10, HASH_INLINE_BYTES + 1])
async def test_an_upload_is_hashed_alike_on_any_thread(size: int) -> None:
    data = bytes(size)
    assert (await Upload.of(data)).digest == raw_key(data)
