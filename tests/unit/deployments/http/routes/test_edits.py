"""Edits over HTTP: chains, their steps afterwards, and what is found again."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from deployments.http.edit_shapes import EditReply, EditStepReply
from pipeline.contracts import Mode
from pipeline.serving.terms import Service
from tests.http_app import CLIP, SAID, HttpApp, error_of
from tests.unit.deployments.http.routes.edit_app import (
    AUDIO,
    CHAIN,
    CLONE,
    DENOISE,
    EDITS,
    HAPPY,
    LAUGH,
    answers,
    edit,
    editing,
    refused,
    step_of,
    stored,
    tokens,
)
from tests.waiting import until

pytestmark = [pytest.mark.unit, pytest.mark.slow]


@pytest_asyncio.fixture
async def app(tmp_path: Path) -> AsyncIterator[HttpApp]:
    async with editing(tmp_path) as made:
        yield made


async def test_a_chain_is_one_call(app: HttpApp) -> None:
    reply = await edit(app, voice="bruno", steps=CHAIN)
    assert reply.headers["content-type"] == "audio/wav"
    assert reply.headers["x-cache"] == "miss"
    assert reply.headers["x-quality"] == "ok"
    assert reply.headers["x-edit-steps"] == "miss, miss, miss, miss"
    modes = [request.mode for request in app.speaker.requests]  # type: ignore[attr-defined]
    assert modes == [Mode.CLONE, Mode.EMOTION, Mode.PARALINGUISTIC, Mode.DENOISE]
    told = (await app.http.get(f"/v1/audio/speech/{reply.headers['x-request-id']}")).json()
    assert told["outcome"] == "ok"
    assert told["usage"]["output_tokens"] == sum(
        [len(await tokens(app, reply.headers["x-edit-id"], step)) for step in (1, 2, 3, 4)]
    )


async def test_every_step_takes_the_tokens_and_words_of_the_one_before(app: HttpApp) -> None:
    edit_id = (await edit(app, voice="bruno", steps=CHAIN)).headers["x-edit-id"]
    made = app.speaker.requests  # type: ignore[attr-defined]
    assert [request.transcript for request in made] == [
        SAID, CLONE["text"], CLONE["text"], LAUGH["text"],
    ]  # fmt: skip
    assert made[0].source is None
    for number, request in enumerate(made[1:], 1):
        assert request.source.ids.tolist() == await tokens(app, edit_id, number)
    speakers = app.speaker.speakers  # type: ignore[attr-defined]
    assert len(set(speakers)) == 1, "heard in the clip's voice"


@pytest.mark.parametrize("upto", [1, 2, 3])
async def test_a_step_alone_on_those_tokens_gives_the_same(app: HttpApp, upto: int) -> None:
    whole = await edit(app, voice="bruno", steps=CHAIN)
    begun = await edit(app, voice="bruno", steps=CHAIN[:upto], cache="refresh")
    alone = await edit(
        app,
        **{"from": {"edit": begun.headers["x-edit-id"], "step": upto}},
        steps=CHAIN[upto : upto + 1],
        cache="refresh",
    )
    one, other = whole.headers["x-edit-id"], alone.headers["x-edit-id"]
    assert alone.headers["x-edit-steps"].split(", ")[-1] == "miss", "really made"
    assert await tokens(app, one, upto + 1) == await tokens(app, other, upto + 1)


async def test_a_chain_that_is_known_is_not_made_again(app: HttpApp) -> None:
    first = await edit(app, voice="bruno", steps=CHAIN)
    made = answers(app)
    again = await edit(app, voice="bruno", steps=CHAIN)
    assert again.content == first.content
    assert again.headers["x-cache"] == "speech-l1, l1"
    assert again.headers["x-edit-steps"] == ", ".join(["speech-l1"] * 4)
    longer = await edit(app, voice="bruno", steps=[*CHAIN, {"type": "vad"}])
    assert longer.headers["x-edit-steps"].split(", ") == [*["speech-l1"] * 4, "miss"]
    assert answers(app) == made + 1


@pytest.mark.slow
async def test_a_chain_that_broke_off_goes_on_where_it_was(app: HttpApp) -> None:
    from pipeline.errors import StageError

    speaker = app.speaker  # type: ignore[attr-defined]
    stream = speaker.lm.stream

    async def failing(*args: Any) -> Any:
        if speaker.lm.n_answers == 2:
            raise StageError("the LLM died")
        async for chunk in stream(*args):
            yield chunk

    speaker.lm.stream = failing
    reply = await app.http.post(EDITS, json={"voice": "bruno", "steps": CHAIN, "seed": 7})
    assert reply.status_code == httpx.codes.INTERNAL_SERVER_ERROR
    assert "x-edit-id" not in reply.headers
    speaker.lm.stream = stream
    await until(lambda: not app.speech._live)
    again = await edit(app, voice="bruno", steps=CHAIN)
    assert again.headers["x-edit-steps"] == "speech-l1, speech-l1, miss, miss"


async def test_any_router_and_any_restart_can_go_on(tmp_path: Path) -> None:
    async with editing(tmp_path) as app:
        first = await edit(app, audio=AUDIO, transcript=SAID, steps=[HAPPY, DENOISE])
        edit_id = first.headers["x-edit-id"]
        of_two = await tokens(app, edit_id, 2)
    async with editing(tmp_path) as app:
        reply = await edit(app, **{"from": edit_id}, type="vad")
        assert reply.headers["x-edit-steps"] == "speech-l3, speech-l3, miss"
        assert await tokens(app, reply.headers["x-edit-id"], 2) == of_two
        heard = await app.http.get(f"{EDITS}/{edit_id}/steps/2/audio?response_format=wav")
        assert heard.content == first.content
        assert answers(app) == 1


async def test_steps_are_listed_and_heard_in_any_format(app: HttpApp) -> None:
    reply = await edit(app, voice="bruno", steps=CHAIN)
    edit_id = reply.headers["x-edit-id"]
    listed = (await app.http.get(f"{EDITS}/{edit_id}")).json()
    assert (listed["id"], listed["object"], listed["voice"]) == (edit_id, "audio.edit", "bruno")
    assert [step["type"] for step in listed["steps"]] == [step["type"] for step in CHAIN]
    assert [step["step"] for step in listed["steps"]] == [1, 2, 3, 4]
    assert {step["seed"] for step in listed["steps"]} == {7}
    made = answers(app)
    for step in listed["steps"]:
        for form, kind in (("wav", "audio/wav"), ("mp3", "audio/mpeg"), ("pcmu", "audio/pcmu")):
            heard = await app.http.get(step["audio"], params={"response_format": form})
            assert heard.status_code == httpx.codes.OK
            assert heard.headers["content-type"] == kind
            assert heard.headers["x-cache"] == "speech-l1, l1"
            assert heard.headers["x-edit-id"] == edit_id
    last = await app.http.get(listed["steps"][-1]["audio"], params={"response_format": "wav"})
    assert last.content == reply.content
    spoken = await app.speak(input=CLONE["text"], voice="bruno")
    first = await app.http.get(listed["steps"][0]["audio"], params={"response_format": "wav"})
    assert first.content == spoken.content, "a clone is speech as any other"
    assert answers(app) == made
    facts = await step_of(app, edit_id, 3)
    assert facts["tokens"]
    assert len(facts["tokens"]) % 5 == 0
    assert facts["audio_s"] == pytest.approx(0.12 * len(facts["tokens"]) / 5)
    assert facts["answered_by"] == ["speech-l1"] * 3
    faster = await app.http.get(
        listed["steps"][0]["audio"], params={"speed": 2, "response_format": "pcm"}
    )
    assert len(faster.content) < len(first.content) * 0.7


async def test_events_stream_the_last_step(app: HttpApp) -> None:
    reply = await edit(app, voice="bruno", steps=CHAIN, stream_format="sse")
    events = [json.loads(line[6:]) for line in reply.text.splitlines() if line.startswith("data: ")]
    assert events[-1]["type"] == "speech.audio.done"
    assert events[-1]["usage"]["output_tokens"] > 45
    assert {event["type"] for event in events[:-1]} == {"speech.audio.delta"}


async def test_forms_say_the_same_as_json(app: HttpApp) -> None:
    told = await edit(app, audio=AUDIO, transcript=SAID, steps=[HAPPY, DENOISE])
    file = {"audio": ("a.wav", CLIP, "audio/wav")}
    shared = {"transcript": SAID, "seed": "7", "response_format": "wav"}
    forms = [
        {"steps": json.dumps([HAPPY, DENOISE]), **shared},
        {"payload": json.dumps({**shared, "seed": 7, "steps": [HAPPY, DENOISE]})},
    ]
    for form in forms:
        reply = await app.http.post(EDITS, data=form, files=file)
        assert reply.status_code == httpx.codes.OK, reply.text
        assert reply.content == told.content
    flat = {**shared, "mode": "Emotion", "edit_info": " Happy ", "n_edit_iter": "1"}
    reply = await app.http.post(EDITS, data=flat, files={"input_audio_file": file["audio"]})
    assert reply.status_code == httpx.codes.OK, reply.text
    listed = (await app.http.get(f"{EDITS}/{reply.headers['x-edit-id']}")).json()
    (step,) = listed["steps"]
    assert (step["type"], step["value"], step["seed"]) == ("emotion", "happy", 7)


async def test_an_intensity_is_so_many_passes(app: HttpApp) -> None:
    once = await edit(app, voice="bruno", **HAPPY)
    thrice = await edit(app, voice="bruno", **HAPPY, intensity=3)
    assert answers(app) == 4
    assert thrice.content != once.content
    (step,) = (await app.http.get(f"{EDITS}/{thrice.headers['x-edit-id']}")).json()["steps"]
    assert step["intensity"] == 3


async def test_without_a_seed_one_is_drawn_told_and_kept(app: HttpApp) -> None:
    replies = [await edit(app, voice="bruno", steps=[HAPPY, DENOISE], seed=None) for _ in "12"]
    assert replies[0].content != replies[1].content
    made = answers(app)
    edit_id = replies[0].headers["x-edit-id"]
    seeds = {step["seed"] for step in (await app.http.get(f"{EDITS}/{edit_id}")).json()["steps"]}
    assert len(seeds) == 1
    heard = await app.http.get(f"{EDITS}/{edit_id}/steps/2/audio?response_format=wav")
    assert heard.content == replies[0].content
    assert answers(app) == made
    repeated = await edit(app, voice="bruno", steps=[HAPPY, DENOISE], seed=seeds.pop())
    assert repeated.content == replies[0].content


@pytest.mark.parametrize("stream", [None, False])
async def test_how_it_is_taken_goes_along_with_every_step(app: HttpApp, stream: bool | None):
    await edit(app, voice="bruno", steps=CHAIN[:2], stream=stream)
    terms = [one.terms for one in app.speaker.requests]  # type: ignore[attr-defined]
    assert {one.service for one in terms} == {Service.STREAM if stream is None else Service.WHOLE}
    assert [one.is_begun for one in terms] == [False, True]


async def test_the_wish_for_the_cache_holds_for_every_new_step(app: HttpApp) -> None:
    off = await edit(app, voice="bruno", steps=CHAIN, cache="off")
    assert "x-edit-id" not in off.headers
    assert answers(app) == 4
    kept = await edit(app, voice="bruno", steps=CHAIN, cache="reuse")
    assert (answers(app), kept.content) == (8, off.content)
    anew = await edit(app, voice="bruno", steps=CHAIN, cache="refresh")
    assert (answers(app), anew.content) == (12, off.content)
    further = {"from": {"edit": kept.headers["x-edit-id"], "step": 3}, "steps": [DENOISE]}
    assert (await edit(app, **further, cache="off")).content == off.content
    assert answers(app) == 13, "steps of before are found, whatever the wish"
    assert answers(app) == 13


async def test_where_no_speech_is_kept_every_step_is_made_again(tmp_path: Path) -> None:
    async with editing(tmp_path, speech_cache={"enabled": False}) as app:
        first = await edit(app, voice="bruno", steps=CHAIN)
        edit_id = first.headers["x-edit-id"]
        heard = await app.http.get(f"{EDITS}/{edit_id}/steps/4/audio?response_format=wav")
        assert (heard.content, answers(app)) == (first.content, 8)
        alone = await edit(app, **{"from": {"edit": edit_id, "step": 3}}, **DENOISE)
        assert (alone.content, answers(app)) == (first.content, 12)


async def test_without_a_store_edits_are_made_and_not_written_down() -> None:
    async with editing() as app:
        reply = await edit(app, voice="bruno", steps=CHAIN)
        assert "x-edit-id" not in reply.headers
        again = await edit(app, voice="bruno", steps=CHAIN)
        assert again.headers["x-cache"] == "speech-l1, l1"
        looked = await app.http.get(f"{EDITS}/edit_{'0' * 56}")
        assert looked.status_code == httpx.codes.NOT_FOUND
        assert "cache.url" in error_of(looked)["message"]


async def test_a_deleted_voice_takes_its_edits_along(app: HttpApp) -> None:
    sent = {"name": "Zoe", "consent": "I agree that my voice is cloned.", "ref_text": SAID}
    files = {"audio_sample": ("v.wav", CLIP, "audio/wav")}
    await app.http.post("/v1/audio/voices", data=sent, files=files)
    reply = await edit(app, voice="zoe", steps=CHAIN)
    edit_id = reply.headers["x-edit-id"]
    await until(lambda: len(stored(app, "*.sva")) == 4)
    assert (await app.http.delete("/v1/audio/voices/Zoe")).status_code == httpx.codes.OK
    for path in ("", "/steps/1", "/steps/1/audio"):
        gone = await app.http.get(f"{EDITS}/{edit_id}{path}")
        assert gone.status_code == httpx.codes.NOT_FOUND, path
        assert error_of(gone)["code"] == "edit_not_found"
    error = await refused(app, 404, **{"from": edit_id}, **DENOISE)
    assert error["code"] == "edit_not_found"
    assert not stored(app, "*.sva")
    assert not stored(app, "edit_*")


async def test_a_voice_deleted_while_it_is_edited_leaves_no_edit(app: HttpApp) -> None:
    speaker = app.speaker  # type: ignore[attr-defined]
    stream = speaker.lm.stream

    async def forgetting(*args: Any) -> Any:
        if speaker.lm.n_answers == 1:
            await app.forget(speaker.speakers[-1], app.voices.namespace)
        async for chunk in stream(*args):
            yield chunk

    speaker.lm.stream = forgetting
    reply = await edit(app, audio=AUDIO, transcript=SAID, steps=[HAPPY, DENOISE])
    assert "x-edit-id" not in reply.headers
    assert not stored(app, "edit_*")
    assert not stored(app, "*.sva")


async def test_a_tenants_edits_are_its_own(app: HttpApp, monkeypatch: pytest.MonkeyPatch) -> None:
    edit_id = (await edit(app, voice="bruno", steps=CHAIN)).headers["x-edit-id"]
    monkeypatch.setattr("deployments.http.routes.edits.namespace_of", lambda *_: "theirs")
    assert (await app.http.get(f"{EDITS}/{edit_id}")).status_code == httpx.codes.NOT_FOUND
    await refused(app, 404, **{"from": edit_id}, **DENOISE)
    theirs = await edit(app, voice="bruno", steps=CHAIN)
    assert theirs.headers["x-edit-steps"] == "miss, miss, miss, miss"


async def test_edits_grow_old(tmp_path: Path) -> None:
    async with editing(tmp_path, speech_cache={"keep_edits_s": 0}) as app:
        edit_id = (await edit(app, voice="bruno", **HAPPY)).headers["x-edit-id"]
        assert (await app.http.get(f"{EDITS}/{edit_id}")).status_code == httpx.codes.NOT_FOUND
        assert app.edits._book is not None
        assert await app.edits._book.sweep() == 1
        assert not stored(app, "edit_*")


async def test_models_that_were_replaced_leave_what_is_kept(app: HttpApp) -> None:
    edit_id = (await edit(app, voice="bruno", steps=CHAIN)).headers["x-edit-id"]
    app.speech._models._namer.names["lm"] = "e" * 64  # type: ignore[attr-defined]
    app.speech._models.doubt()
    made = answers(app)
    assert (await step_of(app, edit_id, 4))["answered_by"] == ["speech-l1"] * 4
    further = await edit(app, **{"from": edit_id}, type="vad")
    assert further.headers["x-edit-steps"].split(", ")[-1] == "miss"
    assert answers(app) == made + 1
    clip = app.speaker.speakers[-1]  # type: ignore[attr-defined]
    await app.speech.forget(clip)  # as a collector would, of an old model's speech
    gone = await app.http.get(f"{EDITS}/{edit_id}/steps/1/audio")
    assert gone.status_code == httpx.codes.NOT_FOUND
    assert "models" in error_of(gone)["message"]


async def test_a_chain_grows_to_32_steps(app: HttpApp) -> None:
    edit_id = (await edit(app, voice="bruno", steps=[DENOISE] * 8)).headers["x-edit-id"]
    for _ in range(3):
        reply = await edit(app, **{"from": edit_id}, steps=[DENOISE] * 8)
        edit_id = reply.headers["x-edit-id"]
    assert "32 are allowed" in (await refused(app, **{"from": edit_id}, **DENOISE))["message"]


async def test_a_variant_that_is_gone_takes_its_edits_along(app: HttpApp) -> None:
    edit_id = (await edit(app, voice="bruno", **HAPPY)).headers["x-edit-id"]
    app.edits._variants = frozenset({"other"})
    gone = await app.http.get(f"{EDITS}/{edit_id}/steps/1")
    assert gone.status_code == httpx.codes.NOT_FOUND
    assert "base" in error_of(gone)["message"]


async def test_what_is_possible_is_listed(app: HttpApp) -> None:
    tags = (await app.http.get("/v1/tags")).json()
    assert [one["type"] for one in tags["types"]] == [str(mode) for mode in Mode]
    for one in tags["types"]:
        step = {"type": one["type"], "intensity": one["intensity"]["max"]}
        step |= {"value": one["values"][-1]} if one["values"] else {}
        step |= {"text": f"Hi {tags['paralinguistic'][0]}."} if one["needs_text"] else {}
        words = {} if not one["needs_transcript"] else {"transcript": SAID}
        await edit(app, audio=AUDIO, **words, steps=[step])
        over = {**step, "intensity": one["intensity"]["max"] + 1}
        assert (await refused(app, audio=AUDIO, **words, **over))["param"] == "intensity"
    assert {"name": "English", "tag": None} in tags["languages"]
    assert {"name": "Cantonese", "tag": "[Cantonese]"} in tags["languages"]


async def test_the_api_page_describes_edits(app: HttpApp) -> None:
    page = (await app.http.get("/openapi.json")).json()
    posted = page["paths"][EDITS]["post"]["requestBody"]["content"]
    await edit(app, **posted["application/json"]["example"])
    form = {**posted["multipart/form-data"]["example"], "seed": 1}
    assert (await app.http.post(EDITS, data=form)).status_code == httpx.codes.OK
    fields = page["components"]["schemas"]["EditsBody"]["properties"]
    assert {"steps", "from", "transcript", "value", "seed", "cache"} <= set(fields)
    assert "StepBody" in page["components"]["schemas"]


async def test_replies_have_the_shapes_that_the_page_tells(app: HttpApp) -> None:
    class Exact(EditReply, extra="forbid"):
        pass

    class ExactStep(EditStepReply, extra="forbid"):
        pass

    edit_id = (await edit(app, voice="bruno", steps=CHAIN)).headers["x-edit-id"]
    Exact.model_validate((await app.http.get(f"{EDITS}/{edit_id}")).json())
    ExactStep.model_validate(await step_of(app, edit_id, 4))
    page = (await app.http.get("/openapi.json")).json()["paths"]
    for path, shape in (
        (f"{EDITS}/{{edit}}", Exact),
        (f"{EDITS}/{{edit}}/steps/{{step}}", ExactStep),
    ):
        told = page[path]["get"]["responses"]["200"]["content"]["application/json"]
        shape.model_validate(told["example"])
        assert told["schema"]["$ref"].endswith(shape.__base__.__name__)
