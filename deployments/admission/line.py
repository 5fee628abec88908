"""Answers that are in work or wait: whose they are, and who of those that wait is next."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from deployments.admission.clock import Turn
from deployments.admission.costs import ROW_S
from deployments.admission.forecast import Course
from pipeline.serving.listener import Listener
from pipeline.serving.terms import Service, Terms

CLAIM_S = 2.0  # a tenant that was refused is still one that wants something


@dataclass(frozen=True, slots=True)
class Demand:
    """What an answer takes. audio_s: as long as it will probably sound. speed: of its player."""

    size_bytes: int
    audio_s: float
    chunk_rows: Sequence[int]
    speed: float = 1.0


@dataclass(slots=True, eq=False)
class Asked:
    """One answer, from its request to its end. Times are of the monotonic clock.

    due_s: of its first audio, or of all of a whole one. begin_s: when it began, or is predicted to.
    turn: set when it may begin, where it had to wait.
    """

    number: int
    terms: Terms
    demand: Demand
    asked_s: float
    due_s: float
    begin_s: float
    listener: Listener
    turn: Turn | None = field(default=None)

    @property
    def is_batch(self) -> bool:
        return self.terms.service is Service.BATCH

    @property
    def is_whole(self) -> bool:
        return self.terms.service is Service.WHOLE

    @property
    def llm_due_s(self) -> float | None:
        """As the language model takes it: a batch says nothing."""
        return None if self.is_batch else self.due_s

    @property
    def tenant(self) -> str:
        return self.terms.tenant

    def course(self, ready_s: float, row_drawn_s: float) -> Course:
        """How it stands. ready_s: when the tokens of its next chunk are there, at the earliest."""
        demand, heard = self.demand, self.listener
        sizes = demand.chunk_rows[min(heard.pieces, len(demand.chunk_rows) - 1) :]
        rows = math.ceil((demand.audio_s - heard.audio_s) / ROW_S)
        return Course(
            rows=max(rows, sizes[0]),
            sizes=sizes,
            ready_s=ready_s,
            row_drawn_s=row_drawn_s,
            dry_s=self._dry_s(),
            whole_due_s=self.due_s if self.is_whole else None,
            speed=demand.speed,
        )

    def _dry_s(self) -> float | None:
        dry_s = self.listener.dry_at_s
        if dry_s is None and self.terms.is_begun and not self.is_whole:
            return self.due_s  # what it plays now is an earlier part
        return dry_s


class Shares:
    """How much of the service is each tenant's. weights: by tenant, 1 for others."""

    def __init__(self, weights: Mapping[str, float]) -> None:
        self._weights = weights
        self._claims: dict[str, float] = {}

    def used(self, tenant: str, asked: Sequence[Asked]) -> float:
        """What a tenant has of these, by its weight."""
        return sum(one.tenant == tenant for one in asked) / self._weight(tenant)

    def claim(self, tenant: str, until_s: float) -> None:
        """A tenant was refused, and may ask again until then."""
        self._claims[tenant] = max(until_s + CLAIM_S, self._claims.get(tenant, 0.0))

    def has_its_share(self, tenant: str, asked: Sequence[Asked], places: int, now_s: float) -> bool:
        """Whether others want some, and the tenant has what is its own of `places`.

        asked: in work or waiting. places: how many can be in work at a time.
        """
        self._claims = {name: until for name, until in self._claims.items() if until > now_s}
        tenants = {tenant, *self._claims, *(one.tenant for one in asked)}
        if len(tenants) == 1:
            return False
        own = self._weight(tenant) / sum(map(self._weight, tenants))
        mine = sum(one.tenant == tenant for one in asked)
        return mine >= max(1.0, own * places)

    def _weight(self, tenant: str) -> float:
        return self._weights.get(tenant, 1.0)


class Order:
    """Who is served before whom.

    The rest of a reply that is heard already, then the tenant that has least of its share, then who
    is due first; batches last.
    """

    def __init__(self, running: Sequence[Asked], shares: Shares) -> None:
        self._running, self._shares = running, shares

    def __call__(self, one: Asked) -> tuple[bool, bool, float, float, int]:
        used = self._shares.used(one.tenant, self._running)
        return one.is_batch, not one.terms.is_begun, used, one.due_s, one.number
