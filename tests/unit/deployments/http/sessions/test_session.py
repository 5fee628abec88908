"""Sessions over a WebSocket, in process: the protocol, interruptions, whose they are, how many."""

from __future__ import annotations

import asyncio
import base64
import itertools
from typing import Any

import pytest

from tests.http_app import CLIP, SAID, HttpApp, http_app, tenant
from tests.talk import Talk, kinds, talk
from tests.unit.deployments.http.sessions import FRAME
from tests.waiting import until

pytestmark = pytest.mark.unit


def held(app: HttpApp) -> Any:
    """The app's speaker, whose chunks wait for permits."""
    app.speaker.step = asyncio.Semaphore(0)
    return app.speaker


async def test_text_in_pieces_is_spoken_sentence_by_sentence() -> None:
    async with http_app() as app, talk(app.app, **{"x-request-id": "me"}) as one:
        assert one.accepted["type"] == "websocket.accept"
        assert dict(one.accepted["headers"])[b"x-request-id"] == b"me"
        one.configure(split_granularity="sentence", seed=7)
        for piece in ("Hel", "lo the", "re. How a", "re you?"):
            one.say("input.text", text=piece)
        first = await one.until("audio.done")
        one.say("input.done")
        rest = await one.until("session.done")
    assert kinds(first) == ["audio.start", "audio", "audio", "audio.done"]
    assert kinds(rest) == [*kinds(first), "session.done"]
    assert first[0] == {
        "type": "audio.start",
        "request_id": "me:0:0",
        "utterance_index": 0,
        "sentence_index": 0,
        "sentence_text": "Hello there. ",
        "format": "pcm",
        "sample_rate": 24_000,
        "channels": 1,
    }
    assert first[-1]["total_bytes"] == 2 * FRAME
    assert (first[-1]["error"], first[-1]["audio_ms"]) == (False, 240)
    assert (rest[0]["sentence_index"], rest[0]["sentence_text"]) == (1, "How are you?")
    assert (rest[-1]["utterance_index"], rest[-1]["total_sentences"]) == (0, 2)
    assert [request.text for request in app.synthesizer.requests] == [
        "Hello there.",
        "How are you?",
    ]
    assert {request.sampling.seed for request in app.synthesizer.requests} == {7}


async def test_a_session_has_pronunciations_of_its_own() -> None:
    async with http_app() as app, talk(app.app) as one:
        entry = {"written": "Nguyen", "said": "win"}
        one.configure(normalize=False, pronunciation=[entry])
        one.say("input.text", text="Dr. Nguyen is 3.")
        one.say("input.done")
        await one.until("session.done")
    reading = app.synthesizer.requests[-1].reading
    assert not reading.is_normalised
    assert [one.said for one in reading.pronunciations] == ["win"]


async def test_several_utterances_share_a_session_and_unsplit_text_waits_for_its_end() -> None:
    async with http_app() as app, talk(app.app) as one:
        one.configure()
        one.say("input.text", text="One. Two. ")
        one.say("ping", id=1)
        assert (await one.until("pong"))[-1]["id"] == 1
        assert not app.synthesizer.requests
        one.say("input.text", text="Three.")
        one.say("input.done")
        done = await one.until("session.done")
        one.say("input.text", text="Four.")
        one.say("input.done")
        again = await one.until("session.done")
    assert done[0]["sentence_text"] == "One. Two. Three."
    assert (again[-1]["utterance_index"], again[-1]["total_sentences"]) == (1, 1)


async def test_an_utterance_without_text_ends_at_once() -> None:
    async with http_app() as app, talk(app.app) as one:
        one.configure()
        one.say("input.done")
        one.say("input.text", text=" …\n")
        one.say("input.done")
        ends = [await one.next(), await one.next()]
    assert [end["total_sentences"] for end in ends] == [0, 0]
    assert not app.synthesizer.requests


SOUNDS = ["pcm", "wav", "mp3", "opus", "aac", "flac", "pcmu"]


@pytest.mark.slow
async def test_every_format_comes_in_frames() -> None:
    async with http_app() as app, talk(app.app) as one:
        for sound, is_streamed in itertools.product(SOUNDS, (None, True, False)):
            one.configure(response_format=sound, stream_audio=is_streamed, seed=3)
            one.say("input.text", text="Hello there.")
            one.say("input.done")
            frames = [m for m in await one.until("session.done") if isinstance(m, bytes)]
            how = {"voice": "bruno", "response_format": sound, "seed": 3}
            whole = await app.speak(input="Hello there.", **how)
            check_frames(frames, whole.content, sound, is_streamed)


def check_frames(frames: list[bytes], whole: bytes, sound: str, is_streamed: bool | None) -> None:
    if is_streamed is False or (is_streamed is None and sound == "wav"):
        assert len(frames) == 1
    if sound == "wav" and is_streamed is not True:
        assert frames[0][4:8] == (len(frames[0]) - 8).to_bytes(4, "little")
    elif sound in {"pcm", "wav", "flac"}:
        assert b"".join(frames) == whole
    assert len(b"".join(frames)) == pytest.approx(len(whole), rel=0.1)


