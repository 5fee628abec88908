"""The application with a speaker that edits, and calls of its edits."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from pipeline.audio.decode import decode_clip
from pipeline.voice_list import load_voices
from tests.audio_files import wav
from tests.editing import EditingSpeaker
from tests.fakes import FakeNames
from tests.http_app import CLIP, HttpApp, error_of, http_app
from tests.waiting import until

EDITS = "/v1/audio/edits"
CLONE = {"type": "clone", "text": "So you forgot. Never mind."}
HAPPY = {"type": "emotion", "value": "happy"}
LAUGH = {"type": "paralinguistic", "text": "So you forgot. [Laughter] Never mind."}
DENOISE = {"type": "denoise"}
CHAIN = [CLONE, HAPPY, LAUGH, DENOISE]
AUDIO = base64.b64encode(CLIP).decode()
VOICES = load_voices()


@asynccontextmanager
async def editing(directory: Path | None = None, **args: Any) -> AsyncIterator[HttpApp]:
    """The application with a speaker that edits."""
    cache = {"url": "none" if directory is None else str(directory), "l2": "off"}
    async with http_app(cache=cache, **args) as app:
        names = FakeNames()
        app.speaker = EditingSpeaker(names)  # type: ignore[attr-defined]
        app.speech._synthesizer, app.speech._models._namer = app.speaker, names  # type: ignore[attr-defined]
        yield app


def answers(app: HttpApp) -> int:
    return app.speaker.lm.n_answers  # type: ignore[attr-defined]


async def edit(app: HttpApp, **body: Any) -> httpx.Response:
    reply = await app.http.post(EDITS, json={"seed": 7, "response_format": "wav", **body})
    assert reply.status_code == httpx.codes.OK, reply.text
    await until(lambda: not app.speech._live)
    return reply


async def refused(app: HttpApp, status: int = 400, **body: Any) -> dict[str, Any]:
    before = answers(app)
    reply = await app.http.post(EDITS, content=json.dumps({"seed": 7, **body}))
    assert reply.status_code == status, reply.text
    assert answers(app) == before, "refused before anything was made"
    return error_of(reply)


def stored(app: HttpApp, pattern: str) -> list[Path]:
    """Speech and edits on the disk."""
    directory = Path(app.settings.cache.url)
    return [path for top in ("speech", "edits") for path in (directory / top).rglob(pattern)]


async def tokens(app: HttpApp, edit_id: str, step: int) -> list[int]:
    return (await step_of(app, edit_id, step))["tokens"]


async def step_of(app: HttpApp, edit_id: str, step: int) -> dict[str, Any]:
    reply = await app.http.get(f"{EDITS}/{edit_id}/steps/{step}")
    assert reply.status_code == httpx.codes.OK, reply.text
    return reply.json()


SAYS = {"type": "clone", "text": "It is SQL, 5 times."}
LAUGHS = {"type": "paralinguistic", "text": "It is SQL, [Laughter] 5 times."}


def long_clip(names: list[str]) -> tuple[bytes, str]:
    """Voices one after another, and their words."""
    pieces = list[np.ndarray]()
    for name in names:
        clip = decode_clip(VOICES[name].path.read_bytes())
        pieces += [clip.samples, np.zeros(10_000, np.float32)]
    words = " ".join(VOICES[name].transcript for name in names)
    return wav(np.concatenate(pieces)[np.newaxis], 22_050), words


LONG, LONG_WORDS = long_clip([*VOICES])
LONG_AUDIO = {"audio": base64.b64encode(LONG).decode()}
