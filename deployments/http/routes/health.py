"""What operators and their machines ask: does the service live, can it serve."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import FastAPI
from fastapi.responses import JSONResponse, Response

Report = Callable[[], Awaitable[dict[str, Any]]]


def add_health_routes(app: FastAPI, readiness: Report) -> None:
    """readiness: whether every stage answers, as `Readiness.report` tells it."""

    @app.get("/healthz")
    @app.get("/v1/health", include_in_schema=False)  # fish-speech's name for it
    async def healthz() -> dict[str, str]:
        """This router lives."""
        return {"status": "ok"}

    @app.get("/readyz")
    @app.get("/health", include_in_schema=False)  # vLLM-Omni's name for it
    async def readyz() -> Response:
        """Whether every stage answers, with their gauges; 503 when one does not.

        A tokenizer that answered before may be busy or away: cached voices are served meanwhile.
        """
        report = await readiness()
        return JSONResponse(report, status_code=200 if report["ready"] else 503)
