"""Several requests to speak in one, answered together, as vLLM-Omni's clients ask for it."""

from __future__ import annotations

import asyncio
import base64
import secrets
from dataclasses import replace
from functools import partial
from typing import Any

from fastapi import FastAPI, Request
from pydantic import BaseModel

from deployments.config.settings import Limits
from deployments.http.api_pages import answers, body_of, takes
from deployments.http.bodies.budget import Hold
from deployments.http.bodies.read import read_off_loop, receive_body
from deployments.http.dialects.batch import SpeechBatch, read_batch, speech_body
from deployments.http.errors import PublicError
from deployments.http.pages.shapes import Tokens
from deployments.http.routes.speech import Routes, allowed
from deployments.marks.marking import HEADER as PROVENANCE_HEADER
from deployments.marks.marking import provenance
from deployments.quotas.spending import spending
from deployments.telemetry.outcomes import Outcome, usage_report
from pipeline.errors import TimbreError

AT_ONCE = 4  # of a batch, so that it leaves room for others


class BatchResult(BaseModel):
    """One item's. What does not apply is left out."""

    index: int
    status: str
    audio_data: str | None = None
    media_type: str | None = None
    provenance: str | None = None
    error: str | None = None
    usage: Tokens | None = None


class BatchReply(BaseModel):
    """All of them, in order."""

    id: str
    results: list[BatchResult]
    total: int
    succeeded: int
    failed: int


BODIES: tuple[type[BaseModel], ...] = (SpeechBatch, BatchReply)
_USAGE = {"input_tokens": 212, "output_tokens": 55, "total_tokens": 267}
BATCH_DOC: dict[str, Any] = {
    **answers(
        {
            "id": "speech-batch-5f3a9c0d1e2f3a4b",
            "results": [
                {
                    "index": 0,
                    "status": "success",
                    "audio_data": "UklGRg==",
                    "media_type": "audio/wav",
                    "provenance": provenance(is_marked=True),
                    "usage": _USAGE,
                },
                {"index": 1, "status": "error", "error": "the text to speak is empty"},
            ],
            "total": 2,
            "succeeded": 1,
            "failed": 1,
        },
        BatchReply,
        refused=(400, 413, 503),
    ),
    **takes(
        {
            "application/json": body_of(
                SpeechBatch,
                {
                    "items": [{"input": "Hello there."}, {"input": "Goodbye."}],
                    "voice": "bruno",
                    "response_format": "wav",
                },
            )
        }
    ),
}


class BatchRoute:
    """The handler. routes: what answers one request. limits: of what one call may ask for."""

    def __init__(self, routes: Routes, limits: Limits) -> None:
        self._routes = routes
        self._limits = limits

    def add_to(self, app: FastAPI) -> None:
        """The route of batches."""
        app.post("/v1/audio/speech/batch", **BATCH_DOC)(self._batch)

    async def _batch(self, request: Request) -> dict[str, Any]:
        """Up to 32 requests at once, answered together; one that fails fails alone.

        The default format is vLLM-Omni's, wav. All texts together may be as long as that of a reply
        that is sent whole; longer ones and thousands of items are for `/v1/audio/jobs`.
        """
        room = asyncio.Semaphore(min(AT_ONCE, spending().streams or AT_ONCE))
        with self._routes.budget.hold() as hold:
            read = partial(read_batch, limits=self._limits)
            items = await read_off_loop(read, await receive_body(request, hold))

            async def one(index: int) -> dict[str, Any]:
                async with room:
                    return await self._answered(request, items[index], index)

            results = await asyncio.gather(*(one(index) for index in range(len(items))))
        succeeded = sum(result["status"] == "success" for result in results)
        return {
            "id": f"speech-batch-{secrets.token_hex(8)}",
            "results": results,
            "total": len(results),
            "succeeded": succeeded,
            "failed": len(results) - succeeded,
        }

    async def _answered(self, request: Request, item: dict[str, Any], index: int) -> dict[str, Any]:
        request_id = f"{request.state.request_id}-{index}"
        told: list[Outcome] = []
        try:
            if index:  # the first one's request is counted already
                await spending().request()
            asked = {"response_format": "wav", **item, "stream": False}
            body = await asyncio.to_thread(speech_body, asked)
            parsed = await asyncio.to_thread(self._routes.parsed, body, None)
            whole = replace(parsed, is_whole=True, is_sse=False)
            held = Hold(self._routes.budget)  # the body is held until all of it is answered
            namespace = self._routes.namespace(request)
            permitted = allowed(request, namespace, whole)
            fetched = await self._routes.fetched(permitted, held)
            completed = await self._routes.completed(fetched, namespace)
            reply = self._routes.reply_to(
                completed, held, namespace, request_id, told.append, is_batch=True
            )
            response = await reply.start()
        except TimbreError as error:
            public = PublicError.of(error, request_id)
            return {"index": index, "status": "error", "error": public.message}
        return {
            "index": index,
            "status": "success",
            "audio_data": base64.b64encode(bytes(response.body)).decode(),
            "media_type": response.media_type,
            "provenance": response.headers[PROVENANCE_HEADER],
            "usage": usage_report(told[-1].usage),
        }