async def test_audio_comes_as_base64_where_it_is_wanted() -> None:
    async with http_app() as app, talk(app.app) as one:
        one.configure(audio_transport="base64", speed=0.5, sample_rate=16_000)
        one.say("input.text", text="Hello there.")
        one.say("input.done")
        said = await one.until("session.done")
    chunks = [one for one in said if one["type"] == "audio.chunk"]
    assert [chunk["chunk_id"] for chunk in chunks] == list(range(len(chunks)))
    assert {chunk["sample_rate"] for chunk in chunks} == {said[0]["sample_rate"]} == {16_000}
    sent = b"".join(base64.b64decode(chunk["audio_b64"]) for chunk in chunks)
    assert chunks[-1]["chunk_end_ms"] == said[-2]["audio_ms"] == round(len(sent) / 32)
    assert 400 < said[-2]["audio_ms"] < 560


async def test_an_interruption_frees_the_stages_and_says_what_was_heard() -> None:
    async with http_app(is_telling=True) as app, talk(app.app) as one:
        speaker = held(app)
        one.configure(split_granularity="sentence")
        one.say("input.text", text="Hello there. How are you today? And")
        for _ in range(4):
            speaker.step.release()
        heard = await one.until("audio.done")
        frame = await one.next(), await one.next()
        await until(lambda: speaker.open_streams == 1)
        one.say("input.cancel", played_ms=420)
        said = await one.until("session.done")
        assert speaker.open_streams == 0
        one.say("input.text", text="Sorry?")
        one.say("input.done")
        for _ in range(3):
            speaker.step.release()
        after = await one.until("session.done")
    assert kinds(heard) == ["audio.start", "audio", "audio", "audio", "audio.done"]
    assert kinds(list(frame)) == ["audio.start", "audio"]
    assert kinds(said) == ["audio.done", "input.cancelled", "session.done"]
    done, report, end = said
    assert (done["cancelled"], done["sentence_index"]) == (True, 1)
    assert report["played_ms"] == 420
    # 360 ms of the first sentence, then 60 ms of one that is likely to take 1.2 s.
    assert report["heard_text"] == "Hello there. H"
    assert report["unheard_text"] == "ow are you today? And"
    assert [one["heard_ms"] for one in report["sentences"]] == [360, 60]
    assert not report["is_estimate"]
    assert (end["cancelled"], end["total_sentences"]) == (True, 2)
    assert (after[-1]["utterance_index"], "cancelled" in after[-1]) == (1, False)
    assert after[0]["sentence_text"] == "Sorry?"


async def test_an_interruption_drops_every_utterance_that_waits() -> None:
    async with http_app(is_telling=True) as app, talk(app.app) as one:
        speaker = held(app)
        one.configure()
        for text in ("One two.", "Three four.", "Five"):
            one.say("input.text", text=text)
            if text != "Five":
                one.say("input.done")
        await until(lambda: speaker.open_streams == 1)
        one.say("input.cancel", played_ms=0, utterance_index=1)
        said = await one.until("input.cancelled")
        ends = [await one.next() for _ in range(3)]
    assert said[-1]["utterance_index"] == 1
    assert (said[-1]["heard_text"], said[-1]["unheard_text"]) == ("", "Three four.")
    assert [end["utterance_index"] for end in ends] == [0, 1, 2]
    assert all(end["cancelled"] for end in ends)


async def test_what_was_spoken_to_its_end_may_still_be_playing() -> None:
    async with http_app() as app, talk(app.app) as one:
        one.configure()
        one.say("input.cancel", played_ms=5)
        nothing = await one.next()
        one.say("input.text", text="Hello there, you.")
        one.say("input.done")
        await one.until("session.done")
        one.say("input.cancel", played_ms=120)
        half = await one.next()
        one.say("input.cancel", played_ms=99_999)
        whole = await one.next()
        one.say("input.cancel")
        guess = await one.next()
        one.say("ping")
        assert (await one.next())["type"] == "pong"
    assert (nothing["utterance_index"], nothing["heard_text"]) == (None, "")
    assert half["heard_text"] == "Hello th"
    assert (whole["heard_text"], whole["played_ms"]) == ("Hello there, you.", 240)
    assert guess["is_estimate"]
    assert guess["played_ms"] <= 240


async def test_a_closed_socket_frees_the_stages() -> None:
    async with http_app(is_telling=True) as app:
        async with talk(app.app) as one:
            speaker = held(app)
            one.configure()
            one.say("input.text", text="Hello there.")
            one.say("input.done")
            await until(lambda: speaker.open_streams == 1)
        assert speaker.open_streams == 0
        metrics = app.routes._metrics._streams.load
        assert (metrics.running, metrics.waiting) == (0, 0)
        assert app.routes.budget.held_bytes == 0


async def test_closing_lets_speech_end() -> None:
    async with http_app(is_telling=True) as app, talk(app.app) as one:
        speaker = held(app)
        one.configure()
        one.say("input.text", text="Hello there.")
        one.say("input.done")
        one.say("session.close")
        one.say("input.text", text="Too late.")
        assert (await one.until("error"))[-1]["error"]["param"] == "type"
        for _ in range(3):
            speaker.step.release()
        assert kinds(await one.until("session.done"))[-1] == "session.done"
        assert await one.closed() == 1000


