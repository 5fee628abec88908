"""The router: HTTP in, the chain of stages behind it, audio out; and the application around routes.

Holds no state of a stream beyond its own frame. The FastAPI application is built inside the replica
(`__serve_build_asgi_app__`), after the handles exist.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse
from fastapi_swagger import patch_fastapi
from ray.serve.handle import DeploymentHandle
from starlette.exceptions import HTTPException
from starlette.routing import Match, Route
from starlette.types import Lifespan

from deployments.admission.memory import RememberedRefusals
from deployments.background import watched
from deployments.config.settings import Settings
from deployments.config.stages import Stages
from deployments.edits.library import EditLibrary
from deployments.http.api_pages import DESCRIPTION, ERROR_DOC, describe_bodies
from deployments.http.bodies.fields import explain_validation
from deployments.http.bodies.pace import Pace
from deployments.http.clips.routes import ClipRoutes
from deployments.http.edge import Edge
from deployments.http.edit_pages import BODIES as EDIT_BODIES
from deployments.http.errors import NO_RETRY, SERVER_FAULT, answer_error, error_body
from deployments.http.head import HeadAsGet
from deployments.http.jobs.pages import BODIES as JOB_BODIES
from deployments.http.keys.guard import Guard, ThisMachineOnly
from deployments.http.keys.pages import SHAPES as KEY_SHAPES
from deployments.http.keys.pages import describe_keys
from deployments.http.keys.routes import KeyRoutes
from deployments.http.liveness.signs import TellsSigns
from deployments.http.provenance.pages import BODIES as PROVENANCE_BODIES
from deployments.http.provenance.routes import ProvenanceRoutes
from deployments.http.quotas.middleware import Quotas
from deployments.http.routes.batch import BODIES as BATCH_BODIES
from deployments.http.routes.batch import BatchRoute
from deployments.http.routes.cache import WarmBody, add_cache_routes
from deployments.http.routes.edits import EditRoutes
from deployments.http.routes.elevenlabs_voices import ElevenLabsVoiceRoutes
from deployments.http.routes.jobs import JobRoutes
from deployments.http.routes.lazy import LazyRoute
from deployments.http.routes.pronunciation_pages import BODIES as PRONUNCIATION_BODIES
from deployments.http.routes.speech import Routes
from deployments.http.routes.uploaded_voices import VoiceRoutes
from deployments.http.routes.voice_consents import ConsentRoutes
from deployments.http.routes.websocket import SocketRoutes
from deployments.http.savings.routes import SavingsRoutes
from deployments.http.ui.routes import add_page
from deployments.http.voice_pages import BODIES as VOICE_BODIES
from deployments.jobs.library import JobLibrary
from deployments.keys.authority import Authority, say_who_may
from deployments.longform.listening import Listener
from deployments.pronunciation.readings import readings_of
from deployments.quotas.cluster import open_gate
from deployments.quotas.gate import QuotaGate
from deployments.savings.keeper import SavingsKeeper
from deployments.scaling.policy import Work
from deployments.scaling.replica import ScaledReplica
from deployments.speech.library import SpeechLibrary
from deployments.stages.clients import (
    RemoteMarks,
    RemoteNames,
    RemoteTokenizer,
    RemoteTranscriber,
    RemoteVocoder,
)
from deployments.stages.health import Readiness
from deployments.stages.jobs import RunnersTold
from deployments.stages.removal import Removal, RoutersToldOfVoices
from deployments.telemetry.admission import RefusalCounts
from deployments.telemetry.cache import CacheMetrics
from deployments.telemetry.logs import adopt_serve_logging
from deployments.telemetry.metrics import SPEECH_CACHE, VOICE_CACHE
from deployments.telemetry.outcomes import ClusterOutcomes
from deployments.telemetry.quotas import QuotaGauge, QuotaRefusals
from deployments.telemetry.requests import RequestMetrics
from deployments.telemetry.tracing.tracer import NOT_TRACING, Tracer
from deployments.telemetry.transfers import Transfers
from deployments.voices.enrolment import Enrolment
from deployments.voices.resolver import VoiceLibrary
from pipeline.errors import TimbreError

logger = logging.getLogger(__name__)

# By name for pages that send credentials, to whom "*" is only a name; X-Metadata-… for the others.
EXPOSED_HEADERS = (
    "X-Request-Id", "Server-Timing", "X-Cache", "X-Quality", "X-Audio-Sample-Rate",
    "X-Audio-Channels", "X-Audio-Warning", "X-Ignored-Fields", "X-Edit-Id", "X-Edit-Steps",
    "X-Provenance", "Retry-After", "X-Should-Retry",
    *(f"X-RateLimit-{what}-{of}" for what in ("Limit", "Remaining", "Reset")
      for of in ("Requests", "Audio-Seconds")), "*",
)  # fmt: skip


class Router(ScaledReplica):
    """The ingress deployment."""

    def __init__(
        self,
        settings: Settings,
        tokenizer: DeploymentHandle,
        llms: Mapping[str, DeploymentHandle],
        vocoder: DeploymentHandle,
        jobs: DeploymentHandle,
        asr: DeploymentHandle | None = None,
    ) -> None:
        """asr: the recogniser, where it is deployed."""
        adopt_serve_logging()
        self._settings = settings
        self._tracer = Tracer.of(settings.telemetry, "router")
        transfers = Transfers()
        sleeps = settings.scaling.tokenizer.sleeps
        encoder = RemoteTokenizer(tokenizer, settings.limits, transfers, sleeps=sleeps)
        hearing = None if asr is None else RemoteTranscriber(asr, settings.asr.timeout_s)
        self._listener: Listener | None = None
        if hearing is not None and settings.long_text.listens:
            self._listener = Listener(hearing)
        self._voices = VoiceLibrary(settings, encoder, hearing)
        self._authority = Authority.of(settings, self._voices.shelf)
        say_who_may(settings.access)
        remote = RemoteVocoder(vocoder, settings.limits, transfers)
        synthesizer = RememberedRefusals(remote, RefusalCounts())
        self._speech = SpeechLibrary(settings, synthesizer, RemoteNames(vocoder, llms))
        self._readings = readings_of(settings, self._voices)
        self._edits = EditLibrary(settings, self._voices, self._speech)
        self._marks = RemoteMarks(vocoder)
        self._jobs = JobLibrary(settings, self._voices, self._readings, RunnersTold(jobs).tell)
        self._metrics = RequestMetrics(settings.telemetry.slow_s)
        self._savings = SavingsKeeper(
            settings.telemetry,
            self._voices.shelf,
            {"voices": self._voices.take_savings, "speech": self._speech.take_savings},
        )
        self._outcomes = ClusterOutcomes(settings.cache.l2_name)
        self._quotas = open_gate(settings.quotas, settings.cache.l2_name, QuotaRefusals())
        self._quota_gauge = QuotaGauge(self._quotas)
        stages = Stages.of(settings)
        handles = {
            stages.tokenizer: tokenizer,
            **{stages.llms[variant]: llm for variant, llm in llms.items()},
            stages.vocoder: vocoder,
            stages.jobs: jobs,
        }
        if stages.asr is not None and asr is not None:
            handles[stages.asr] = asr
        self._removal = Removal(handles, settings.cache.namespace)
        routers = RoutersToldOfVoices(self._removal)
        self._enrolment = Enrolment(settings, self._voices, routers)
        self._readiness = Readiness(handles, self._voices.cache_report)
        self.begin_telling("router", settings.scaling.router, settings.memory)

    @property
    def in_work(self) -> int:
        """Requests that it is at."""
        return self._metrics.load.running

    def work(self) -> Work:
        """See ScaledReplica. Nothing waits in a router: what it has no room for is refused."""
        return Work(self._metrics.load.look().running, self._settings.limits.max_requests)

    def check_parts(self) -> None:
        """Nothing that it needs can be gone: what fails of it is retried, or served without."""

    async def forget(self, clip_digest: str, namespace: str | None = None) -> None:
        """Called on every router by the one that was asked to remove a clip."""
        await asyncio.gather(
            self._voices.forget(clip_digest, namespace),
            self._speech.forget(clip_digest, namespace),
            self._edits.forget(clip_digest, namespace),
            self._jobs.forget(clip_digest, namespace),
        )

    async def voice_changed(self, namespace: str, voice: str) -> None:
        """Called on every router by the one that changed an uploaded voice."""
        self._voices.voice_changed(namespace, voice)

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Called by Serve in the replica."""
        routes = Routes(
            self._settings,
            self._voices,
            self._speech,
            self._metrics,
            self._readiness.report,
            self._outcomes,
            self._readings,
            self._listener,
        )
        app = make_app(
            self._settings, routes, self._lifespan, self._authority, self._quotas, self._tracer
        )
        BatchRoute(routes, self._settings.limits).add_to(app)
        add_cache_routes(app, self._voices, self._speech, routes.budget, self._removal.everywhere)
        EditRoutes(
            self._settings,
            self._edits,
            self._voices.namespace,
            self._metrics,
            self._outcomes,
            routes.budget,
            self._readings,
        ).add_to(app)
        SavingsRoutes(self._savings, self._voices).add_to(app)
        SocketRoutes(self._settings, self._voices, routes, self._tracer).add_to(app)
        JobRoutes(self._settings, self._jobs, self._voices.namespace, routes.budget).add_to(app)
        ProvenanceRoutes(self._settings.marks, self._marks, routes.budget).add_to(app)
        clips = (self._voices.clip_limits, self._voices.conditioning)
        ClipRoutes(self._settings, *clips, routes.budget).add_to(app)
        for kept in (VoiceRoutes, ElevenLabsVoiceRoutes, ConsentRoutes):
            kept(self._settings, self._voices, self._enrolment, routes.budget).add_to(app)
        return app

    @asynccontextmanager
    async def _lifespan(self, _app: FastAPI) -> AsyncGenerator[None]:
        """Serve runs it in the replica; at a graceful stop, writes still queued reach the cache."""
        await asyncio.gather(self._voices.start(), self._speech.start())
        self._outcomes.start()
        voices, speech = CacheMetrics(VOICE_CACHE), CacheMetrics(SPEECH_CACHE)
        loops = [
            watched("cache metrics", partial(voices.sample, self._voices.cache_stats)),
            watched("speech cache metrics", partial(speech.sample, self._speech.stats)),
            watched("following the tokenizer", self._voices.follow_encoder),
            watched("following the models", self._speech.follow_models),
            watched("following the pronunciations", self._readings.follow),
            watched("purging deleted voices", self._enrolment.sweep),
            watched("forgetting deleted voices", self._enrolment.forget_again),
            watched("removing old edits", self._edits.sweep),
            watched("keeping the quotas", self._quotas.run),
            watched("keeping the account of what is saved", self._savings.run),
        ]
        if self._authority is not None:
            loops.append(watched("following the keys", self._authority.follow))
        try:
            yield
        finally:
            for loop in loops:
                loop.cancel()
            await self._savings.flush()
            await self._enrolment.close()
            await asyncio.gather(self._voices.close(), self._speech.close())


