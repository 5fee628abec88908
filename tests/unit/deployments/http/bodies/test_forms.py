"""Forms as clients send them: parts, files, names, and JSON in a part."""

from __future__ import annotations

import base64
import json

import pytest

from pipeline.contracts import Mode
from tests.http_app import CLIP, SAID, HttpApp, error_of
from tests.unit.deployments.http.bodies.sent import (
    ENCODED,
    FORM,
    PAYLOAD,
    TEXT,
    check_spoken,
    file_part,
    form,
    part,
)

pytestmark = [pytest.mark.unit, pytest.mark.asyncio(loop_scope="module")]


class TestForms:
    @pytest.mark.parametrize(
        ("attributes", "content"),
        [
            ("", PAYLOAD),
            ('; filename="blob"\r\nContent-Type: application/json', PAYLOAD),
            ('; filename="p.json"', b"\xef\xbb\xbf" + PAYLOAD),
            ("", b"\xef\xbb\xbf" + PAYLOAD),
            (
                "\r\nContent-Type: application/json; charset=utf-16",
                PAYLOAD.decode().encode("utf-16"),
            ),
            ('; filename=""', PAYLOAD),
            ("", b"\r\n  " + PAYLOAD + b"\r\n"),
            ("\r\nContent-Transfer-Encoding: base64", base64.b64encode(PAYLOAD)),
        ],
    )
    async def test_the_payload_may_be_anything_that_is_json(
        self, app: HttpApp, attributes: str, content: bytes
    ):
        body = form(part("payload", content, attributes), file_part("prompt_audio_file"))
        await check_spoken(app, await app.post(body, FORM, "/v1/audio/speech/upload"))

    async def test_a_large_payload_is_no_other(self, app: HttpApp):
        payload = {**json.loads(PAYLOAD), "ref_audio": ENCODED, "metadata": "x" * 2**21}
        content = form(part("payload", json.dumps(payload).encode()))
        await check_spoken(app, await app.post(content, FORM))

    @pytest.mark.parametrize(
        "name",
        [
            "prompt_audio_file", "input_audio_file", "audio", "file", "ref_audio", "prompt_audio",
            "reference_audio", "input_audio", "audio_file", "audio_sample", "Audio",
        ],
    )  # fmt: skip
    async def test_the_clip_may_come_in_many_parts(self, app: HttpApp, name: str):
        content = form(file_part(name), part("payload", PAYLOAD))
        await check_spoken(app, await app.post(content, FORM))
        unusable = form(file_part(name, b"RIFF but not really"), part("payload", PAYLOAD))
        reply = await app.post(unusable, FORM)
        assert (reply.status_code, error_of(reply)["param"]) == (415, name)

    async def test_another_name_is_told_those_there_are(self, app: HttpApp):
        reply = await app.post(form(file_part("speech"), part("payload", PAYLOAD)), FORM)
        assert (reply.status_code, error_of(reply)["param"]) == (400, "speech")
        assert "prompt_audio_file" in error_of(reply)["message"]

    async def test_the_fields_themselves_may_be_parts(self, app: HttpApp):
        content = form(
            part("input", TEXT.encode(), '; filename="text.txt"'),
            part("response_format", b"wav"),
            part("speed", b"1.25"),
            part("seed", b""),
            part("prompt_text", SAID.encode()),
            part("step_audio.mode", b"paralinguistic"),
            part("step_audio[n_edit_iter]", b"2"),
            file_part("audio"),
        )
        await check_spoken(app, await app.post(content, FORM))
        made = app.synthesizer.requests[-1]
        assert (made.speed, made.transcript, made.iterations) == (1.25, SAID, 2)
        assert made.mode is Mode.PARALINGUISTIC

    async def test_objects_may_be_text(self, app: HttpApp):
        step = {"prompt_text": SAID, "prompt_audio_base64": ENCODED}
        content = form(
            part("input", TEXT.encode()),
            part("response_format", b"wav"),
            part("step_audio", json.dumps(step).encode()),
        )
        await check_spoken(app, await app.post(content, FORM))
        assert app.synthesizer.requests[-1].transcript == SAID

    @pytest.mark.parametrize("attributes", ["", "\r\nContent-Type: audio/wav"])
    async def test_a_clip_may_lack_its_file_name(self, app: HttpApp, attributes: str):
        content = form(part("prompt_audio_file", CLIP, attributes), part("payload", PAYLOAD))
        await check_spoken(app, await app.post(content, FORM))

    async def test_or_be_base64(self, app: HttpApp):
        content = form(part("prompt_audio_file", ENCODED.encode()), part("payload", PAYLOAD))
        await check_spoken(app, await app.post(content, FORM))

    async def test_a_path_in_place_of_the_file_is_seen(self, app: HttpApp):
        content = form(part("prompt_audio_file", b"clip.wav"), part("payload", PAYLOAD))
        reply = await app.post(content, FORM)
        assert (reply.status_code, error_of(reply)["param"]) == (400, "prompt_audio_file")
        assert "@" in error_of(reply)["message"]

    async def test_a_file_field_left_empty_is_left_out(self, app: HttpApp):
        empty = part("prompt_audio_file", b"", '; filename=""\r\nContent-Type: audio/wav')
        content = form(empty, file_part("input_audio_file"), part("payload", PAYLOAD))
        await check_spoken(app, await app.post(content, FORM))

    async def test_two_clips_are_one_too_many(self, app: HttpApp):
        two = form(file_part("audio"), file_part("file"), part("payload", PAYLOAD))
        payload = json.dumps({**json.loads(PAYLOAD), "ref_audio": ENCODED}).encode()
        both = form(file_part("audio"), part("payload", payload))
        for content, param in ((two, "file"), (both, "ref_audio")):
            reply = await app.post(content, FORM)
            assert (reply.status_code, error_of(reply)["param"]) == (400, param)

    @pytest.mark.parametrize(
        ("content", "said"),
        [
            (form(file_part("audio")), "parts found: audio"),
            (form(part("text", b"hello")), "payload"),
            (b"--B\r\nbroken", "form"),
            (b"--B--\r\n", "payload"),
            (form(*(part("x", b"y") for _ in range(100))), "64 parts"),
            (form(part("payload", b"{}")), "required"),
            (form(part("payload", b"")), "JSON"),
        ],
    )
    async def test_a_form_without_what_is_needed_says_so(
        self, app: HttpApp, content: bytes, said: str
    ):
        reply = await app.post(content, FORM)
        assert reply.status_code == 400
        assert said in error_of(reply)["message"]

    async def test_an_upload_without_a_clip_says_which_part_is_missing(self, app: HttpApp):
        for content in (form(part("payload", PAYLOAD)), form(part("payload", b"{}"))):
            reply = await app.post(content, FORM, "/v1/audio/speech/upload")
            assert (reply.status_code, error_of(reply)["param"]) == (400, "prompt_audio_file")
