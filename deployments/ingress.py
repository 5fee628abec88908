"""The router: HTTP in, the chain of stages behind it, audio out.

Holds no state of a stream beyond its own frame. The FastAPI application is built inside the replica
(`__serve_build_asgi_app__`), after the handles exist.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Annotated, Any

from fastapi import FastAPI, File, Form, Request, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi_swagger import patch_fastapi
from pydantic import ValidationError
from ray.serve.handle import DeploymentHandle
from starlette.exceptions import HTTPException

from deployments.background import watched
from deployments.cache_routes import add_cache_routes
from deployments.http_edge import Edge
from deployments.http_errors import error_body, retry_headers, status_of
from deployments.http_models import SpeechBody, explain_validation, read_order
from deployments.readiness import Readiness
from deployments.remote import RemoteEncoder, RemoteSpeaker
from deployments.removal import Removal
from deployments.settings import Settings
from deployments.speech_reply import SpeechReply
from deployments.stage_metrics import Transfers
from deployments.telemetry import CacheMetrics, RequestMetrics, adopt_serve_logging
from deployments.voices import VoiceLibrary
from pipeline.errors import InputError, TimbreError, UnsupportedError

logger = logging.getLogger(__name__)

OPENAI_MODELS = ("tts-1", "tts-1-hd", "gpt-4o-mini-tts")  # accepted, so that clients work unchanged


class Router:
    """The ingress deployment."""

    def __init__(
        self,
        settings: Settings,
        tokenizer: DeploymentHandle,
        llms: Mapping[str, DeploymentHandle],
        vocoder: DeploymentHandle,
    ) -> None:
        adopt_serve_logging()
        self._settings = settings
        transfers = Transfers()
        encoder = RemoteEncoder(tokenizer, settings.limits, transfers)
        self._voices = VoiceLibrary(settings, encoder)
        self._speaker = RemoteSpeaker(vocoder, settings.limits, transfers)
        self._metrics = RequestMetrics()
        names = settings.llm_deployments
        stages = {names[variant].lower(): llm for variant, llm in llms.items()}
        self._removal = Removal({**stages, "vocoder": vocoder})
        self._readiness = Readiness(
            {"tokenizer": tokenizer, **stages, "vocoder": vocoder}, self._voices
        )

    async def forget(self, clip: str) -> None:
        """Called on every router by the one that was asked to remove a clip."""
        await self._voices.forget(clip)

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Called by Serve in the replica."""
        app = FastAPI(
            title="timbre",
            description=DESCRIPTION,
            version="1",
            docs_url=None,
            redoc_url=None,
            swagger_ui_oauth2_redirect_url=None,
            lifespan=self._lifespan,
        )
        app.add_middleware(Edge, max_body_bytes=self._settings.limits.max_body_bytes)
        patch_fastapi(app)  # Swagger UI from the package: the docs work without internet
        add_error_handlers(app)
        app.post("/v1/audio/speech", **SPEECH_DOC)(self._speech)
        app.post("/v1/audio/speech/upload", **SPEECH_DOC)(self._speech_upload)
        app.get("/v1/models")(self._models)
        app.get("/v1/voices")(self._list_voices)
        app.get("/v1/audio/voices")(self._list_voices)
        add_cache_routes(app, self._voices, self._removal.everywhere)
        app.get("/healthz")(self._healthz)
        app.get("/readyz")(self._readyz)
        return app

    async def _speech(self, body: SpeechBody, request: Request) -> Response:
        """Speak a text in a named voice, or in the voice of a reference clip sent along."""
        return await self._reply(body, request, None)

    async def _speech_upload(
        self,
        request: Request,
        payload: Annotated[str, Form(description="The JSON body of /v1/audio/speech")],
        prompt_audio_file: Annotated[UploadFile | None, File()] = None,
        input_audio_file: Annotated[UploadFile | None, File()] = None,
    ) -> Response:
        """The same with the reference clip as a file part."""
        parts = {"prompt_audio_file": prompt_audio_file, "input_audio_file": input_audio_file}
        files = {name: file for name, file in parts.items() if file is not None}
        if len(files) != 1:
            raise InputError(
                f"one file is needed, in prompt_audio_file or input_audio_file; found {len(files)}",
                param="prompt_audio_file",
            )
        try:
            body = SpeechBody.model_validate_json(payload)
        except ValidationError as error:
            message, param = explain_validation(error.errors())
            raise InputError(f"payload: {message}", param=param) from error
        [(name, file)] = files.items()
        return await self._reply(body, request, (await file.read(), name))

    async def _reply(
        self, body: SpeechBody, request: Request, upload: tuple[bytes, str] | None
    ) -> Response:
        self._check_model(body.model)
        order = read_order(body, self._settings.limits, upload)
        self._check_variant(order.request.variant)
        reply = SpeechReply(
            order, self._voices, self._speaker, self._metrics, request.state.request_id
        )
        return await reply.start()

    def _check_model(self, model: str | None) -> None:
        known = (self._settings.model_name, *OPENAI_MODELS)
        if model is not None and model not in known:
            raise UnsupportedError(
                f"no model is named {model!r}; allowed: {', '.join(known)}", param="model"
            )

    def _check_variant(self, variant: str) -> None:
        deployed = self._settings.llm_deployments
        if variant not in deployed:
            raise UnsupportedError(
                f"no variant {variant!r} of the model is deployed; deployed: {', '.join(deployed)}",
                param="step_audio.model_variant",
            )

    async def _models(self) -> dict[str, Any]:
        """Models served, in OpenAI's shape, and the variants that requests may choose from."""
        names = (self._settings.model_name, *OPENAI_MODELS)
        facts = {"object": "model", "created": 0, "owned_by": "timbre"}
        variants = list(self._settings.llm_deployments)
        return {
            "object": "list",
            "data": [{"id": name, **facts, "model_variants": variants} for name in names],
        }

    async def _list_voices(self) -> dict[str, Any]:
        """Listed voices, in the shapes that clients of the peers read."""
        voices = self._voices.describe()
        return {"voices": voices, "data": voices, "object": "list"}

    async def _healthz(self) -> dict[str, str]:
        """This router lives."""
        return {"status": "ok"}

    async def _readyz(self) -> Response:
        """Whether every stage answers, with their gauges; 503 when one does not."""
        report = await self._readiness.report()
        return JSONResponse(report, status_code=200 if report["ready"] else 503)

    @asynccontextmanager
    async def _lifespan(self, _app: FastAPI) -> AsyncGenerator[None]:
        """Serve runs it in the replica; at a graceful stop, writes still queued reach the cache."""
        await self._voices.start()
        metrics = CacheMetrics()
        sampling = watched("cache metrics", partial(metrics.sample, self._voices.cache_stats))
        following = watched("following the tokenizer", self._voices.follow_encoder)
        try:
            yield
        finally:
            sampling.cancel()
            following.cancel()
            await self._voices.close()


