"""The routes of the speech API: bodies in, replies out, and the lists that clients ask for.

Knows no Ray: whoever builds the application hands it voices, a speaker and the readiness report.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response

from deployments.config.settings import Settings
from deployments.http.api_pages import SPEECH_DOC
from deployments.http.bodies.budget import BodyBudget, Hold
from deployments.http.bodies.read import RawBody, read_off_loop, read_speech, receive_body
from deployments.http.dialects.openai import ParsedRequest, parse_request
from deployments.http.model_names import ModelNames
from deployments.http.reply import SpeechReply
from deployments.telemetry.requests import RequestMetrics
from deployments.voices.resolver import VoiceLibrary
from pipeline.contracts import Mode, VoiceReference
from pipeline.edit_values import DIALECT_TAGS, EDIT_VALUES, PARALINGUISTIC_TAGS
from pipeline.errors import InputError, UnknownModelError
from pipeline.synthesis import ResolvedVoice, Synthesizer, VoiceResolver

Report = Callable[[], Awaitable[dict[str, Any]]]


class Routes:
    """Handlers, and what they share: names of models, the budget of bodies."""

    def __init__(
        self,
        settings: Settings,
        voices: VoiceLibrary,
        synthesizer: Synthesizer,
        metrics: RequestMetrics,
        readiness: Report,
    ) -> None:
        """readiness: whether every stage answers, as `Readiness.report` tells it."""
        self._limits = settings.limits
        self._names = ModelNames(settings)
        self._voices = voices
        self._synthesizer = synthesizer
        self._metrics = metrics
        self._readiness = readiness
        self.budget = BodyBudget(settings.limits.max_inflight_body_bytes)

    def add_to(self, app: FastAPI) -> None:
        """Every route of the speech API."""
        app.post("/v1/audio/speech", **SPEECH_DOC)(self._speech)
        app.post("/v1/audio/speech/upload", **SPEECH_DOC)(self._speech_upload)
        app.get("/v1/models")(self._models)
        app.get("/v1/models/{name:path}")(self._model)
        app.get("/v1/voices")(self._list_voices)
        app.get("/v1/audio/voices")(self._list_voices)
        app.get("/v1/tags")(self._tags)
        app.get("/healthz")(self._healthz)
        app.get("/readyz")(self._readyz)

    async def _speech(self, request: Request) -> Response:
        """Speak a text in a named voice, or in the voice of a reference clip sent along."""
        return await self._reply(request, needs_voice=False)

    async def _speech_upload(self, request: Request) -> Response:
        """The same with the reference clip as a file part."""
        return await self._reply(request, needs_voice=True)

    async def _reply(self, request: Request, *, needs_voice: bool) -> Response:
        """No frame that waits here holds the body: it may be large, and the wait long."""
        with self.budget.hold() as hold:
            reply = SpeechReply(
                await self._parsed(request, hold, needs_voice=needs_voice),
                HeldVoices(self._voices, hold),
                self._synthesizer,
                self._metrics,
                request.state.request_id,
            )
            return await reply.start()

    async def _parsed(self, request: Request, hold: Hold, *, needs_voice: bool) -> ParsedRequest:
        raw = await receive_body(request, hold)
        return await read_off_loop(partial(self._read, needs_voice=needs_voice), raw)

    def _read(self, raw: RawBody, *, needs_voice: bool) -> ParsedRequest:
        """A body as an order, by any thread. needs_voice: the default one will not do."""
        body, clip = read_speech(raw)
        if needs_voice and clip is None and body.voice is None and not body.clip_texts:
            raise InputError(
                "one file is needed, in prompt_audio_file or input_audio_file; found 0",
                param="prompt_audio_file",
            )
        if body.model is not None:
            self._names.check(body.model)
        parsed = parse_request(body, self._limits, clip)
        variant = self._names.variant(parsed.request.variant)
        return replace(parsed, request=replace(parsed.request, variant=variant))

    async def _models(self) -> dict[str, Any]:
        """Models served, in OpenAI's shape, and the variants that requests may choose from."""
        return {"object": "list", "data": [self._described(name) for name in self._names.listed]}

    async def _model(self, name: str) -> dict[str, Any]:
        """One model, as the list has it; the list for an address that ends before a name."""
        if not name:
            return await self._models()
        if (found := self._names.find(name)) is None:
            raise UnknownModelError(self._names.unknown(name), param="model")
        return self._described(found)

    def _described(self, name: str) -> dict[str, Any]:
        facts = {"object": "model", "created": 0, "owned_by": "timbre"}
        return {"id": name, **facts, "model_variants": list(self._names.variants)}

    async def _list_voices(self) -> dict[str, Any]:
        """Listed voices, in the shapes that clients of the peers read."""
        voices = self._voices.registry.describe()
        return {"voices": voices, "data": voices, "object": "list"}

    async def _tags(self) -> dict[str, Any]:
        """What edits can be asked for: the values of edit_info by mode, and the tags of a text."""
        return {
            **{str(mode): list(values) for mode, values in EDIT_VALUES.items() if values},
            str(Mode.PARALINGUISTIC): list(PARALINGUISTIC_TAGS),
            "dialect": list(DIALECT_TAGS),
            "modes": [str(mode) for mode in Mode],
        }

    async def _healthz(self) -> dict[str, str]:
        """This router lives."""
        return {"status": "ok"}

    async def _readyz(self) -> Response:
        """Whether every stage answers, with their gauges; 503 when one does not.

        A tokenizer that answered before may be busy or away: cached voices are served meanwhile.
        """
        report = await self._readiness()
        return JSONResponse(report, status_code=200 if report["ready"] else 503)


class HeldVoices:
    """Voices for one request, whose share of the budget ends as soon as its voice is at hand."""

    def __init__(self, voices: VoiceResolver, hold: Hold) -> None:
        self._voices = voices
        self._hold = hold

    async def resolve(self, reference: VoiceReference) -> ResolvedVoice:
        """See pipeline.synthesis.VoiceResolver."""
        try:
            return await self._voices.resolve(reference)
        finally:
            self._hold.release()