async def test_a_session_speaks_in_the_voice_of_a_clip() -> None:
    clip = base64.b64encode(CLIP).decode()
    async with http_app() as app, talk(app.app) as one:
        one.configure(ref_audio=clip, ref_text=SAID)
        one.say("input.text", text="Hello there.")
        one.say("input.done")
        await one.until("session.done")
        assert app.routes.budget.held_bytes == len(CLIP)
        assert app.synthesizer.requests[-1].transcript == SAID
        one.leave()
        await until(lambda: app.routes.budget.held_bytes == 0)


@pytest.mark.parametrize(
    ("limits", "is_configured", "code", "words"),
    [
        ({"config_timeout_s": 0.05}, False, 1008, "no session.config"),
        ({"idle_timeout_s": 0.05}, True, 1001, "too long"),
        ({"max_session_s": 0.05}, True, 1001, "as long as"),
        ({"max_session_s": 0.05}, False, 1001, "as long as"),
    ],
)
async def test_a_session_nobody_uses_is_closed(
    limits: dict[str, float], is_configured: bool, code: int, words: str
) -> None:
    async with http_app(sessions=limits) as app, talk(app.app) as one:
        if is_configured:
            one.configure()
        assert words in (await one.next())["message"]
        assert await one.closed() == code


async def test_a_session_that_speaks_is_not_idle() -> None:
    async with http_app(is_telling=True, sessions={"idle_timeout_s": 0.05}) as app:
        async with talk(app.app) as one:
            speaker = held(app)
            one.configure()
            one.say("input.text", text="Hello there.")
            one.say("input.done")
            await asyncio.sleep(0.12)
            for _ in range(3):
                speaker.step.release()
            assert kinds(await one.until("session.done"))[-1] == "session.done"
            assert await one.closed() == 1001


async def test_sessions_are_bounded_and_requests_go_on() -> None:
    async with http_app(sessions={"max_sessions": 1}) as app, talk(app.app) as one:
        one.configure()
        async with talk(app.app) as full:
            assert (full.accepted["type"], full.accepted["status"]) == (
                "websocket.http.response.start",
                503,
            )
            assert (b"retry-after", b"1") in full.accepted["headers"]
            assert b"overloaded" in (await full.raw())["body"]
        async with talk(app.app, can_deny=False) as full:
            assert full.accepted == {"type": "websocket.close", "code": 1013}
        assert (await app.speak()).status_code == 200
        one.leave()
        await one.serving
        async with talk(app.app) as again:
            assert again.accepted["type"] == "websocket.accept"


@pytest.mark.parametrize(
    ("origin", "origins", "is_welcome"),
    [
        ("https://evil.example", (), False),
        ("null", (), False),
        ("http://timbre", (), True),
        ("https://app.example", ("https://app.example",), True),
        ("https://evil.example", ("https://app.example",), False),
        ("https://any.example", ("*",), True),
    ],
)
async def test_pages_of_other_origins_are_let_in_as_the_settings_say(
    origin: str, origins: tuple[str, ...], is_welcome: bool
) -> None:
    async with http_app(http={"cors_origins": origins}) as app:
        async with talk(app.app, host="timbre", origin=origin) as one:
            accepted = one.accepted
    assert accepted["type"] == (
        "websocket.accept" if is_welcome else "websocket.http.response.start"
    )
    assert is_welcome or accepted["status"] == 403


async def test_outcomes_and_metrics_are_kept_for_every_sentence() -> None:
    async with http_app() as app, talk(app.app, **{"x-request-id": "me"}) as one:
        one.configure()
        one.say("input.text", text="Hello there.")
        one.say("input.done")
        await one.until("session.done")
        outcome = await app.http.get("/v1/audio/speech/me:0:0")
    assert outcome.json()["outcome"] == "ok"


async def test_a_tenant_hears_of_its_own_sentences_alone() -> None:
    async with http_app() as app:
        from tests.http_app import Tenant

        async with talk(Tenant(app.app, "acme"), **{"x-request-id": "me"}) as one:
            one.configure()
            one.say("input.text", text="Hello there.")
            one.say("input.done")
            await one.until("session.done")
        async with tenant(app, "acme") as theirs:
            assert (await theirs.get("/v1/audio/speech/me:0:0")).status_code == 200
        assert (await app.http.get("/v1/audio/speech/me:0:0")).status_code == 404


async def test_a_seeded_sentence_that_was_spoken_before_is_not_made_again() -> None:
    async with http_app(is_telling=True) as app:
        speaker: Any = app.speaker
        for _ in range(2):
            async with talk(app.app) as one:
                await _spoken(one, "Hello there.")
    assert len(speaker.requests) == 1


async def _spoken(one: Talk, text: str) -> list[Any]:
    one.configure(seed=5)
    one.say("input.text", text=text)
    one.say("input.done")
    return await one.until("session.done")
