"""Voices through the cache: a replaced tokenizer is noticed, a dead one is not missed."""

from __future__ import annotations

import asyncio
import logging
import threading
from dataclasses import replace

import numpy as np
import pytest

from cache_store.errors import StoreError
from cache_store.keys import ClipKey
from deployments.config.settings import load_settings
from deployments.http.reply import audio_warning
from deployments.voices import registry
from deployments.voices import resolver as voices
from pipeline.audio.decode import decode_clip
from pipeline.audio.reference import Reference
from pipeline.contracts import Mode, ReferenceClip, SpeechRequest, VoicePrompt, VoiceReference
from pipeline.errors import ConfigError, StageUnavailableError
from pipeline.voice_list import VOICES_DIR, load_voices
from tests.audio_files import wav
from tests.fakes import voice_prompt
from tests.waiting import until

pytestmark = pytest.mark.unit
CLIP = load_voices(VOICES_DIR)["aria"].path.read_bytes()
CLIP_REFERENCE = VoiceReference(CLIP)


class ReplaceableEncoder:
    """A tokenizer that can be redeployed with other weights, die, or take its time."""

    def __init__(self) -> None:
        self.may_go_on = asyncio.Event()
        self.may_go_on.set()
        self.weights = "a" * 64
        self.is_dead = False
        self.encodes = 0
        self.asked = 0

    async def fingerprint(self) -> str:
        self.asked += 1
        if self.is_dead:
            raise StageUnavailableError("dead")
        return self.weights

    async def asked_again(self) -> None:
        """Until the answer to a question asked from now on was taken in."""
        before = self.asked
        await until(lambda: self.asked >= before + 2)

    async def encode(self, clip: ReferenceClip) -> VoicePrompt:
        self.encodes += 1
        await self.may_go_on.wait()
        mel = np.zeros((round(clip.duration_s * 50), 80), np.float32)
        return replace(
            voice_prompt(),
            prompt_mel=mel,
            duration_s=clip.duration_s,
            fingerprint=self.weights,
        )


