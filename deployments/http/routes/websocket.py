"""The route of sessions: `/v1/audio/speech/stream`, over a WebSocket."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from functools import partial
from urllib.parse import urlsplit

from fastapi import FastAPI, WebSocket
from starlette.datastructures import Headers

from deployments.config.settings import Settings
from deployments.http.bodies.budget import Hold
from deployments.http.dialects.parsed_request import ParsedRequest
from deployments.http.errors import about_clip
from deployments.http.model_names import ModelNames
from deployments.http.provenance.opting_out import is_marked
from deployments.http.reply import SpeechReply
from deployments.http.routes.speech import HeldVoices, Routes
from deployments.http.sessions.messages import TRIAL_TEXT, Setup, read_config
from deployments.http.sessions.session import Desk, Session
from deployments.http.sessions.wire import Wire
from deployments.http.tenant import namespace_of
from deployments.marks.marking import HEADER as PROVENANCE_HEADER
from deployments.marks.marking import provenance
from deployments.quotas.spending import spending
from deployments.telemetry.sessions import SessionMetrics
from deployments.telemetry.tracing.tracer import NOT_TRACING, Tracer
from deployments.voices.resolver import VoiceLibrary

STREAM = "/v1/audio/speech/stream"
_POLICY_VIOLATION = 1008
_ANY_ORIGIN = "*"


class SocketRoutes:
    """Its handler. speech: what answers a request for speech."""

    def __init__(
        self,
        settings: Settings,
        voices: VoiceLibrary,
        speech: Routes,
        tracer: Tracer = NOT_TRACING,
    ) -> None:
        """tracer: begins a trace for each sentence."""
        self._settings = settings
        self._voices = voices
        self._speech = speech
        self._metrics = SessionMetrics()
        self._tracer = tracer
        self._set_up = partial(
            read_config,
            limits=settings.limits,
            check_model=ModelNames(settings).check,
            hears=voices.hears,
        )

    def add_to(self, app: FastAPI) -> None:
        app.add_api_websocket_route(STREAM, self._talk)

    async def _talk(self, socket: WebSocket) -> None:
        """Speak text as it comes, over a WebSocket; see docs/websocket.md."""
        if not _is_welcome(socket.headers, self._settings.http.cors_origins):
            await socket.close(
                _POLICY_VIOLATION, "web pages of this origin are not let in (http.cors_origins)"
            )
            return
        namespace = namespace_of(socket, self._voices.namespace)
        request_id: str = socket.state.request_id
        marked = self._settings.marks.enabled and is_marked(socket, namespace)
        told = provenance(is_marked=marked)
        await socket.accept(headers=[(PROVENANCE_HEADER.lower().encode(), told.encode())])
        with self._speech.budget.hold() as hold:
            desk = Desk(
                set_up=self._set_up,
                greet=partial(self._greet, namespace),
                open_reply=partial(self._open_reply, socket, namespace),
                hold=hold,
                tracer=self._tracer,
            )
            wire = Wire(socket, request_id)
            await Session(wire, desk, self._settings.sessions, self._metrics, request_id).run()

    async def _greet(self, namespace: str, setup: Setup) -> None:
        parsed = setup.request(TRIAL_TEXT)
        voices = HeldVoices(self._voices, Hold(self._speech.budget), namespace)
        with about_clip(parsed.clip_param, parsed.voice_param):
            await voices.resolve(parsed.reference)

    async def _open_reply(
        self, socket: WebSocket, namespace: str, parsed: ParsedRequest, request_id: str
    ) -> SpeechReply:
        if not parsed.request.terms.is_begun:
            await spending().request()  # an utterance is one, until some of it is heard
        hold = Hold(self._speech.budget)  # of nothing: the session itself holds its clip
        parsed = replace(parsed, mark=is_marked(socket, namespace, parsed.mark, request_id))
        completed = await self._speech.completed(parsed, namespace)
        return self._speech.reply_to(completed, hold, namespace, request_id)


def _is_welcome(headers: Headers, origins: Collection[str]) -> bool:
    """Whether a browser's page may connect: browsers ask nobody before they open a WebSocket."""
    origin = headers.get("origin")
    if origin is None or _ANY_ORIGIN in origins or origin in origins:
        return True
    return urlsplit(origin).netloc == headers.get("host")
