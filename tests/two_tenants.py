"""Two tenants of one service: what each has, and every call that names a thing by its id."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.http_app import CLIP, SAID
from tests.unit.deployments.http.routes.edit_app import HAPPY

AGREED = "I agree that my voice is cloned."
SHOWN = ("/v1/audio/voices", "/v1/voices", "/v2/voices", "/v1/audio/voice_consents",
         "/v1/audio/pronunciations", "/v1/audio/edits", "/v1/audio/jobs")  # fmt: skip


@dataclass
class Tenant:
    """A client with its key, and the ids of what is its own, by kind."""

    name: str
    http: httpx.AsyncClient
    ids: dict[str, str] = field(default_factory=dict)

    async def ask(self, method: str, path: str, **sent: Any) -> httpx.Response:
        return await self.http.request(method, path, **sent)

    async def made(self, method: str, path: str, **sent: Any) -> httpx.Response:
        reply = await self.ask(method, path, **sent)
        assert reply.status_code == httpx.codes.OK, (path, reply.text)
        return reply

    async def look(self) -> dict[str, Any]:
        """All that it has, as it is shown."""
        pages = {path: (await self.made("GET", path)).json() for path in SHOWN}
        one = self.ids
        for path in (
            f"/v1/audio/voices/{one['voice']}", f"/v1/audio/voice_consents/{one['consent']}",
            f"/v1/audio/pronunciations/{one['dictionary']}", f"/v1/audio/edits/{one['edit']}",
            f"/v1/audio/jobs/{one['job']}", f"/v1/audio/speech/{one['request']}",
        ):  # fmt: skip
            pages[path] = (await self.made("GET", path)).json()
        return pages


async def settle(tenant: Tenant, number: int = 0) -> None:
    """Give a tenant one of each. number: apart from what it has by other numbers."""
    who, ids = f"{tenant.name}-{number}", tenant.ids
    ids["name"] = f"Voice of {who}"
    sent = {"name": ids["name"], "consent": AGREED, "ref_text": SAID}
    files = {"audio_sample": ("v.wav", CLIP, "audio/wav")}
    voice = (await tenant.made("POST", "/v1/audio/voices", data=sent, files=files)).json()["voice"]
    ids |= {"voice": voice["id"], "consent": voice["consent"]}
    entries = [{"written": "GIF", "said": f"jiff of {who}"}]
    body: dict[str, Any] = {"name": f"words of {who}", "entries": entries, "scope": "tenant"}
    reply = await tenant.made("POST", "/v1/audio/pronunciations", json=body)
    ids["dictionary"] = reply.json()["id"]
    body = {"input": f"A job of {who}.", "voice": "bruno"}
    ids["job"] = (await tenant.made("POST", "/v1/audio/jobs", json=body)).json()["id"]
    body = {"voice": "bruno", **HAPPY, "seed": 7}
    reply = await tenant.made("POST", "/v1/audio/edits", json=body)
    ids["edit"] = reply.headers["x-edit-id"]
    body = {"input": f"Speech of {who}.", "voice": ids["voice"], "response_format": "wav"}
    ids["request"] = f"call-of-{who:0>12}"
    headers = {"x-request-id": ids["request"]}
    await tenant.made("POST", "/v1/audio/speech", json=body, headers=headers)
    ids["clip"] = (await tenant.made("POST", "/v1/cache/warm", content=CLIP)).json()["clip"]


def JSON(**body: Any) -> dict[str, Any]:
    return {"json": body}


HEX = "0123456789abcdef"
DIGEST_DIGITS = 64
Call = tuple[str, str, str, dict[str, Any]]  # kind of id, method, path with @, what is sent
SPEECH = {"input": "Hello.", "response_format": "wav"}
CALLS_BY_ID: list[Call] = [
    ("voice", "GET", "/v1/audio/voices/@", {}),
    ("voice", "GET", "/v1/voices/@", {}),
    ("voice", "POST", "/v1/audio/voices/@", JSON(name="Stolen")),
    ("voice", "POST", "/v1/voices/@/edit", {"data": {"name": "Stolen"}}),
    ("voice", "DELETE", "/v1/audio/voices/@", {}),
    ("voice", "DELETE", "/v1/audio/voices/@?purge=1", {}),
    ("voice", "DELETE", "/v1/voices/@", {}),
    ("voice", "POST", "/v1/audio/voices/@/restore", {}),
    ("voice", "POST", "/v1/audio/speech", JSON(**SPEECH, voice="@")),
    ("voice", "POST", "/v1/tts", JSON(text="Hello.", reference_id="@")),
    ("voice", "POST", "/v1/text-to-speech/@", JSON(text="Hello.")),
    ("voice", "POST", "/v1/text-to-dialogue", JSON(inputs=[{"text": "Hello.", "voice_id": "@"}])),
    ("voice", "POST", "/v1/audio/jobs", JSON(input="Hello.", voice="@")),
    ("consent", "GET", "/v1/audio/voice_consents/@", {}),
    ("consent", "POST", "/v1/audio/voice_consents/@", JSON(name="Stolen")),
    ("consent", "DELETE", "/v1/audio/voice_consents/@", {}),
    ("dictionary", "GET", "/v1/audio/pronunciations/@", {}),
    ("dictionary", "POST", "/v1/audio/pronunciations/@", JSON(name="stolen")),
    ("dictionary", "DELETE", "/v1/audio/pronunciations/@", {}),
    ("dictionary", "POST", "/v1/audio/speech", JSON(**SPEECH, pronunciation_dictionary="@")),
    ("edit", "GET", "/v1/audio/edits/@", {}),
    ("edit", "DELETE", "/v1/audio/edits/@", {}),
    ("edit", "GET", "/v1/audio/edits/@/steps/1", {}),
    ("edit", "GET", "/v1/audio/edits/@/steps/1/audio", {}),
    ("edit", "POST", "/v1/audio/edits", JSON(edit_id="@", type="denoise")),
    ("job", "GET", "/v1/audio/jobs/@", {}),
    ("job", "DELETE", "/v1/audio/jobs/@", {}),
    ("job", "GET", "/v1/audio/jobs/@/events", {}),
    ("job", "POST", "/v1/audio/jobs/@/pause", {}),
    ("job", "POST", "/v1/audio/jobs/@/resume", {}),
    ("job", "POST", "/v1/audio/jobs/@/cancel", {}),
    ("job", "GET", "/v1/audio/jobs/@/segments", {}),
    ("job", "GET", "/v1/audio/jobs/@/segments/0", {}),
    ("job", "GET", "/v1/audio/jobs/@/segments/0/audio", {}),
    ("job", "POST", "/v1/audio/jobs/@/segments/0/regenerate", {}),
    ("job", "GET", "/v1/audio/jobs/@/audio", {}),
    ("job", "GET", "/v1/audio/jobs/@/subtitles", {}),
    ("job", "GET", "/v1/audio/jobs/@/manifest", {}),
    ("request", "GET", "/v1/audio/speech/@", {}),
]


def filled(sent: dict[str, Any], found: str) -> dict[str, Any]:
    return json.loads(json.dumps(sent).replace("@", found))


def another(found: str, chance: random.Random) -> str:
    """An id of the same shape that nobody has: other digits behind the kind and the time."""
    if len(found) == DIGEST_DIGITS:
        return "".join(chance.choice(HEX) for _ in found)
    return found[:-12] + "".join(chance.choice(HEX) for _ in range(12))
