"""The HTTP application in this process, with a real voice library and fakes of the stages."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx
import numpy as np
from fastapi import FastAPI
from starlette.types import Receive, Scope, Send

from deployments.config.settings import load_settings
from deployments.edits.library import EditLibrary
from deployments.http.clips.routes import ClipRoutes
from deployments.http.ingress import make_app
from deployments.http.provenance.routes import ProvenanceRoutes
from deployments.http.routes.batch import BatchRoute
from deployments.http.routes.cache import add_cache_routes
from deployments.http.routes.edits import EditRoutes
from deployments.http.routes.elevenlabs_voices import ElevenLabsVoiceRoutes
from deployments.http.routes.jobs import JobRoutes
from deployments.http.routes.speech import Routes
from deployments.http.routes.uploaded_voices import VoiceRoutes
from deployments.http.routes.voice_consents import ConsentRoutes
from deployments.http.routes.websocket import SocketRoutes
from deployments.http.savings.routes import SavingsRoutes
from deployments.jobs.library import JobLibrary
from deployments.keys.authority import Authority
from deployments.marks.search import MarkSearch
from deployments.pronunciation.readings import readings_of
from deployments.quotas.book import QuotaBook
from deployments.quotas.gate import QuotaGate
from deployments.quotas.ledger import Ledger
from deployments.savings.keeper import SavingsKeeper
from deployments.speech.library import SpeechLibrary
from deployments.telemetry.outcomes import Outcome, OutcomeBook, Report
from deployments.telemetry.requests import RequestMetrics
from deployments.telemetry.tracing.tracer import NOT_TRACING, Tracer
from deployments.voices.enrolment import Enrolment
from deployments.voices.resolver import VoiceLibrary
from deployments.voices.transcripts import Hearing
from pipeline.contracts import ReferenceClip, SpeechRequest, VoicePrompt
from pipeline.voice_list import VOICES_DIR, load_voices
from tests.fakes import FakeNames, FakeSynthesizer, TellingSpeaker, voice_prompt
from tests.quota_fleet import NearBook

CLIP = load_voices(VOICES_DIR)["bruno"].path.read_bytes()
SAID = load_voices(VOICES_DIR)["bruno"].transcript
NO_STORE = {"url": "none", "l2": "off"}


class LengthyEncoder:
    """A tokenizer whose prompts pass for those of the clip."""

    async def fingerprint(self) -> str:
        return "f" * 64

    async def encode(self, clip: ReferenceClip) -> VoicePrompt:
        n_groups = round(clip.duration_s / 0.12)
        mel = np.zeros((round(clip.duration_s * 50), 80), np.float32)
        return replace(voice_prompt(n_groups), prompt_mel=mel, duration_s=clip.duration_s)


class KeptOutcomes:
    """The book of outcomes without a cluster."""

    def __init__(self) -> None:
        self.book = OutcomeBook()

    def tell(self, namespace: str, outcome: Outcome) -> None:
        self.book.put(namespace, outcome.request_id, outcome.report())

    async def find(self, namespace: str, request_id: str) -> Report | None:
        return self.book.find(namespace, request_id)


class HttpApp:
    """A client, and what the service behind it was asked to speak."""

    def __init__(
        self,
        *,
        is_telling: bool = False,
        hearing: Hearing | None = None,
        tracer: Tracer = NOT_TRACING,
        **args: Any,
    ) -> None:
        """is_telling: the speaker says what it drew, so that answers are kept.

        hearing: the recogniser, if any.
        """
        self.settings = load_settings({"cache": NO_STORE, **args})
        self.voices = VoiceLibrary(self.settings, LengthyEncoder(), hearing)
        self.synthesizer = FakeSynthesizer()
        names = FakeNames()
        speaker = TellingSpeaker(names) if is_telling else self.synthesizer
        self.speaker = speaker
        self.speech = SpeechLibrary(self.settings, speaker, names)
        self.forgotten: list[str] = []
        self.outcomes = KeptOutcomes()
        readings = readings_of(self.settings, self.voices)
        self.routes = Routes(
            self.settings,
            self.voices,
            self.speech,
            RequestMetrics(self.settings.telemetry.slow_s),
            self._report,
            self.outcomes,
            readings,
        )
        self.authority = Authority.of(self.settings, self.voices.shelf)
        self.refused: list[tuple[str, str]] = []
        self.quotas = QuotaGate(
            self.settings.quotas,
            Ledger(NearBook(QuotaBook()), "this router", 600.0, gather_s=0.0),
            lambda measure, of: self.refused.append((measure, of)),
        )
        self.app: FastAPI = make_app(
            self.settings, self.routes, None, self.authority, self.quotas, tracer
        )
        BatchRoute(self.routes, self.settings.limits).add_to(self.app)
        add_cache_routes(self.app, self.voices, self.speech, self.routes.budget, self.forget)
        self.edits = EditLibrary(self.settings, self.voices, self.speech)
        self.told: list[str] = []
        self.jobs = JobLibrary(self.settings, self.voices, readings, self._told)
        JobRoutes(self.settings, self.jobs, self.voices.namespace, self.routes.budget).add_to(
            self.app
        )
        EditRoutes(
            self.settings,
            self.edits,
            self.voices.namespace,
            RequestMetrics(),
            self.outcomes,
            self.routes.budget,
            readings,
        ).add_to(self.app)
        shelf, counts = self.voices.shelf, {"voices": self.voices.take_savings}
        keeper = SavingsKeeper(
            self.settings.telemetry, shelf, counts | {"speech": self.speech.take_savings}
        )
        SavingsRoutes(keeper, self.voices).add_to(self.app)
        SocketRoutes(self.settings, self.voices, self.routes, tracer).add_to(self.app)
        marks = MarkSearch(self.settings.marks)
        ProvenanceRoutes(self.settings.marks, marks, self.routes.budget).add_to(self.app)
        clips = (self.voices.clip_limits, self.voices.conditioning)
        ClipRoutes(self.settings, *clips, self.routes.budget).add_to(self.app)
        self.enrolment = Enrolment(self.settings, self.voices, self)
        for routes in (VoiceRoutes, ElevenLabsVoiceRoutes, ConsentRoutes):
            routes(self.settings, self.voices, self.enrolment, self.routes.budget).add_to(self.app)
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        self.http = httpx.AsyncClient(transport=transport, base_url="http://timbre")

    async def _report(self) -> dict[str, Any]:
        return {"ready": True, "reasons": [], "stages": {}, "cache": {}, "age_s": 0.0}

    async def _told(self, job: str) -> None:
        self.told.append(job)

    async def forget(self, clip_digest: str, namespace: str) -> None:
        """See deployments.voices.enrolment.Routers; this is the only one."""
        self.forgotten.append(clip_digest)
        await self.voices.forget(clip_digest, namespace)
        await self.speech.forget(clip_digest, namespace)
        await self.edits.forget(clip_digest, namespace)
        await self.jobs.forget(clip_digest, namespace)

    async def voice_changed(self, namespace: str, voice: str) -> None:
        """See deployments.voices.enrolment.Routers."""
        self.voices.voice_changed(namespace, voice)

    async def speak(self, **fields: Any) -> httpx.Response:
        body = {"input": "Hello there.", "response_format": "wav", "seed": 7, **fields}
        return await self.http.post("/v1/audio/speech", json=body)

    async def speak_as(self, headers: Mapping[str, str], **fields: Any) -> httpx.Response:
        """`speak` with what a caller sends to be known by."""
        body = {"input": "Hello there.", "response_format": "wav", "seed": 7, **fields}
        return await self.http.post("/v1/audio/speech", json=body, headers=dict(headers))

    async def spoken(self, **fields: Any) -> SpeechRequest:
        """What a body asks of the speaker; it must be served."""
        reply = await self.speak(**fields)
        assert reply.status_code == httpx.codes.OK, reply.text
        return self.synthesizer.requests[-1]

    async def spoken_by(self, **fields: Any) -> str:
        """Who speaks a body, which must be served."""
        await self.spoken(**fields)
        return self.synthesizer.speakers[-1]

    async def post(self, content: bytes, label: str | None, path: str = "") -> httpx.Response:
        headers = {"content-type": label} if label else {}
        return await self.http.post(path or "/v1/audio/speech", content=content, headers=headers)


@asynccontextmanager
async def http_app(**args: Any) -> AsyncIterator[HttpApp]:
    """The application with these settings, its cache in memory alone."""
    async with running(HttpApp(**args)) as app:
        yield app


@asynccontextmanager
async def running(app: HttpApp) -> AsyncIterator[HttpApp]:
    """What is to be started, until the end of the block."""
    await app.voices.start()
    await app.speech.start()
    try:
        async with app.http:
            yield app
    finally:
        await app.enrolment.close()
        await app.speech.close()
        await app.voices.close()


class Tenant:
    """Pure ASGI: what an edge that knows keys will say of a request."""

    def __init__(self, app: FastAPI, name: str) -> None:
        self._app, self._name = app, name

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope.setdefault("state", {})["namespace"] = self._name
        await self._app(scope, receive, send)


def tenant(app: HttpApp, name: str) -> httpx.AsyncClient:
    """A client whose requests are this tenant's."""
    transport = httpx.ASGITransport(Tenant(app.app, name), raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://timbre")


def error_of(reply: httpx.Response) -> dict[str, Any]:
    """The error of a refusal, in OpenAI's shape."""
    error = reply.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return error


class JoblessApp(HttpApp):
    """Nobody runs its jobs: each is cancelled as it is made, so that whoever follows one ends."""

    async def _told(self, job: str) -> None:
        is_new = job not in self.told
        await super()._told(job)
        if is_new:
            await self.jobs.cancel(self.voices.namespace, job)


class ServedApp:
    """The application as any ASGI server runs it: a lifespan, then requests, on one event loop."""

    def __init__(self, **args: Any) -> None:
        self.made = JoblessApp(is_telling=True, **args)

    @property
    def page(self) -> dict[str, Any]:
        """The API's description."""
        return self.made.app.openapi()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await self.made.app(scope, receive, send)
            return
        await receive()
        async with running(self.made):
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})
