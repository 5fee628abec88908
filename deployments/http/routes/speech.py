"""The routes that speak, in every dialect: bodies in, replies out, and how a reply ended.

Whoever builds the application hands it voices, speech, the readiness report and the
book of outcomes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Annotated, Any

from fastapi import FastAPI, Path, Query, Request
from fastapi.responses import Response
from starlette.requests import HTTPConnection

from deployments.config.settings import Settings
from deployments.http.api_pages import (
    DIALOGUE_DOC,
    ELEVENLABS_DOC,
    FISH_DOC,
    OUTCOME_DOC,
    SPEECH_DOC,
    TAGS_DOC,
)
from deployments.http.bodies.budget import BodyBudget, Hold
from deployments.http.bodies.read import Clip, RawBody, read_off_loop, receive_body
from deployments.http.dialects.dialogue import (
    in_turns,
    read_elevenlabs_dialogue,
    with_first_turn,
)
from deployments.http.dialects.edit_steps import possible_edits
from deployments.http.dialects.elevenlabs import Asked, read_elevenlabs
from deployments.http.dialects.fish import read_fish
from deployments.http.dialects.parsed_request import ParsedRequest
from deployments.http.dialects.speech import SpeechBody, parse_request, read_speech, read_wish
from deployments.http.model_names import ModelNames
from deployments.http.provenance.opting_out import is_marked
from deployments.http.reply import SpeechReply
from deployments.http.routes.health import Report, add_health_routes
from deployments.http.routes.models import add_model_routes
from deployments.http.routes.pronunciations import PronunciationRoutes
from deployments.http.routes.voices import add_voice_routes
from deployments.http.tenant import namespace_of
from deployments.jobs.dialogue import Dialogue
from deployments.longform.listening import Listener
from deployments.longform.speech import LongSpeech
from deployments.marks.marking import Marking
from deployments.outbound.clips import ClipFetcher
from deployments.pronunciation.readings import Readings
from deployments.speech.library import SpeechLibrary
from deployments.telemetry.outcomes import Outcome, Outcomes
from deployments.telemetry.requests import RequestMetrics
from deployments.voices.resolver import VoiceLibrary
from pipeline.contracts import VoiceReference
from pipeline.errors import MAX_FOUND, InputError, UnknownRequestError
from pipeline.serving.terms import Service, Terms
from pipeline.serving.tracing import here
from pipeline.synthesis import ResolvedVoice, VoiceResolver

VoiceId = Annotated[str, Path(description="A voice's name or id", examples=["bruno"])]
RequestId = Annotated[str, Path(description="Its X-Request-Id", examples=["caller-4711"])]
OutputFormat = Annotated[
    str | None,
    Query(
        description="codec_rate or codec_rate_bitrate: mp3_44100_128, pcm_16000, ulaw_8000",
        examples=["pcm_16000"],
    ),
]


class Routes:
    """Handlers, and what they share: names of models, the budget of bodies."""

    def __init__(
        self,
        settings: Settings,
        voices: VoiceLibrary,
        speech: SpeechLibrary,
        metrics: RequestMetrics,
        readiness: Report,
        outcomes: Outcomes,
        readings: Readings,
        listener: Listener | None = None,
    ) -> None:
        """readiness: whether every stage answers, as `Readiness.report` tells it.

        listener: hears the segments of long texts.
        """
        self._listener = listener
        self._outcomes = outcomes
        self._limits, self._admission = settings.limits, settings.admission
        self._long_text = settings.long_text
        self._names = ModelNames(settings)
        self._clips = ClipFetcher(settings.clips)
        self._marking = Marking(settings.marks)
        self._voices = voices
        self._speech_library = speech
        self._metrics = metrics
        self._readiness = readiness
        self._readings = readings
        self.budget = BodyBudget(settings.limits.max_inflight_body_bytes)

    def add_to(self, app: FastAPI) -> None:
        """Every route of the speech API."""
        app.post("/v1/audio/speech", **SPEECH_DOC)(self._speech)
        app.post("/v1/audio/speech/upload", **SPEECH_DOC)(self._speech_upload)
        app.get("/v1/audio/speech/{request_id:path}", **OUTCOME_DOC)(self._outcome)
        app.post("/v1/tts", **FISH_DOC)(self._fish)
        app.post("/v1/text-to-speech/{voice_id}", **ELEVENLABS_DOC)(self._elevenlabs)
        app.post("/v1/text-to-speech/{voice_id}/stream", **ELEVENLABS_DOC)(self._elevenlabs_stream)
        app.post("/v1/text-to-dialogue", **DIALOGUE_DOC)(self._dialogue)
        app.post("/v1/text-to-dialogue/stream", **DIALOGUE_DOC)(self._dialogue_stream)
        app.get("/v1/tags", **TAGS_DOC)(self._tags)
        add_model_routes(app, self._names)
        add_voice_routes(app, self._voices)
        PronunciationRoutes(self._readings, self._voices.namespace, self.budget).add_to(app)
        add_health_routes(app, self._readiness)

    async def _speech(self, request: Request) -> Response:
        """Speak a text in a named voice, or in the voice of a reference clip sent along."""
        return await self.answer(request, partial(self._read, needs_voice=False))

    async def _speech_upload(self, request: Request) -> Response:
        """The same with the reference clip as a file part."""
        return await self.answer(request, partial(self._read, needs_voice=True))

    async def _fish(self, request: Request) -> Response:
        """The same as fish-speech's clients ask for it."""
        return await self.answer(
            request, partial(read_fish, limits=self._limits, hears=self._voices.hears)
        )

    async def _elevenlabs(
        self, request: Request, voice_id: VoiceId, output_format: OutputFormat = None
    ) -> Response:
        """The same as ElevenLabs' clients ask for it, whole. `xi-api-key` is taken."""
        asked = Asked(voice_id, output_format, is_whole=True)
        return await self.answer(request, partial(self._read_elevenlabs, asked=asked))

    async def _elevenlabs_stream(
        self, request: Request, voice_id: VoiceId, output_format: OutputFormat = None
    ) -> Response:
        """The same as it is made."""
        asked = Asked(voice_id, output_format, is_whole=False)
        return await self.answer(request, partial(self._read_elevenlabs, asked=asked))

    async def _dialogue(self, request: Request, output_format: OutputFormat = None) -> Response:
        """Several voices in one reply, as ElevenLabs' clients ask for it, whole."""
        asked = Asked("", output_format, is_whole=True)
        return await self.answer(request, partial(self._read_dialogue, asked=asked))

    async def _dialogue_stream(
        self, request: Request, output_format: OutputFormat = None
    ) -> Response:
        """The same as it is made."""
        asked = Asked("", output_format, is_whole=False)
        return await self.answer(request, partial(self._read_dialogue, asked=asked))

    async def answer(self, request: Request, read: Callable[[RawBody], ParsedRequest]) -> Response:
        """Speak what `read` makes of the request's body; it may run on any thread.

        No frame that waits here holds the body: it may be large, and the wait long.
        """
        with self.budget.hold() as hold:
            namespace = self.namespace(request)
            reply = self.reply_to(
                await self.completed(
                    await self.fetched(
                        allowed(request, namespace, await received(request, hold, read)), hold
                    ),
                    namespace,
                ),
                hold,
                namespace,
                request.state.request_id,
            )
            return await reply.start()

    def namespace(self, request: Request) -> str:
        """Whose request it is."""
        return namespace_of(request, self._voices.namespace)

    async def fetched(self, parsed: ParsedRequest, hold: Hold) -> ParsedRequest:
        """A request with the clip that it gave the address of."""
        if parsed.clip_url is None:
            return parsed
        with here().span("fetch") as span:
            clip = await self._clips.fetch(parsed.clip_url, parsed.clip_param, hold.cover)
            span.told(bytes=len(clip))
        return replace(parsed, upload=clip, clip_url=None)

    async def completed(self, parsed: ParsedRequest, namespace: str) -> ParsedRequest:
        """A request with how its text, or that of each turn, is read."""
        with here().span("text"):
            return await self._completed(parsed, namespace)

    async def _completed(self, parsed: ParsedRequest, namespace: str) -> ParsedRequest:
        is_clip = parsed.upload is not None
        read = partial(self._readings.completed, asked=parsed.reading, namespace=namespace)
        completed = await read(parsed.request, voice=parsed.voice, is_clip=is_clip)
        turns = [
            replace(turn, request=await read(turn.request, voice=turn.voice))
            for turn in parsed.turns
        ]
        return replace(parsed, request=completed, turns=turns)

    def reply_to(
        self,
        parsed: ParsedRequest,
        hold: Hold,
        namespace: str,
        request_id: str,
        heard: Callable[[Outcome], None] | None = None,
        *,
        is_batch: bool = False,
    ) -> SpeechReply:
        """The reply to a request, which begins when it is read.

        hold: of what it was read from. heard: is told how it ended, beside the book of outcomes.
        is_batch: it stands behind all that others listen to.
        """
        parsed = self._on_terms(parsed, is_batch=is_batch)
        voices: VoiceResolver = self._voices
        if not parsed.request.transcript:
            voices = self._voices.hearing(parsed.transcript_param)
        voices = HeldVoices(voices, hold, namespace)
        reusing = partial(self._speech_library.request, voices, parsed.reuse, namespace)

        def tell(outcome: Outcome) -> None:
            self._outcomes.tell(namespace, outcome)
            if heard is not None:
                heard(outcome)

        rest = (self._metrics, request_id, tell)
        marks = self._marking.of_reply(
            parsed.response_format,
            is_marked=parsed.mark is not False,
            is_whole=parsed.is_whole and not parsed.is_sse,
        )
        if parsed.turns:
            dialogue = Dialogue(parsed.turns, reusing)
            return SpeechReply(parsed, dialogue, dialogue, *rest, marks=marks)
        one = reusing()
        if not self._is_in_segments(parsed):
            return SpeechReply(parsed, one, one, *rest, marks=marks)
        long = LongSpeech(
            one,
            self._long_text,
            target_lufs=parsed.target_lufs,
            is_paced=not parsed.is_whole,
            listener=self._listener,
        )
        return SpeechReply(parsed, one, long, *rest, long.segments, marks=marks)

    def _on_terms(self, parsed: ParsedRequest, *, is_batch: bool) -> ParsedRequest:
        """With how it is served and by when; whose it is, the library of speech knows.

        A request that goes on with what is heard says so, and when it is due.
        """
        terms = self._terms(is_whole=parsed.is_whole, is_batch=is_batch)
        if parsed.request.terms.is_begun:
            terms = replace(parsed.request.terms, service=terms.service)
        terms = replace(terms, is_marked=parsed.mark is not False)
        turns = [replace(one, request=replace(one.request, terms=terms)) for one in parsed.turns]
        return replace(parsed, request=replace(parsed.request, terms=terms), turns=turns)

    def _terms(self, *, is_whole: bool, is_batch: bool) -> Terms:
        if is_batch:
            return Terms(Service.BATCH)
        limits, now_s = self._admission, time.monotonic()
        if is_whole:
            return Terms(Service.WHOLE, due_s=now_s + limits.whole_s)
        return Terms(Service.STREAM, due_s=now_s + limits.first_audio_s)

    def _is_in_segments(self, parsed: ParsedRequest) -> bool:
        is_long = len(parsed.request.text) > self._limits.max_text_chars
        return is_long or parsed.target_lufs is not None

    def _read(self, raw: RawBody, *, needs_voice: bool) -> ParsedRequest:
        """A body as a request, by any thread. needs_voice: the default one will not do."""
        body, clip = read_speech(raw)
        if needs_voice and clip is None and body.voice is None and not read_wish(body).clips:
            raise InputError(
                "one file is needed, in prompt_audio_file or input_audio_file; found 0",
                param="prompt_audio_file",
            )
        return self.parsed(body, clip)

    def parsed(self, body: SpeechBody, clip: Clip | None) -> ParsedRequest:
        """A body as a request, by any thread. clip: what came beside it. Raises InputError."""
        if body.model is not None:
            self._names.check(body.model)
        inputs = body.inputs
        if inputs is not None:
            body = with_first_turn(body, inputs, has_clip=clip is not None)
        hears, fetches = self._voices.hears, self._clips.is_on
        parsed = parse_request(body, self._limits, clip, hears=hears, fetches=fetches)
        variant = self._names.variant(parsed.request.variant)
        parsed = replace(parsed, request=replace(parsed.request, variant=variant))
        return parsed if inputs is None else in_turns(parsed, inputs, self._limits)

    def _read_elevenlabs(self, raw: RawBody, asked: Asked) -> ParsedRequest:
        parsed, model = read_elevenlabs(raw, asked, self._limits)
        if model is not None:
            self._names.check(model, param="model_id")
        return parsed

    def _read_dialogue(self, raw: RawBody, asked: Asked) -> ParsedRequest:
        parsed, model = read_elevenlabs_dialogue(raw, asked, self._limits)
        if model is not None:
            self._names.check(model, param="model_id")
        return parsed

    async def _outcome(self, request: Request, request_id: RequestId) -> dict[str, Any]:
        """How a request of the caller's ended, by its `X-Request-Id`: verdict, usage, stage times.

        The last 1,024 of the cluster are remembered, for an hour; any router answers.
        """
        namespace = namespace_of(request, self._voices.namespace)
        report = await self._outcomes.find(namespace, request_id)
        if report is None:
            raise UnknownRequestError(
                f"no request {request_id[:MAX_FOUND]!r} is among the last that ended; one that is "
                "still being answered appears when it has",
                param="request_id",
            )
        return report

    async def _tags(self) -> dict[str, Any]:
        """What edits can be asked for: values and intensities by type, tags, languages."""
        return possible_edits()


async def received(
    request: Request, hold: Hold, read: Callable[[RawBody], ParsedRequest]
) -> ParsedRequest:
    """What `read` makes of a request's body, whose bytes no frame holds while it waits."""
    with here().span("body"):
        return await read_off_loop(read, await receive_body(request, hold))


def allowed(connection: HTTPConnection, namespace: str, parsed: ParsedRequest) -> ParsedRequest:
    """The request with whether it is marked, by its body and its head. Raises ForbiddenError."""
    return replace(parsed, mark=is_marked(connection, namespace, parsed.mark))


class HeldVoices:
    """Voices for one request, whose share of the budget ends as soon as its voice is at hand."""

    def __init__(self, voices: VoiceResolver, hold: Hold, namespace: str) -> None:
        self._voices = voices
        self._hold = hold
        self._namespace = namespace

    async def resolve(self, reference: VoiceReference) -> ResolvedVoice:
        """See pipeline.synthesis.VoiceResolver."""
        try:
            return await self._voices.resolve(replace(reference, namespace=self._namespace))
        finally:
            self._hold.release()
