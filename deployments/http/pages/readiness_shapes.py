"""What is told of the service's health, in full and in short."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel


class Readiness(BaseModel):
    """Whether every stage answers. stages: the gauges of their replicas. age_s: of this report.

    reasons: what does not answer, of stages and of the cache's tiers, which are not needed.
    """

    ready: bool
    reasons: list[str]
    stages: dict[str, Any]
    cache: dict[str, Any]
    age_s: float


class ReadinessInShort(BaseModel):
    """The same for those whose key does not say that they may know more."""

    ready: bool