def make_app(
    settings: Settings,
    routes: Routes,
    lifespan: Lifespan[FastAPI] | None,
    authority: Authority | None = None,
    quotas: QuotaGate | None = None,
    tracer: Tracer = NOT_TRACING,
) -> FastAPI:
    """The application around `routes`: its edge, its pages, the shape of its errors.

    authority: says whose keys count; None where keys are off. quotas: None where nobody has any.
    """
    app = FastAPI(
        title="timbre",
        description=DESCRIPTION,
        version="1",
        docs_url=None,
        redoc_url=None,
        swagger_ui_oauth2_redirect_url=None,
        responses=ERROR_DOC,
        lifespan=lifespan,
    )
    app.router.route_class = LazyRoute
    app.add_middleware(HeadAsGet)
    if quotas is not None:  # within the guard: who asks is known by then
        app.add_middleware(Quotas, gate=quotas, default_namespace=settings.cache.namespace)
    if authority is not None:
        app.add_middleware(Guard, callers=authority)
    elif settings.access.keys == "off":
        app.add_middleware(ThisMachineOnly)
    limits = settings.limits
    app.add_middleware(
        Edge,
        max_body_bytes=limits.max_body_bytes,
        pace=Pace(limits.body_silence_s, limits.slowest_body_bytes_s),
        max_requests=limits.max_requests,
        sockets=settings.sessions,
        has_proxy=True,
        tracer=tracer,
    )
    if settings.http.cors_origins:  # outermost: a refusal by the edge is for the page's eyes too
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.http.cors_origins,
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["*"],
            expose_headers=EXPOSED_HEADERS,
        )
    app.add_middleware(TellsSigns)
    patch_fastapi(app)  # Swagger UI from the package: the docs work without internet
    ours = (*VOICE_BODIES, *EDIT_BODIES, *JOB_BODIES, *BATCH_BODIES, *PRONUNCIATION_BODIES)
    shapes = () if authority is None else KEY_SHAPES
    describe_bodies(app, (*ours, *PROVENANCE_BODIES, WarmBody, *shapes))
    add_error_handlers(app)
    if settings.http.page:
        add_page(app)
    routes.add_to(app)
    if authority is not None:
        KeyRoutes(authority, routes.budget).add_to(app)
        describe_keys(app)
    return app


def add_error_handlers(app: FastAPI) -> None:
    """Every error leaves in OpenAI's shape; those that nobody foresaw, at the edge."""

    @app.exception_handler(TimbreError)
    async def _ours(request: Request, error: TimbreError) -> JSONResponse:
        return answer_error(error, request.state.request_id)

    @app.exception_handler(RequestValidationError)
    async def _invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        message, param = explain_validation(error.errors())
        body = error_body(message, 400, code="invalid_request", param=param)
        return JSONResponse(body, 400, NO_RETRY)

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> JSONResponse:
        body = error_body(str(error.detail), error.status_code, code="http_error")
        told = NO_RETRY if error.status_code < SERVER_FAULT else {}
        if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            told = {**told, "Allow": ", ".join(sorted(_methods_at(request)))}
        return JSONResponse(body, error.status_code, {**(error.headers or {}), **told})


def _methods_at(request: Request) -> set[str]:
    """Of an address: its routes stand one by one, and each of them knows its own method alone."""
    found: set[str] = set()
    for route in request.app.routes:
        if isinstance(route, Route) and route.matches(request.scope)[0] is not Match.NONE:
            found |= route.methods or set()
    return found | {"HEAD"} if "GET" in found else found