@pytest.fixture
async def library(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(voices, "ENCODER_POLL_S", 0.01)
    encoder = ReplaceableEncoder()
    settings = load_settings({"cache": {"url": "none", "l2": "off"}})
    library = voices.VoiceLibrary(settings, encoder)
    await library.start()
    following = asyncio.create_task(library.follow_encoder())
    yield library, encoder
    following.cancel()
    await library.close()


async def test_a_replaced_tokenizer_makes_cached_voices_unreachable(library):
    voice_library, encoder = library
    tiers = [(await voice_library.resolve(CLIP_REFERENCE)).tier for _ in range(2)]
    encoder.weights = "b" * 64
    await encoder.asked_again()
    again = await voice_library.resolve(CLIP_REFERENCE)
    assert [*tiers, again.tier] == ["miss", "l1", "miss"]
    assert again.prompt.fingerprint == "b" * 64
    assert encoder.encodes == 2


async def test_a_cached_voice_needs_no_tokenizer(library):
    voice_library, encoder = library
    await voice_library.resolve(CLIP_REFERENCE)
    encoder.is_dead = True
    await encoder.asked_again()
    assert (await voice_library.resolve(CLIP_REFERENCE)).tier == "l1"


def quiet_upload() -> bytes:
    clip = decode_clip(CLIP)
    return wav(clip.samples[np.newaxis] * 0.02, clip.sample_rate_hz)


async def test_warnings_come_with_misses_and_hits(library):
    voice_library, _ = library
    found = [await voice_library.resolve(VoiceReference(quiet_upload())) for _ in range(2)]
    assert [(voice.tier, voice.warnings) for voice in found] == [
        ("miss", ("quiet",)),
        ("l1", ("quiet",)),
    ]
    assert (await voice_library.resolve(CLIP_REFERENCE)).warnings == ()
    warmed = await voice_library.warm(quiet_upload(), is_durable=False)
    assert warmed["warnings"] == ["quiet"]


async def test_warnings_outlive_the_process(tmp_path):
    for tier in ("miss", "l3"):
        settings = load_settings({"cache": {"url": str(tmp_path), "l2": "off"}})
        library = voices.VoiceLibrary(settings, ReplaceableEncoder())
        await library.start()
        found = await library.warm(quiet_upload(), is_durable=True)
        await library.close()
        assert (found["tier"], found["warnings"]) == (tier, ["quiet"])


async def test_conditioning_is_part_of_what_names_a_clip(tmp_path):
    clips = {}
    for conditioning in ("speech", "released", "speech"):
        settings = load_settings(
            {
                "cache": {"url": str(tmp_path), "l2": "off"},
                "voices": {"conditioning": conditioning},
            }
        )
        library = voices.VoiceLibrary(settings, ReplaceableEncoder())
        await library.start()
        found = await library.warm(quiet_upload(), is_durable=True)
        await library.close()
        assert clips.setdefault(conditioning, found["clip"]) == found["clip"]
    assert clips["released"] == decode_clip(quiet_upload()).digest
    assert clips["speech"] != clips["released"]


def test_an_unknown_conditioning_stops_start_up():
    with pytest.raises(ConfigError, match=r"voices\.conditioning.*'speech' or 'released'"):
        load_settings({"voices": {"conditioning": "studio"}})


def test_the_header_is_there_when_there_is_something_to_say():
    assert audio_warning(()) == {}
    assert audio_warning(("quiet", "noisy")) == {"X-Audio-Warning": "quiet, noisy"}


async def test_a_removed_clip_is_encoded_again_under_every_encoder(library):
    voice_library, encoder = library
    clip = (await voice_library.resolve(CLIP_REFERENCE)).clip_digest
    encoder.weights = "b" * 64
    await encoder.asked_again()
    await voice_library.resolve(CLIP_REFERENCE)
    await voice_library.forget(clip)
    tiers = [(await voice_library.resolve(CLIP_REFERENCE)).tier]
    encoder.weights = "a" * 64
    await encoder.asked_again()
    tiers.append((await voice_library.resolve(CLIP_REFERENCE)).tier)
    assert tiers == ["miss", "miss"]


async def test_a_removal_needs_no_tokenizer(library):
    voice_library, encoder = library
    clip = (await voice_library.resolve(CLIP_REFERENCE)).clip_digest
    encoder.is_dead = True
    await encoder.asked_again()
    await voice_library.forget(clip)
    encoder.is_dead = False
    assert (await voice_library.resolve(CLIP_REFERENCE)).tier == "miss"


async def test_a_clip_removed_while_it_is_encoded_is_spoken_and_not_kept(library):
    voice_library, encoder = library
    clip = (await voice_library.resolve(CLIP_REFERENCE)).clip_digest
    await voice_library.forget(clip)
    encoder.may_go_on.clear()
    asked = asyncio.create_task(voice_library.resolve(CLIP_REFERENCE))
    await until(lambda: encoder.encodes == 2)
    await voice_library.forget(clip)
    encoder.may_go_on.set()
    assert (await asked).clip_digest == clip
    assert (await voice_library.resolve(CLIP_REFERENCE)).tier == "miss"
    assert encoder.encodes == 3


async def test_a_clip_removed_while_it_is_decoded_is_not_kept(library, monkeypatch):
    voice_library, _ = library
    clip = (await voice_library.resolve(CLIP_REFERENCE)).clip_digest
    await voice_library.forget(clip)
    decoding, may_go_on = threading.Event(), threading.Event()
    read = voices.read_reference

    def slowly(*args: object) -> Reference:
        decoding.set()
        assert may_go_on.wait(60)
        return read(*args)

    with monkeypatch.context() as patch:
        patch.setattr(voices, "read_reference", slowly)
        asked = asyncio.create_task(voice_library.warm(CLIP, is_durable=True))
        await until(decoding.is_set)
        await voice_library.forget(clip)
        may_go_on.set()
        assert (await asked)["tier"] == "miss"
    assert (await voice_library.resolve(CLIP_REFERENCE)).tier == "miss"


async def test_a_tier_that_kept_a_clip_is_told_without_its_address(library, monkeypatch):
    voice_library, _ = library

    async def keep(clip: ClipKey) -> None:
        raise StoreError("s3://secret-bucket is down")

    monkeypatch.setattr(voice_library._cache, "forget", keep)
    with pytest.raises(StageUnavailableError) as raised:
        await voice_library.forget("ab" * 32)
    assert "secret" not in raised.value.message


async def test_a_tokenizer_that_does_not_answer_is_logged_once_and_so_is_its_return(
    library, caplog
):
    caplog.set_level(logging.INFO)
    _, encoder = library
    for is_dead in (True, False, True):
        encoder.is_dead = is_dead
        await encoder.asked_again()
        await encoder.asked_again()
    assert caplog.text.count("does not tell its fingerprint") == 2
    assert caplog.text.count("tells its fingerprint again") == 1


async def test_a_listed_voice_brings_its_own_words(library):
    voice_library, _ = library
    said = load_voices(VOICES_DIR)["aria"].transcript
    voice = await voice_library.resolve(VoiceReference(name=" Alloy "))
    assert voice.clip_digest == (await voice_library.resolve(CLIP_REFERENCE)).clip_digest
    edit = voice.completed(SpeechRequest("", "", mode=Mode.DENOISE))
    assert (edit.text, edit.transcript) == (said, said)
    clone = voice.completed(SpeechRequest("Hello.", ""))
    assert (clone.text, clone.transcript) == ("Hello.", said)


async def test_a_listed_clip_is_not_hashed_again(library, monkeypatch):
    voice_library, _ = library
    monkeypatch.setattr(registry, "raw_key", None)
    assert (await voice_library.resolve(VoiceReference(name="bruno"))).tier == "miss"
