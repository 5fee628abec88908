"""Edits over HTTP: a chain of steps in one call, and each step of it afterwards."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Path, Query, Request
from fastapi.responses import Response

from deployments.config.settings import Settings
from deployments.edits.library import EditLibrary
from deployments.edits.performance import EditOrder, Performance
from deployments.http.bodies.budget import BodyBudget, Hold
from deployments.http.bodies.read import RawBody, read_off_loop, receive_body
from deployments.http.dialects.edits import ParsedEdit, read_edit
from deployments.http.dialects.openai import AudioFormat
from deployments.http.dialects.parsed_request import ParsedRequest
from deployments.http.edit_pages import (
    AUDIO_DOC,
    DELETE_DOC,
    EDIT_DOC,
    EXAMPLE_ID,
    LIST_DOC,
    LOOK_DOC,
    STEP_DOC,
)
from deployments.http.model_names import ModelNames
from deployments.http.reply import SpeechReply
from deployments.http.routes.speech import HeldVoices, allowed
from deployments.http.tenant import namespace_of
from deployments.marks.marking import Marking
from deployments.pronunciation.readings import Readings
from deployments.telemetry.outcomes import Outcomes, usage_report
from deployments.telemetry.requests import RequestMetrics
from pipeline.audio.encode import check_rate
from pipeline.contracts import OUTPUT_SAMPLE_RATE_HZ, SpeechRequest, VoiceReference

EditId = Annotated[
    str, Path(description="`X-Edit-Id` of the reply that made it", examples=[EXAMPLE_ID])
]
StepNumber = Annotated[int, Path(description="Counted from 1", examples=[1])]
EDIT_HEADER, STEPS_HEADER = "X-Edit-Id", "X-Edit-Steps"


class EditRoutes:
    """Handlers. namespace: of the tenant without a key. budget: of the bodies held."""

    def __init__(
        self,
        settings: Settings,
        edits: EditLibrary,
        namespace: str,
        metrics: RequestMetrics,
        outcomes: Outcomes,
        budget: BodyBudget,
        readings: Readings,
    ) -> None:
        self._readings = readings
        self._limits = settings.limits
        self._names = ModelNames(settings)
        self._marking = Marking(settings.marks)
        self._edits = edits
        self._namespace = namespace
        self._metrics = metrics
        self._outcomes = outcomes
        self._budget = budget

    def add_to(self, app: FastAPI) -> None:
        """Every route of edits."""
        step = "/v1/audio/edits/{edit}/steps/{step}"
        app.get("/v1/audio/edits", **LIST_DOC)(self._list)
        app.post("/v1/audio/edits", **EDIT_DOC)(self._edit)
        app.get("/v1/audio/edits/{edit}", **LOOK_DOC)(self._look)
        app.delete("/v1/audio/edits/{edit}", **DELETE_DOC)(self._delete)
        app.get(step, **STEP_DOC)(self._step)
        app.get(f"{step}/audio", **AUDIO_DOC)(self._audio)

    async def _edit(self, request: Request) -> Response:
        """Edit audio, a voice's clip, or an earlier step: one step, or a chain of them.

        Answers with the last step's audio, as it is made. Each step takes the audio tokens of the
        one before: nothing is encoded again between them. `X-Edit-Id` names the chain, which
        `from` continues at any of its steps; `X-Edit-Steps` says what answered each. What was made
        before of the same input with the same seed is not made again.
        """
        with self._budget.hold() as hold:
            parsed = await read_off_loop(self._read, await receive_body(request, hold))
            order = await self._edits.read_as(
                parsed.order,
                self._tenant(request),
                parsed.reply.voice,
                self._readings,
                parsed.reply.reading,
                is_clip=parsed.reply.upload is not None,
            )
            performance, reply = self._begun(replace(parsed, order=order), request, hold)
            return await _answered(performance, reply)

    async def _list(
        self,
        request: Request,
        after: Annotated[
            str | None, Query(description="The last id of the page before", examples=[EXAMPLE_ID])
        ] = None,
        limit: Annotated[int, Query(ge=1, le=100, description="Of a page")] = 20,
    ) -> dict[str, Any]:
        """The edits that are kept, the newest first, a page at a time."""
        page = await self._edits.book.page(self._tenant(request), limit, after or None)
        ids = [edit_id for edit_id, _ in page.edits]
        return {
            "object": "list",
            "data": [found.report(edit_id) for edit_id, found in page.edits],
            "has_more": page.has_more,
            "first_id": ids[0] if ids else None,
            "last_id": ids[-1] if ids else None,
        }

    async def _delete(self, request: Request, edit: EditId) -> dict[str, Any]:
        """Remove an edit: neither it nor its steps are found by its id any more, by any router.

        What was spoken stays as finished speech until it is evicted or its voice is deleted: the
        same chain asked for again may find it. Edits that go on from this one stay, for each holds
        its steps itself.
        """
        namespace = self._tenant(request)
        found = await self._edits.perform(EditOrder(edit_id=edit), namespace).written()
        await self._edits.book.remove(namespace, edit, found)
        return {"id": edit, "object": "audio.edit", "deleted": True}

    async def _look(self, request: Request, edit: EditId) -> Any:
        """An edit: what it was made from, and its steps."""
        order = EditOrder(edit_id=edit)
        found = await self._edits.perform(order, self._tenant(request)).written()
        return found.report(edit)

    async def _step(self, request: Request, edit: EditId, step: StepNumber) -> dict[str, Any]:
        """One step, with its audio tokens; made again where it is not kept any more."""
        order = EditOrder(edit_id=edit, upto=step)
        performance = self._edits.perform(order, self._tenant(request))
        await performance.resolve(VoiceReference())
        found, made = await performance.written(), await performance.made()
        return {
            **found.step_report(edit, step),
            "object": "audio.edit.step",
            "edit": edit,
            "tokens": made.tokens.tolist(),
            "audio_s": made.n_samples / OUTPUT_SAMPLE_RATE_HZ,
            "quality": str(made.quality),
            "usage": usage_report(made.usage),
            "answered_by": performance.answered_by,
        }

    async def _audio(
        self,
        request: Request,
        edit: EditId,
        step: StepNumber,
        response_format: Annotated[AudioFormat, Query(description="As of /v1/audio/speech")] = (
            "mp3"
        ),
        sample_rate: Annotated[
            int | None, Query(description="Hz, 8,000 to 48,000", examples=[16_000])
        ] = None,
        speed: Annotated[float, Query(ge=0.25, le=4.0, description="Of the playback")] = 1.0,
        stream_format: Annotated[
            Literal["audio", "sse"], Query(description="Bytes, or OpenAI's events")
        ] = ("audio"),
    ) -> Response:
        """The audio of a step."""
        check_rate(response_format, sample_rate, "sample_rate")
        parsed = ParsedRequest(
            upload=None,
            clip_param="edit",
            voice=None,
            request=SpeechRequest("", "", speed=speed),
            response_format=response_format,
            is_sse=stream_format == "sse",
            sample_rate_hz=sample_rate,
            voice_param="edit",
        )
        order = EditOrder(edit_id=edit, upto=step)
        with self._budget.hold() as hold:
            performance, reply = self._begun(ParsedEdit(order, parsed), request, hold)
            return await _answered(performance, reply)

    def _begun(
        self, parsed: ParsedEdit, request: Request, hold: Hold
    ) -> tuple[Performance, SpeechReply]:
        """The chain and its reply. No frame that waits holds the body beside them."""
        namespace = self._tenant(request)
        performance = self._edits.perform(parsed.order, namespace)
        asked = _on_terms(allowed(request, namespace, parsed.reply))
        reply = SpeechReply(
            asked,
            HeldVoices(performance, hold, namespace),
            performance,
            self._metrics,
            request.state.request_id,
            partial(self._outcomes.tell, namespace),
            marks=self._marking.of_reply(
                asked.response_format,
                is_marked=asked.mark is not False,
                is_whole=asked.is_whole and not asked.is_sse,
            ),
        )
        return performance, reply

    def _read(self, raw: RawBody) -> ParsedEdit:
        """A body as an order, by any thread."""
        return read_edit(raw, self._limits, self._names)

    def _tenant(self, request: Request) -> str:
        return namespace_of(request, self._namespace)


def _on_terms(asked: ParsedRequest) -> ParsedRequest:
    """With whether its audio is marked."""
    terms = replace(asked.request.terms, is_marked=asked.mark is not False)
    return replace(asked, request=replace(asked.request, terms=terms))


async def _answered(performance: Performance, reply: SpeechReply) -> Response:
    """The reply, which has begun, with what is known of the chain by then."""
    response = await reply.start()
    if performance.edit_id is not None:
        response.headers[EDIT_HEADER] = performance.edit_id
    response.headers[STEPS_HEADER] = ", ".join(performance.answered_by)
    return response