DESCRIPTION = (
    "Voice cloning and editing with Step-Audio-EditX. `/v1/audio/speech` speaks OpenAI's API; "
    "a reference clip travels in `step_audio.prompt_audio_base64` with `step_audio.prompt_text`, "
    "or as a file part to "
    "`/v1/audio/speech/upload`."
)
SPEECH_DOC: dict[str, Any] = {
    "response_class": Response,
    "responses": {
        200: {
            "description": "Audio, sent in chunks as it is made",
            "content": {"audio/mpeg": {}, "audio/wav": {}, "text/event-stream": {}},
        }
    },
}


def add_error_handlers(app: FastAPI) -> None:
    """Every error leaves in OpenAI's shape."""

    @app.exception_handler(TimbreError)
    async def _ours(request: Request, error: TimbreError) -> JSONResponse:
        status = status_of(error)
        if status >= 500:  # noqa: PLR2004
            logger.error("request %s failed", request.state.request_id, exc_info=error)
        body = error_body(error.message, status, code=error.code, param=error.param)
        return JSONResponse(body, status, headers=retry_headers(status))

    @app.exception_handler(RequestValidationError)
    async def _invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        message, param = explain_validation(error.errors())
        return JSONResponse(error_body(message, 422, code="invalid_request", param=param), 422)

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> JSONResponse:
        body = error_body(str(error.detail), error.status_code, code="http_error")
        return JSONResponse(body, error.status_code, headers=error.headers)

    @app.exception_handler(Exception)
    async def _unforeseen(request: Request, error: Exception) -> JSONResponse:
        request_id = request.state.request_id
        logger.error("request %s failed", request_id, exc_info=error)
        body = error_body(
            f"something went wrong inside; request id {request_id}", 500, code="internal_error"
        )
        return JSONResponse(body, 500)
