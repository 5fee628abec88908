"""The route that says whether a file is marked as synthetic."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request

from deployments.config.marks.mark_settings import MarkSettings
from deployments.http.bodies.budget import BodyBudget
from deployments.http.bodies.read import RawBody, only_clip, read_off_loop, read_parts, receive_body
from deployments.http.errors import about_clip
from deployments.http.provenance.pages import CHECK_DOC
from deployments.marks.checks import check
from deployments.marks.search import MarkFinder


class ProvenanceRoutes:
    """The handler. finder: of watermarks. budget: of the bodies held."""

    def __init__(self, settings: MarkSettings, finder: MarkFinder, budget: BodyBudget) -> None:
        self._settings = settings
        self._finder = finder
        self._budget = budget

    def add_to(self, app: FastAPI) -> None:
        """The route of checks."""
        app.post("/v1/content_provenance_checks", **CHECK_DOC)(self._check)

    async def _check(self, request: Request) -> dict[str, Any]:
        """Whether a file is marked as synthetic: by our watermark, and by content credentials.

        The form's `file` is audio in any accepted format; its first `marks.max_check_s` seconds are
        listened to, in stretches of some ten seconds. `not_detected` proves nothing: marks can be
        removed, and others' are not known here.
        """
        with self._budget.hold() as hold:
            raw = await receive_body(request, hold)
            data, param = await read_off_loop(_file, raw)
            del raw
            with about_clip(param):
                found = await check(data, self._finder, self._settings.max_check_s)
        return found.report()


def _file(raw: RawBody) -> tuple[bytes, str]:
    return only_clip(read_parts(raw))
