"""Uploaded voices and consents on a real store, through several processes' eyes at once."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from cache_store.keys import raw_key
from cache_store.settings import CacheSettings
from deployments.voices import claims, states, versions
from deployments.voices.consents import Consents, consent_of_words
from deployments.voices.documents import VoiceVersion
from deployments.voices.names import VoiceName, checked_name
from deployments.voices.shelf import ROOT, Shelf
from deployments.voices.states import Standing
from deployments.voices.uploaded import StoredVoice, UploadedVoices
from pipeline.errors import (
    InputError,
    NameTakenError,
    StageError,
    UnknownConsentError,
    UnknownVoiceError,
)
from tests.cache_helpers import S3Server

pytestmark = pytest.mark.unit
MINE, YOURS = "mine", "yours"


class Replicas:
    """Registries over one store, each with a memory of its own, as routers have them."""

    def __init__(self, settings: CacheSettings, max_voices: int = 50) -> None:
        self._settings = settings
        self._max_voices = max_voices

    def shelf(self) -> Shelf:
        shelf = Shelf.open(self._settings)
        assert shelf is not None
        return shelf

    def another(self) -> UploadedVoices:
        return UploadedVoices(self.shelf(), self._max_voices)


@pytest.fixture
def replicas(tmp_path: Path) -> Replicas:
    return Replicas(CacheSettings(url=str(tmp_path)))


def named(name: str) -> VoiceName:
    return checked_name(name, ())


def version_of(clip: bytes, transcript: str = "Hello.") -> VoiceVersion:
    return VoiceVersion(
        number=1,
        created_unix_s=1,
        raw=raw_key(clip),
        size_bytes=len(clip),
        mime_type="audio/wav",
        clip_digest="ab" * 32,
        transcript=transcript,
    )


def files_below(directory: Path) -> list[Path]:
    return sorted(file for file in directory.rglob("*") if file.is_file())


async def add(
    voices: UploadedVoices, name: str = "Zoe", namespace: str = MINE, clip: bytes = b"clip"
) -> StoredVoice:
    return await voices.add(namespace, named(name), version_of(clip), clip)


async def test_a_voice_is_found_by_id_and_name_on_any_replica(replicas: Replicas):
    one, other = replicas.another(), replicas.another()
    made = await add(one)
    for asked in (made.id, "Zoe", " zoe ", "ZOE", f"{made.id}@1"):
        found = await other.find(MINE, asked)
        assert found == made, asked
        assert await other.clip(made) == b"clip"
    assert [voice.id for voice in await replicas.another().list(MINE)] == [made.id]


async def test_a_name_that_was_unknown_is_known_a_moment_after_its_upload(replicas: Replicas):
    one, other = replicas.another(), replicas.another()
    assert await other.find(MINE, "Zoe") is None
    made = await add(one)
    await asyncio.sleep(claims.UNKNOWN_S + 0.01)
    assert await other.find(MINE, "Zoe") == made


async def test_word_of_an_upload_makes_it_known_at_once(replicas: Replicas):
    one, other = replicas.another(), replicas.another()
    assert await other.find(MINE, "Zoe") is None
    made = await add(one)
    other.forget(MINE, made.id)
    assert await other.find(MINE, "Zoe") == made


async def test_a_deleted_voice_is_refused_within_a_second_without_a_word(replicas: Replicas):
    one, other = replicas.another(), replicas.another()
    made = await add(one)
    assert await other.find(MINE, "Zoe")
    assert await other.find(MINE, made.id)
    assert [gone.number for gone in await one.delete(MINE, made.id)] == [1]
    await asyncio.sleep(states.FRESH_S + 0.02)
    for asked in ("Zoe", made.id, f"{made.id}@1"):
        assert await other.find(MINE, asked) is None
        assert await one.find(MINE, asked) is None
        with pytest.raises(UnknownVoiceError):
            await other.get(MINE, asked)
    assert await other.list(MINE) == []


async def test_word_of_a_deletion_refuses_it_at_once(replicas: Replicas):
    one, other = replicas.another(), replicas.another()
    made = await add(one)
    assert await other.find(MINE, "Zoe")
    await one.delete(MINE, made.id)
    other.forget(MINE, made.id)
    assert await other.find(MINE, "Zoe") is None


async def test_while_it_is_fresh_a_voice_costs_no_request(replicas: Replicas, monkeypatch):
    voices = replicas.another()
    made = await add(voices)
    assert await voices.find(MINE, "Zoe") == made
    monkeypatch.setattr(Shelf, "_run", None)
    for _ in range(10):
        assert await voices.find(MINE, "Zoe") == made


async def test_of_many_uploads_of_one_name_one_wins(replicas: Replicas):
    made = await asyncio.gather(
        *(add(replicas.another(), "Zoe", clip=bytes([n])) for n in range(8)), return_exceptions=True
    )
    won = [one for one in made if isinstance(one, StoredVoice)]
    assert len(won) == 1
    assert all(isinstance(one, StoredVoice | NameTakenError) for one in made)
    assert await replicas.another().find(MINE, "zoe") == won[0]
    assert len(await replicas.another().list(MINE)) == 1
    clips = await replicas.shelf().paths(f"{ROOT}/{MINE}/clips")
    assert len(clips) == 1, "the losers left nothing"


async def test_a_name_is_free_again_after_its_voice_went_or_was_renamed(replicas: Replicas):
    one, other = replicas.another(), replicas.another()
    first = await add(one)
    await one.delete(MINE, first.id)
    second = await add(other)
    assert second.id != first.id
    await other.rename(MINE, second.id, named("Yan"))
    third = await add(one)
    assert (await other.get(MINE, "Zoe")).id == third.id
    assert (await one.get(MINE, "Yan")).id == second.id
    with pytest.raises(NameTakenError):
        await one.rename(MINE, second.id, named("ZOE"))
    assert (await one.rename(MINE, second.id, named("YAN"))).state.name == "YAN"


async def test_a_claim_whose_writer_died_holds_a_name_for_a_minute(replicas: Replicas, monkeypatch):
    voices = replicas.another()
    await voices._names.claim(MINE, named("Zoe"), "voice_" + "0" * 32)
    with pytest.raises(NameTakenError):
        await add(voices)
    assert await voices.find(MINE, "Zoe") is None
    monkeypatch.setattr(claims, "PENDING_S", 0.0)
    assert await add(voices)


async def test_versions_are_kept_and_each_can_be_asked_for(replicas: Replicas):
    one, other = replicas.another(), replicas.another()
    made = await add(one, clip=b"first")
    assert await other.find(MINE, "Zoe")
    second = await one.add_version(MINE, made.id, version_of(b"second", "Bye."), b"second")
    third = await other.add_version(MINE, made.id, version_of(b"second", "Oh."), None)
    assert (second.version.number, third.version.number) == (2, 3)
    latest = await one.get(MINE, "Zoe")
    assert (latest.version.number, await one.clip(latest)) == (3, b"second")
    pinned = await other.find(MINE, f"{made.id}@1")
    assert pinned is not None
    assert await other.clip(pinned) == b"first"
    assert [version.transcript for version in await one.versions(latest)] == [
        "Hello.",
        "Bye.",
        "Oh.",
    ]
    for wrong in ("@4", "@0", "@x", "@-1", "@1@2", "@²", "@"):
        assert (await other.find(MINE, made.id + wrong) is None) == (wrong != "@")


async def test_changes_at_a_time_all_count(replicas: Replicas):
    made = await add(replicas.another())
    await asyncio.gather(
        *(
            replicas.another().add_version(MINE, made.id, version_of(bytes([n])), bytes([n]))
            for n in range(5)
        ),
        replicas.another().rename(MINE, made.id, named("Yan")),
    )
    found = await replicas.another().get(MINE, "Yan")
    assert found.version.number == 6
    assert len(await replicas.another().versions(found)) == 6


async def test_a_change_under_way_does_not_bring_a_deleted_voice_back(replicas: Replicas):
    for _ in range(5):
        made = await add(replicas.another())
        outcomes = await asyncio.gather(
            replicas.another().delete(MINE, made.id),
            replicas.another().rename(MINE, made.id, named("Yan")),
            replicas.another().add_version(MINE, made.id, version_of(b"x"), b"x"),
            return_exceptions=True,
        )
        assert not isinstance(outcomes[0], BaseException)
        assert await replicas.another().list(MINE) == []
        for name in ("Zoe", "Yan"):
            assert await replicas.another().find(MINE, name) is None


async def test_a_deleted_voice_can_be_restored_until_it_is_purged(replicas: Replicas):
    one, other = replicas.another(), replicas.another()
    made = await add(one)
    with pytest.raises(UnknownVoiceError):
        await one.restore(MINE, made.id)
    await one.delete(MINE, made.id)
    assert [voice.id for voice in await other.list_deleted(MINE)] == [made.id]
    restored = await other.restore(MINE, made.id)
    assert (restored.id, restored.version) == (made.id, made.version)
    one.forget(MINE, made.id)
    assert await one.find(MINE, "Zoe") == restored
    await one.delete(MINE, made.id)
    taken = await add(other)
    with pytest.raises(NameTakenError):
        await one.restore(MINE, made.id)
    assert (await one.restore(MINE, made.id, named("Yan"))).state.name == "Yan"
    assert (await other.get(MINE, "Zoe")).id == taken.id
    with pytest.raises(UnknownVoiceError):
        await one.purge(MINE, made.id)
    await one.delete(MINE, made.id)
    await one.purge(MINE, made.id)
    with pytest.raises(UnknownVoiceError):
        await other.restore(MINE, made.id)
    assert await other.list_deleted(MINE) == []


async def test_a_purge_leaves_nothing_that_was_said_or_named(replicas: Replicas, tmp_path: Path):
    voices = replicas.another()
    made = await voices.add(
        MINE, named("Zoe"), version_of(b"sound of Zoe", "words of Zoe"), b"sound of Zoe"
    )
    await voices.rename(MINE, made.id, named("Zoe B"))
    await voices.delete(MINE, made.id)
    await voices.purge(MINE, made.id)
    left = files_below(tmp_path)
    assert left, "that it was deleted is remembered"
    assert not [file for file in left if b"Zoe" in file.read_bytes()]


async def test_a_sweep_purges_what_is_old_and_what_dead_writers_left(
    replicas: Replicas, monkeypatch
):
    voices = replicas.another()
    kept, gone = await add(voices, "Zoe"), await add(voices, "Yan")
    await voices.delete(MINE, gone.id)
    dead = "voice_" + "0" * 32
    await voices._versions.add(MINE, dead, version_of(b"x"), b"x")
    assert await voices.sweep(MINE, 3600.0) == 0
    assert [voice.id for voice in await voices.list_deleted(MINE)] == [gone.id]
    assert dead not in await voices._versions.left_behind(MINE)
    assert await voices.sweep(MINE, 0.0) == 1
    assert await voices.list_deleted(MINE) == []
    monkeypatch.setattr(versions, "LEFT_AFTER_S", -10.0)
    assert await voices._versions.left_behind(MINE) == [kept.id]


async def test_a_sweep_goes_on_where_another_router_was_faster(
    replicas: Replicas, monkeypatch: pytest.MonkeyPatch
):
    one, other = replicas.another(), replicas.another()
    await one.delete(MINE, (await add(one)).id)
    seen = await other._states.all(MINE)
    await one.sweep(MINE, 0.0)

    async def as_it_was(_: str) -> dict[str, Standing]:
        return seen

    monkeypatch.setattr(other._states, "all", as_it_was)
    assert await other.sweep(MINE, 0.0) == 0


async def test_nothing_of_a_tenant_is_another_ones(replicas: Replicas):
    voices = replicas.another()
    made = await add(voices, namespace=MINE)
    for asked in (made.id, f"{made.id}@1", "Zoe"):
        assert await voices.find(YOURS, asked) is None
        with pytest.raises(UnknownVoiceError):
            await voices.get(YOURS, asked)
    for change in (
        voices.rename(YOURS, made.id, named("Yan")),
        voices.add_version(YOURS, made.id, version_of(b"x"), b"x"),
        voices.delete(YOURS, made.id),
        voices.restore(YOURS, made.id),
        voices.purge(YOURS, made.id),
    ):
        with pytest.raises(UnknownVoiceError):
            await change
    assert await voices.list(YOURS) == []
    theirs = await add(voices, namespace=YOURS)
    assert theirs.id != made.id, "a name is taken in its own namespace alone"
    await voices.delete(MINE, made.id)
    assert await voices.list_deleted(YOURS) == []
    assert (await voices.get(YOURS, "Zoe")).id == theirs.id


@pytest.mark.parametrize(
    "asked",
    [
        "../x",
        "a/b",
        "\0",
        "voice_" + "../" * 10,
        "voice_" + "A" * 32,
        "x" * 1_000,
        "",
        "@1",
        "voice_",
    ],
)
async def test_what_is_asked_for_is_never_a_path(replicas: Replicas, asked: str, tmp_path: Path):
    voices = replicas.another()
    await add(voices)
    before = files_below(tmp_path)
    assert await voices.find(MINE, asked) is None
    for change in (
        voices.get(MINE, asked),
        voices.rename(MINE, asked, named("Yan")),
        voices.delete(MINE, asked),
        voices.restore(MINE, asked),
        voices.purge(MINE, asked),
    ):
        with pytest.raises(UnknownVoiceError):
            await change
    assert files_below(tmp_path) == before


async def test_there_is_a_limit(tmp_path: Path):
    replicas = Replicas(CacheSettings(url=str(tmp_path)), max_voices=1)
    voices = replicas.another()
    await voices.check_room(MINE, named("Zoe"))
    await add(voices)
    with pytest.raises(InputError, match="limit"):
        await voices.check_room(MINE, named("Yan"))
    await voices.check_room(YOURS, named("Zoe"))


async def test_a_clip_that_is_damaged_is_told(replicas: Replicas, tmp_path: Path):
    voices = replicas.another()
    made = await add(voices)
    [file] = (tmp_path / ROOT / MINE / "clips" / made.id).iterdir()
    file.write_bytes(b"other")
    with pytest.raises(StageError, match="damaged"):
        await voices.clip(made)


async def test_a_voice_is_found_a_while_when_the_store_goes_away(replicas: Replicas, monkeypatch):
    voices = replicas.another()
    made = await add(voices)
    assert await voices.find(MINE, "Zoe") == made
    monkeypatch.setattr(states, "FRESH_S", -1.0)

    def refuse(*_: object) -> None:
        raise states.StageUnavailableError("down")

    monkeypatch.setattr(Shelf, "_run", refuse)
    assert await voices.find(MINE, "Zoe") == made
    monkeypatch.setattr(states, "STALE_S", -1.0)
    with pytest.raises(StageError):
        await voices.find(MINE, "Zoe")


class TestConsents:
    async def test_pages_go_from_the_newest_to_the_oldest(self, replicas: Replicas):
        consents = Consents(replicas.shelf())
        made = [
            await consents.add(MINE, consent_of_words(f"I agree {n}", "Zoe", "en"))
            for n in range(5)
        ]
        newest_first = [one.id for one in reversed(made)]
        if sorted(newest_first, reverse=True) != newest_first:
            newest_first = sorted(newest_first, reverse=True)  # made within a millisecond
        await consents.delete(MINE, newest_first[2])
        kept = [one for n, one in enumerate(newest_first) if n != 2]
        page = await consents.page(MINE, 2)
        assert ([one.id for one in page.consents], page.has_more) == (kept[:2], True)
        page = await consents.page(MINE, 2, after=kept[1])
        assert ([one.id for one in page.consents], page.has_more) == (kept[2:], False)
        page = await consents.page(MINE, 2, after=newest_first[2])
        assert [one.id for one in page.consents] == kept[2:]
        assert (await consents.page(MINE, 2, after=kept[-1])).consents == []
        assert (await consents.page(YOURS, 2)).consents == []

    async def test_a_deleted_one_leaves_no_words_and_no_sound(
        self, replicas: Replicas, tmp_path: Path
    ):
        consents = Consents(replicas.shelf())
        made = await consents.add(MINE, consent_of_words("Zoe agrees", "Zoe", "en"), b"Zoe's voice")
        assert made.consent.recording == raw_key(b"Zoe's voice")
        renamed = await consents.rename(MINE, made.id, "of Zoe")
        assert (renamed.consent.name, renamed.consent.text) == ("of Zoe", "Zoe agrees")
        for namespace, asked in ((YOURS, made.id), (MINE, "cons_x"), (MINE, "../x"), (MINE, "")):
            with pytest.raises(UnknownConsentError):
                await consents.get(namespace, asked)
            with pytest.raises(UnknownConsentError):
                await consents.delete(namespace, asked)
        assert (await Consents(replicas.shelf()).get(MINE, made.id)) == renamed
        await consents.delete(MINE, made.id)
        for call in (consents.get(MINE, made.id), consents.rename(MINE, made.id, "x")):
            with pytest.raises(UnknownConsentError):
                await call
        left = files_below(tmp_path)
        assert not [file for file in left if b"Zoe" in file.read_bytes()]


@pytest.mark.slow
async def test_all_of_it_in_a_bucket(s3_server: S3Server):
    settings = CacheSettings(
        url=f"s3://{s3_server.bucket}/registry",
        storage_options=s3_server.storage_options,
        connect_timeout_s=10,
        read_timeout_s=10,
        l3_write_deadline_s=60,
    )
    replicas = Replicas(settings)
    one, other = replicas.another(), replicas.another()
    assert await other.find(MINE, "Zoe") is None
    made = await add(one)
    with pytest.raises(NameTakenError):
        await add(other)
    other.forget(MINE, made.id)
    assert await other.find(MINE, "Zoe") == made
    second = await other.add_version(MINE, made.id, version_of(b"2"), b"2")
    assert [voice.id for voice in await one.list(MINE)] == [made.id]
    assert await one.clip(await one.get(MINE, made.id)) == b"2"
    await one.rename(MINE, made.id, named("Yan"))
    await one.delete(MINE, made.id)
    await asyncio.sleep(states.FRESH_S + 0.02)
    assert await other.find(MINE, "Yan") is None
    restored = await other.restore(MINE, made.id)
    assert restored.version == second.version
    await other.delete(MINE, made.id)
    await other.purge(MINE, made.id)
    assert await replicas.shelf().paths(f"{ROOT}/{MINE}/clips") == []
    consents = Consents(replicas.shelf())
    agreed = await consents.add(MINE, consent_of_words("I agree", "Zoe", "en"), b"sound")
    assert (await consents.page(MINE, 5)).consents == [agreed]
