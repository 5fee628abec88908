"""Bodies as tests of them send them."""

from __future__ import annotations

import base64
import json

import httpx

from tests.http_app import CLIP, SAID, HttpApp

BODY = {"input": "Grüß Gott.", "voice": "bruno", "response_format": "wav", "seed": 7}
TEXT = BODY["input"]
ENCODED = base64.b64encode(CLIP).decode()
JSON = "application/json"
FORM = "multipart/form-data; boundary=B"


def part(name: str, content: bytes, attributes: str = "") -> bytes:
    head = f'--B\r\nContent-Disposition: form-data; name="{name}"{attributes}\r\n\r\n'
    return head.encode() + content + b"\r\n"


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + b"--B--\r\n"


def file_part(name: str, content: bytes = CLIP) -> bytes:
    return part(name, content, '; filename="c.wav"\r\nContent-Type: audio/wav')


PAYLOAD = json.dumps({"input": TEXT, "ref_text": SAID, "response_format": "wav"}).encode()


async def check_spoken(app: HttpApp, reply: httpx.Response, text: str = TEXT) -> None:
    assert reply.status_code == httpx.codes.OK, reply.text
    assert reply.content[:4] == b"RIFF"
    assert app.synthesizer.requests[-1].text == text
