"""Bodies as clients send them: labels, encodings, nulls, shapes; one status a mistake."""

from __future__ import annotations

import base64
import json
from typing import Any

import httpx
import pytest

from pipeline.contracts import Mode
from tests.http_app import CLIP, SAID, HttpApp, error_of
from tests.unit.deployments.http.bodies.sent import (
    BODY,
    ENCODED,
    FORM,
    JSON,
    PAYLOAD,
    check_spoken,
    file_part,
    form,
    part,
)

pytestmark = [pytest.mark.unit, pytest.mark.asyncio(loop_scope="module")]


OPTIONAL = (
    "model", "voice", "speaker", "instructions", "response_format", "speed", "stream_format",
    "metadata", "step_audio", "ref_audio", "ref_text", "references", "seed", "temperature", "top_p",
    "top_k", "max_new_tokens", "initial_codec_chunk_frames", "stream", "user",
)  # fmt: skip
STEP_OPTIONAL = (
    "mode", "prompt_text", "prompt_audio_base64", "input_audio_base64", "prompt_audio_url",
    "input_audio_url", "audio_text", "edit_info", "n_edit_iter", "intensity", "model_variant",
)  # fmt: skip


class TestLeftOut:
    @pytest.mark.parametrize("nothing", [None, "", "  "])
    @pytest.mark.parametrize("field", OPTIONAL)
    async def test_a_field_that_is_null_or_empty_is_left_out(
        self, app: HttpApp, field: str, nothing: str | None
    ):
        reply = await app.speak(**{**BODY, field: nothing})
        assert reply.status_code == httpx.codes.OK, reply.text
        usual = {"response_format": "audio/mpeg"}.get(field, "audio/wav")
        assert reply.headers["content-type"] == usual

    @pytest.mark.parametrize("nothing", [None, ""])
    @pytest.mark.parametrize("field", STEP_OPTIONAL)
    async def test_at_every_level(self, app: HttpApp, field: str, nothing: str | None):
        await check_spoken(app, await app.speak(**BODY, step_audio={field: nothing}))

    async def test_all_of_them_at_once(self, app: HttpApp):
        nulls = {**dict.fromkeys(OPTIONAL), "step_audio": dict.fromkeys(STEP_OPTIONAL)}
        reply = await app.speak(**{**nulls, "references": [{"audio": None, "text": None}, None]})
        assert reply.status_code == httpx.codes.OK, reply.text

    async def test_beside_a_clip(self, app: HttpApp):
        nulls = {**dict.fromkeys(OPTIONAL), "ref_audio": ENCODED, "ref_text": SAID}
        made = await app.spoken(**nulls)
        assert made.transcript == SAID

    @pytest.mark.parametrize("value", [{}, {"input": None}])
    async def test_the_text_itself_is_required(self, app: HttpApp, value: dict):
        reply = await app.http.post("/v1/audio/speech", json=value)
        assert (reply.status_code, error_of(reply)["param"]) == (400, "input")
        assert "required" in error_of(reply)["message"]

    async def test_a_clip_sent_empty_with_its_transcript_is_no_slip(self, app: HttpApp):
        reply = await app.speak(ref_audio="", ref_text=SAID)
        assert (reply.status_code, error_of(reply)["param"]) == (415, "ref_audio")


class TestNumbers:
    @pytest.mark.parametrize("seed", [-1, "-1", None])
    async def test_any_seed(self, app: HttpApp, seed: Any):
        assert (await app.spoken(seed=seed)).may_reseed

    @pytest.mark.parametrize("top_k", [-1, 0, "0", "-1"])
    async def test_top_k_off(self, app: HttpApp, top_k: Any):
        assert (await app.spoken(top_k=top_k)).sampling.top_k == 0

    async def test_numbers_as_text_as_forms_send_them(self, app: HttpApp):
        made = await app.spoken(speed="1.5", temperature="0.2", seed="9", top_p="0.5")
        assert (made.speed, made.sampling.seed, made.sampling.top_p) == (1.5, 9, 0.5)

    @pytest.mark.parametrize(
        ("field", "json_value"),
        [
            ("seed", "-2"), ("seed", str(2**63)), ("seed", "9" * 4000), ("seed", "1.5"),
            ("seed", "1e999"), ("speed", "9"), ("speed", "1e999"), ("speed", '"nan"'),
            ("temperature", '"hot"'), ("temperature", "[1]"), ("top_k", "-2"), ("top_p", "0"),
        ],
    )  # fmt: skip
    async def test_impossible_ones_are_named(self, app: HttpApp, field: str, json_value: str):
        content = f'{{"input": "x", "{field}": {json_value}}}'.encode()
        reply = await app.post(content, JSON)
        assert (reply.status_code, error_of(reply)["param"]) == (400, field)
        assert len(error_of(reply)["message"]) < 300


