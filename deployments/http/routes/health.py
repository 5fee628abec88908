"""What operators and their machines ask: does the service live, can it serve."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response

from deployments.access.caller import Scope
from deployments.http.api_pages import answers, schema_of
from deployments.http.pages.readiness_shapes import Readiness, ReadinessInShort
from deployments.http.pages.shapes import Done
from deployments.http.tenant import caller_of

Report = Callable[[], Awaitable[dict[str, Any]]]


def add_health_routes(app: FastAPI, readiness: Report) -> None:
    """readiness: whether every stage answers, as `Readiness.report` tells it."""

    @app.get("/healthz", **_ALIVE_DOC)
    @app.get("/v1/health", **_ALIVE_DOC)  # fish-speech's name for it
    async def healthz() -> dict[str, str]:
        """This router lives."""
        return {"status": "ok"}

    @app.get("/readyz", **_READY_DOC)
    @app.get("/health", **_READY_DOC)  # vLLM-Omni's name for it
    async def readyz(request: Request) -> Response:
        """Whether every stage answers, with reasons and gauges; 503 when one does not.

        A tokenizer that answered before may be busy or away: cached voices are served meanwhile.
        A report is made once a second, however many ask. Where keys are on, reasons and gauges are
        for the scope `admin`.
        """
        report = await readiness()
        if not caller_of(request, "").may(Scope.ADMIN):
            report = {"ready": report["ready"]}
        return JSONResponse(report, status_code=200 if report["ready"] else 503)


_STAGES = {"tokenizer": {"state": "ok", "replicas": []}, "vocoder": {"state": "ok", "replicas": []}}
_ALIVE_DOC = answers({"status": "ok"}, Done)
_READY_DOC = answers(
    {"ready": True, "reasons": [], "stages": _STAGES, "cache": {}, "age_s": 0.4},
    Readiness,
    ReadinessInShort,
)
_READY_DOC["responses"][503] = {
    "description": "A stage does not answer",
    "content": {
        "application/json": {
            "schema": schema_of(Readiness, ReadinessInShort),
            "example": {
                "ready": False,
                "reasons": ["llm: the llm's replica went away, 4 s ago"],
                "stages": {
                    **_STAGES,
                    "llm": {
                        "state": "unavailable",
                        "error": "no replica of the llm answered",
                        "why": "the llm's replica went away",
                        "away_s": 4.2,
                    },
                },
                "cache": {},
                "age_s": 0.4,
            },
        }
    },
}
