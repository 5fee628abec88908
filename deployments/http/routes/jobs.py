"""Jobs over HTTP: made, looked at, followed, changed, and what came of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from dataclasses import replace
from functools import partial
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Path, Query, Request
from fastapi.responses import JSONResponse, Response

from deployments.config.settings import Settings
from deployments.http.bodies.budget import BodyBudget
from deployments.http.bodies.read import RawBody, read_off_loop, receive_body
from deployments.http.dialects.openai import AudioFormat
from deployments.http.jobs import pages
from deployments.http.jobs.body import Defaults, read_again, read_job
from deployments.http.jobs.reports import is_over, told_job, told_made
from deployments.http.model_names import ModelNames
from deployments.http.provenance.opting_out import is_marked
from deployments.http.reply import SSE_MEDIA_TYPE, ClosingResponse
from deployments.http.tenant import namespace_of
from deployments.jobs.flac import from_flac
from deployments.jobs.library import Job, JobLibrary
from deployments.jobs.plan import JobOrder
from deployments.jobs.results import MANIFEST, SRT, VTT
from deployments.marks.marking import HEADER as PROVENANCE_HEADER
from deployments.marks.marking import provenance
from pipeline.audio.encode import make_encoder, whole_wav
from pipeline.errors import StageUnavailableError, UnknownJobError

JobId = Annotated[str, Path(description="As `job_…`", examples=[pages.EXAMPLE_ID])]
Number = Annotated[int, Path(description="Counted from 0", examples=[0])]
FOLLOW_S = 1.0  # between looks at a job that is followed: a run says more seldom how far it is
ALIVE_S = 10.0  # without news; a comment then says that the connection lives


class JobRoutes:
    """Handlers. namespace: of the tenant without a key. budget: of the bodies held."""

    def __init__(
        self, settings: Settings, jobs: JobLibrary, namespace: str, budget: BodyBudget
    ) -> None:
        self._settings = settings
        self._names = ModelNames(settings)
        self._jobs = jobs
        self._namespace = namespace
        self._budget = budget

    def add_to(self, app: FastAPI) -> None:
        """Every route of jobs."""
        all_jobs, one = "/v1/audio/jobs", "/v1/audio/jobs/{job_id}"
        segment = f"{one}/segments/{{segment}}"
        app.post(all_jobs, **pages.ADD_DOC)(self._add)
        app.get(all_jobs, **pages.LIST_DOC)(self._list)
        app.get(one, **pages.LOOK_DOC)(self._look)
        app.delete(one, **pages.DELETE_DOC)(self._delete)
        app.get(f"{one}/events", **pages.EVENTS_DOC)(self._events)
        app.post(f"{one}/pause", **pages.CHANGE_DOC)(self._pause)
        app.post(f"{one}/resume", **pages.CHANGE_DOC)(self._resume)
        app.post(f"{one}/cancel", **pages.CHANGE_DOC)(self._cancel)
        app.get(f"{one}/segments", **pages.SEGMENTS_DOC)(self._segments)
        app.get(segment, **pages.SEGMENT_DOC)(self._segment)
        app.get(f"{segment}/audio", **pages.AUDIO_DOC)(self._part)
        app.post(f"{segment}/regenerate", **pages.AGAIN_DOC)(self._regenerate)
        app.get(f"{one}/audio", **pages.AUDIO_DOC)(self._audio)
        app.get(f"{one}/subtitles", **pages.SUBTITLES_DOC)(self._subtitles)
        app.get(f"{one}/manifest", **pages.MANIFEST_DOC)(self._manifest)

    async def _add(
        self,
        request: Request,
        voice: Annotated[
            str | None,
            Query(description="Of a body that is the text itself", examples=["bruno"]),
        ] = None,
        response_format: Annotated[
            AudioFormat | None, Query(description="The same", examples=["mp3"])
        ] = None,
    ) -> dict[str, Any]:
        """Have a long text, a dialogue, subtitles or a table of rows spoken in the background.

        The body is JSON, a form with a `file`, or the text itself: plain, SRT, VTT or CSV. Its
        segments are spoken behind all other requests, go on where they were left whoever dies, and
        can be made anew one by one. Subtitles are spoken within their times: a cue that takes too
        long is spoken faster by an edit, then played faster within `jobs.max_stretch`; what is too
        long all the same says so in `over_s`.
        """
        read = partial(self._read, defaults=Defaults(voice, response_format))
        with self._budget.hold() as hold:
            order = await read_off_loop(read, await receive_body(request, hold))
        asked = None if order.is_marked else False
        order = replace(order, is_marked=is_marked(request, self._tenant(request), asked))
        return self._told(await self._jobs.add(self._tenant(request), order))

    async def _list(
        self,
        request: Request,
        after: Annotated[
            str | None,
            Query(description="The last id of the page before", examples=[pages.EXAMPLE_ID]),
        ] = None,
        limit: Annotated[int, Query(ge=1, le=100, description="Of a page")] = 20,
    ) -> dict[str, Any]:
        """Jobs, the newest first, a page at a time."""
        jobs, has_more = await self._jobs.page(self._tenant(request), limit, after or None)
        return {
            "object": "list",
            "data": [self._told(job) for job in jobs],
            "has_more": has_more,
            "first_id": jobs[0].id if jobs else None,
            "last_id": jobs[-1].id if jobs else None,
        }

    async def _look(self, request: Request, job_id: JobId) -> dict[str, Any]:
        """One job: how far it is, how long it will take, and where its results are."""
        return self._told(await self._found(request, job_id))

    async def _delete(self, request: Request, job_id: JobId) -> dict[str, Any]:
        """Remove a job and all that it made; one that runs is stopped."""
        await self._jobs.delete(self._tenant(request), job_id)
        return {"id": job_id, "object": "audio.job.deleted", "deleted": True}

    async def _events(self, request: Request, job_id: JobId) -> Response:
        """Follow a job: an event whenever it is further, one at its end, and then nothing more.

        Connections end with `http_options.request_timeout_s`; ask again then.
        """
        job = await self._found(request, job_id)
        events = self._followed(self._tenant(request), job)
        return ClosingResponse(events, SSE_MEDIA_TYPE, {"Cache-Control": "no-store"})

    async def _pause(self, request: Request, job_id: JobId) -> dict[str, Any]:
        """Begin no further segment; those in work are finished."""
        return self._told(await self._jobs.pause(self._tenant(request), job_id))

    async def _resume(self, request: Request, job_id: JobId) -> dict[str, Any]:
        """Go on with a paused job, or with the segments of a finished one that came to nothing."""
        return self._told(await self._jobs.resume(self._tenant(request), job_id))

    async def _cancel(self, request: Request, job_id: JobId) -> dict[str, Any]:
        """Stop for good. Segments that were made can be had one by one until the job expires."""
        return self._told(await self._jobs.cancel(self._tenant(request), job_id))

    async def _segments(
        self,
        request: Request,
        job_id: JobId,
        after: Annotated[
            int, Query(ge=-1, lt=10**6, description="The last number of the page before")
        ] = -1,
        limit: Annotated[int, Query(ge=1, le=1_000, description="Of a page")] = 100,
    ) -> dict[str, Any]:
        """Segments in order, with the guard's verdict on each, a page at a time."""
        job = await self._found(request, job_id)
        made, has_more = await self._jobs.segments(job, after, limit)
        return {"object": "list", "data": [told_made(one) for one in made], "has_more": has_more}

    async def _segment(self, request: Request, job_id: JobId, segment: Number) -> dict[str, Any]:
        """One segment."""
        job = await self._found(request, job_id)
        return told_made(await self._jobs.segment(job, segment))

    async def _part(self, request: Request, job_id: JobId, segment: Number) -> Response:
        """The audio of one segment, in the job's format, its level as it was spoken."""
        job = await self._found(request, job_id)
        flac = await self._jobs.part(job, segment)
        data, media_type = await asyncio.to_thread(_encoded, flac, job)
        return Response(data, headers=self._provenance(job), media_type=media_type)

    async def _regenerate(self, request: Request, job_id: JobId, segment: Number) -> dict[str, Any]:
        """Make one segment anew, with `seed` or with another one than before.

        The job is open again until it is made; its results stay as they were until then.
        """
        with self._budget.hold() as hold:
            body = await read_off_loop(read_again, await receive_body(request, hold))
        tenant = self._tenant(request)
        return self._told(await self._jobs.regenerate(tenant, job_id, segment, body.seed))

    async def _audio(self, request: Request, job_id: JobId) -> Response:
        """All of it in one file."""
        job = await self._found(request, job_id)
        number, note = await self._jobs.result_note(job)
        slabs = self._jobs.results.audio(job.standing.name, number, note)
        told = {"Content-Length": str(note.size_bytes), "ETag": f'"{note.sha256}"'}
        told |= self._provenance(job, is_signed=bool(note.signed))
        return ClosingResponse(slabs, note.media_type, told)

    async def _subtitles(
        self,
        request: Request,
        job_id: JobId,
        format: Annotated[Literal["srt", "vtt"], Query(description="SubRip or WebVTT")] = "srt",
    ) -> Response:
        """What is said when, in the one file."""
        kind = "application/x-subrip" if format == "srt" else "text/vtt"
        data = await self._file(request, job_id, SRT if format == "srt" else VTT)
        return Response(data, media_type=kind)

    async def _manifest(self, request: Request, job_id: JobId) -> Response:
        """What was made: times, seeds, verdicts, digests of all segments and of the one file."""
        return Response(
            await self._file(request, job_id, MANIFEST), media_type=JSONResponse.media_type
        )

    async def _file(self, request: Request, job_id: str, file: str) -> bytes:
        job = await self._found(request, job_id)
        number, _ = await self._jobs.result_note(job)
        return await self._jobs.results.file(job.standing.name, number, file)

    def _provenance(self, job: Job, *, is_signed: bool = False) -> dict[str, str]:
        is_on = self._settings.marks.enabled and job.plan.is_marked
        return {PROVENANCE_HEADER: provenance(is_marked=is_on, is_signed=is_signed)}

    async def _followed(self, namespace: str, job: Job) -> AsyncGenerator[bytes]:
        told: dict[str, Any] = {}
        silent_s = 0.0
        while True:
            now = self._told(job)
            if now != told:
                kind = "audio.job.ended" if is_over(job) else "audio.job.progress"
                yield f"event: {kind}\ndata: {json.dumps(now)}\n\n".encode()
                told, silent_s = now, 0.0
            if is_over(job):
                return
            if silent_s >= ALIVE_S:
                yield b": alive\n\n"
                silent_s = 0.0
            await asyncio.sleep(FOLLOW_S)
            silent_s += FOLLOW_S
            try:
                job = await self._jobs.get(namespace, job.id)
            except UnknownJobError:  # removed meanwhile
                return
            except StageUnavailableError:  # the store is away: as it stood, it still stands
                continue

    def _read(self, raw: RawBody, defaults: Defaults) -> JobOrder:
        """A body as an order, by any thread."""
        return read_job(raw, defaults, self._settings, self._names)

    async def _found(self, request: Request, job_id: str) -> Job:
        return await self._jobs.get(self._tenant(request), job_id)

    def _told(self, job: Job) -> dict[str, Any]:
        return told_job(job, self._jobs.keep_s)

    def _tenant(self, request: Request) -> str:
        return namespace_of(request, self._namespace)


def _encoded(flac: bytes, job: Job) -> tuple[bytes, str]:
    """A part in the job's format, and its media type. Blocks."""
    plan = job.plan
    encoder = make_encoder(plan.response_format, sample_rate_hz=plan.sample_rate_hz)
    pieces = [encoder.encode(samples) for samples in from_flac(flac)]
    data = b"".join([*pieces, encoder.finish()])
    if plan.response_format == "wav":
        data = whole_wav(data, encoder.sample_rate_hz)
    return data, encoder.media_type