class TestNames:
    @pytest.mark.parametrize("name", ["WAV", " wav ", "Wav\n"])
    async def test_case_and_white_space_do_not_count(self, app: HttpApp, name: str):
        await check_spoken(app, await app.speak(**{**BODY, "response_format": name}))

    async def test_of_modes_and_values_too(self, app: HttpApp):
        step = {"mode": " Speed", "edit_info": "More_Faster ", "model_variant": "BASE"}
        made = await app.spoken(**{**BODY, "stream_format": "Audio", "step_audio": step})
        assert (made.mode, made.info, made.variant) == (Mode.SPEED, "more faster", "base")


class TestVoices:
    @pytest.mark.parametrize(
        "voice",
        [
            "Bruno", " bruno ", {"id": "bruno"}, {"name": "bruno"}, {"voice_id": "BRUNO"},
            {"id": None, "name": "bruno"}, {"id": "bruno", "language": "en"}, '{"id": "bruno"}',
        ],
    )  # fmt: skip
    async def test_are_named_in_many_shapes(self, app: HttpApp, voice: Any):
        assert (await app.spoken(voice=voice)).transcript == SAID

    @pytest.mark.parametrize(
        "voice", [["aria"], [], 3, 1.5, True, {}, {"id": 3}, {"id": {}}, {"x": "aria"}, [{"id": 1}]]
    )
    async def test_another_shape_is_told_which_there_are(self, app: HttpApp, voice: Any):
        for field in ("voice", "speaker"):
            reply = await app.http.post("/v1/audio/speech", json={"input": "x", field: voice})
            assert (reply.status_code, error_of(reply)["param"]) == (400, field)
            assert '{"id": name}' in error_of(reply)["message"]

    @pytest.mark.parametrize("voice", ["nobody", {"id": "nobody"}, "\ud83d"])
    async def test_an_unknown_one_is_told_the_names(self, app: HttpApp, voice: Any):
        content = json.dumps({"input": "x", "voice": voice}).encode()
        reply = await app.post(content, JSON)
        assert (reply.status_code, error_of(reply)["param"]) == (404, "voice")
        assert "aria" in error_of(reply)["message"]


class TestLabels:
    @pytest.mark.parametrize(
        "label",
        [
            None, "", "text/plain", "text/plain;charset=UTF-8", "application/x-www-form-urlencoded",
            "application/json; charset=utf-8", "application/octet-stream", "multipart/form-data",
            "multipart/form-data; boundary=x", "APPLICATION/JSON", "nonsense",
        ],
    )  # fmt: skip
    @pytest.mark.parametrize("path", ["/v1/audio/speech", "/v1/audio/speech/upload"])
    async def test_json_is_json_whatever_its_label(self, app: HttpApp, label: str, path: str):
        await check_spoken(app, await app.post(json.dumps(BODY).encode(), label, path))

    @pytest.mark.parametrize("path", ["/v1/audio/speech", "/v1/audio/speech/upload"])
    @pytest.mark.parametrize(
        "label", [FORM, "multipart/form-data", "application/json", None, FORM.replace("=B", '="C"')]
    )
    async def test_a_form_is_a_form_on_both_routes(self, app: HttpApp, path: str, label: str):
        content = form(part("payload", PAYLOAD), file_part("prompt_audio_file"))
        await check_spoken(app, await app.post(content, label, path))
        assert app.synthesizer.requests[-1].transcript == SAID

    @pytest.mark.parametrize(
        "content",
        [
            b"input=Gr%C3%BC%C3%9F+Gott.&voice=bruno&response_format=wav",
            b"payload=%7B%22input%22%3A%22Gr%C3%BC%C3%9F+Gott.%22%2C%22response_format%22%3A%22wav%22%7D",
            b"%7B%22input%22%3A%22Gr%C3%BC%C3%9F+Gott.%22%2C%22response_format%22%3A%22wav%22%7D",
        ],
    )
    async def test_urlencoded_forms(self, app: HttpApp, content: bytes):
        await check_spoken(app, await app.post(content, "application/x-www-form-urlencoded"))

    @pytest.mark.parametrize("label", ["text/plain", None, "audio/wav", "application/xml"])
    @pytest.mark.parametrize("content", [b"Hello there.", CLIP, b"<xml/>"])
    async def test_what_is_neither_is_told_what_to_send(
        self, app: HttpApp, label: str | None, content: bytes
    ):
        reply = await app.post(content, label)
        assert (reply.status_code, error_of(reply)["param"]) == (400, "body")
        assert "Content-Type" in error_of(reply)["message"]
        assert "application/json" in error_of(reply)["message"]

    @pytest.mark.parametrize("content", [b"", b" \r\n"])
    async def test_an_empty_body_is_called_so(self, app: HttpApp, content: bytes):
        reply = await app.post(content, JSON)
        assert (reply.status_code, error_of(reply)["param"]) == (400, "body")
        assert "empty" in error_of(reply)["message"]

    async def test_a_compressed_body_is_called_so(self, app: HttpApp):
        headers = {"content-encoding": "gzip", "content-type": JSON}
        reply = await app.http.post("/v1/audio/speech", content=b"\x1f\x8b", headers=headers)
        assert reply.status_code == 400
        assert "gzip" in error_of(reply)["message"]

    async def test_a_body_lost_to_an_upgrade_is_explained(self, app: HttpApp):
        headers = {"upgrade": "h2c", "connection": "Upgrade", "content-type": JSON}
        reply = await app.http.post("/v1/audio/speech", headers=headers)
        assert reply.status_code == 400
        assert "upgrade" in error_of(reply)["message"]


