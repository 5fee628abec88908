"""What routes that keep voices and consents have in common."""

from __future__ import annotations

from fastapi import Request

from deployments.config.settings import Settings
from deployments.http.bodies.budget import BodyBudget
from deployments.http.tenant import namespace_of
from deployments.voices.enrolment import Enrolment
from deployments.voices.resolver import VoiceLibrary


class EnrolledRoutes:
    """Base of their handlers. budget: of the bodies held."""

    def __init__(
        self, settings: Settings, voices: VoiceLibrary, enrolment: Enrolment, budget: BodyBudget
    ) -> None:
        self._settings = settings
        self._library = voices
        self._enrolment = enrolment
        self._budget = budget

    def _namespace(self, request: Request) -> str:
        return namespace_of(request, self._library.namespace)