class TestEncodings:
    @pytest.mark.parametrize("mark", ["", "\ufeff"])
    @pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-16-be", "utf-32-le"])
    async def test_every_unicode(self, app: HttpApp, encoding: str, mark: str):
        content = (mark + json.dumps(BODY, ensure_ascii=False)).encode(encoding)
        await check_spoken(app, await app.post(content, JSON))

    @pytest.mark.parametrize("charset", ["iso-8859-1", "latin1", "windows-1252", "ISO-8859-15"])
    async def test_a_label_is_believed_where_it_is_not_utf8(self, app: HttpApp, charset: str):
        content = json.dumps(BODY, ensure_ascii=False)
        label = f"application/json; charset={charset}"
        await check_spoken(app, await app.post(content.encode(charset), label))
        await check_spoken(app, await app.post(content.encode(), label))

    @pytest.mark.parametrize("label", [JSON, "application/json; charset=zip", FORM])
    async def test_bytes_that_are_no_text_are_shown(self, app: HttpApp, label: str):
        content = b'{"input": "Gr\xfc\xdf Gott."}'
        if label == FORM:
            content = form(part("input", b"Gr\xfc\xdf Gott."))
        reply = await app.post(content, label)
        assert (reply.status_code, error_of(reply)["param"]) == (400, "body")
        assert "0xfc" in error_of(reply)["message"]

    @pytest.mark.parametrize(
        "content",
        [
            b"{", b"[", b'{"input": NaN}', b'{"a": Infinity}', b"[" * 10_000, b'{"a":' * 10_000,
            b'{"input": "x"} trailing', b'{"input": "\n"}', b'{"input": 1' + b"0" * 9_000 + b"}",
            b'{"input": "\\ud83d" ' + b'"a":{' * 2_000, b'{"input": "\\ud83d", "a": NaN}',
        ],
    )  # fmt: skip
    async def test_what_is_not_json_is_refused_with_a_reason(self, app: HttpApp, content: bytes):
        reply = await app.post(content, JSON)
        assert (reply.status_code, error_of(reply)["param"]) == (400, "body")
        assert "not valid JSON" in error_of(reply)["message"]

    @pytest.mark.parametrize("tree", [[], "text", ["input"], [{"input": "x"}]])
    async def test_json_that_is_no_object(self, app: HttpApp, tree: Any):
        reply = await app.http.post("/v1/audio/speech", json=tree)
        assert (reply.status_code, error_of(reply)["param"]) == (400, "body")
        assert "JSON object" in error_of(reply)["message"]

    async def test_keys_that_are_no_text_can_be_named(self, app: HttpApp):
        content = b'{"input": "x", "step_audio": {"\\ud83d": 1}}'
        reply = await app.post(content, JSON)
        assert reply.status_code == 400
        assert error_of(reply)["param"] == "step_audio"

    async def test_half_an_emoji_reaches_whoever_speaks(self, app: HttpApp):
        reply = await app.post(b'{"input": "Nice \\ud83d", "response_format": "wav"}', JSON)
        assert reply.status_code in {200, 400, 422}


SAME_MISTAKES = [
    ({"response_format": "midi"}, "response_format", "mp3"),
    ({"speed": 9}, "speed", "4"),
    ({"model": "gpt-9"}, "model", "tts-1"),
    ({"seed": -2}, "seed", "seed"),
    ({"step_audio": {"prompt_txt": "x"}}, "step_audio.prompt_txt", "prompt_text"),
    ({"step_audio": {"mode": "sing"}}, "step_audio.mode", "clone"),
    ({"step_audio": {"model_variant": "bnb"}}, "step_audio.model_variant", "base"),
    ({"step_audio": {"mode": "style", "edit_info": "formal"}}, "step_audio.edit_info", "whisper"),
    ({"step_audio": "clone"}, "step_audio", "JSON object"),
    ({"step_audio": [1]}, "step_audio", "JSON object"),
    ({"references": "x"}, "references", "list"),
    ({"ref_audio": "http://127.0.0.1/clip.wav", "ref_text": "x"}, "ref_audio", "not fetched"),
    ({"ref_audio": "not base64!", "ref_text": "x"}, "ref_audio", "base64"),
    ({"ref_audio": ENCODED}, "ref_text", "transcript"),
    ({"stream_format": "mp4"}, "stream_format", "sse"),
    ({"input": 3}, "input", "string"),
]


@pytest.mark.parametrize(("fields", "param", "said"), SAME_MISTAKES)
async def test_a_mistake_is_400_however_it_came(
    app: HttpApp, fields: dict[str, Any], param: str, said: str
):
    content = json.dumps({"input": "x", **fields}).encode()
    replies = [
        await app.post(content, JSON),
        await app.post(content, None),
        await app.post(form(part("payload", content)), FORM),
        await app.post(content, JSON, "/v1/audio/speech/upload"),
    ]
    if not ({"ref_audio", "step_audio"} & set(fields)):
        clip = (part("payload", content), file_part("audio"))
        replies.append(await app.post(form(*clip), FORM, "/v1/audio/speech/upload"))
    for reply in replies[:3] + replies[4:]:
        error = error_of(reply)
        assert (reply.status_code, error["param"]) == (400, param)
        assert error["type"] == "invalid_request_error"
        assert said in error["message"]
    assert len({str(error_of(reply)) for reply in replies[:3]}) == 1


class TestClipsAsText:
    SPELLINGS = (
        ENCODED,
        base64.encodebytes(CLIP).decode(),
        base64.urlsafe_b64encode(CLIP).decode().rstrip("="),
        f"data:audio/wav;base64,{ENCODED}",
        f"data:audio/wav;codecs=1;base64,{ENCODED}",
        f"DATA:AUDIO/WAV;BASE64,{ENCODED}",
        f" data:;base64,{ENCODED.replace('+', '%2B').replace('=', '%3D')}\n",
        "data:audio/wav," + "".join(f"%{byte:02X}" for byte in CLIP),
        [ENCODED],
    )

    @pytest.mark.parametrize("spelling", SPELLINGS, ids=range(len(SPELLINGS)))
    async def test_in_every_spelling(self, app: HttpApp, spelling: Any):
        made = await app.speaker(ref_audio=spelling, ref_text=SAID)
        assert made == await app.speaker(voice="bruno")

    @pytest.mark.parametrize("reference", [[{"audio": ENCODED, "text": SAID}], {"audio": ENCODED}])
    async def test_in_references(self, app: HttpApp, reference: Any):
        assert (await app.spoken(references=reference, ref_text=SAID)).transcript == SAID


class TestWarming:
    @pytest.mark.parametrize(
        ("content", "label"),
        [
            (CLIP, None),
            (CLIP, "application/json"),
            (json.dumps({"audio": ENCODED, "durability": None}).encode(), None),
            (json.dumps({"audio": f"data:;base64,{ENCODED}"}).encode(), "text/plain"),
            (form(file_part("file")), FORM),
        ],
    )
    async def test_takes_a_clip_in_any_body(self, app: HttpApp, content: bytes, label: str | None):
        reply = await app.post(content, label, "/v1/cache/warm")
        assert reply.status_code == httpx.codes.OK, reply.text
        assert reply.json()["clip"]

    @pytest.mark.parametrize(
        ("content", "param"),
        [
            (b'{"audio": "not base64!"}', "audio"),
            (b'{"audio": null}', "audio"),
            (b'{"sound": "x", "audio": ""}', "sound"),
            (b'{"audio": "", "durability": "never"}', "durability"),
            (form(part("x", b"y")), "prompt_audio_file"),
            (b"{", "body"),
        ],
    )
    async def test_names_the_mistake(self, app: HttpApp, content: bytes, param: str):
        reply = await app.post(content, FORM if content[:2] == b"--" else JSON, "/v1/cache/warm")
        assert (reply.status_code, error_of(reply)["param"]) == (400, param)
