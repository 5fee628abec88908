"""How the last requests of the cluster ended, for callers whose stream could not tell them.

One detached actor keeps them for every router; nothing on the way of a request waits for it, and
without it requests are served as ever.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Coroutine
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from ray.exceptions import ActorDiedError, RayError

from cache_store.background import spawn
from deployments.detached import detached_actor
from pipeline.contracts import Quality, StageTimes, Usage
from pipeline.errors import StageUnavailableError
from pipeline.timing import stage_report

logger = logging.getLogger(__name__)

MOST = 1_024  # requests remembered, of the whole cluster
KEEP_S = 3_600.0
RAY_NAMESPACE = "timbre-outcomes"
INTERFACE = 2  # of the actor's methods: raised with them, since it outlives releases
DEADLINE_S = 2.0
MOST_UNDER_WAY = 64  # outcomes on their way to the actor; more are dropped
LATE_S = 0.3  # a caller may ask before the word of its stream's end arrived
REASONS = {"ok": "stop", "cancelled": "cancelled"}  # of others: error

Report = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one request ended.

    outcome: ok, error, refused or cancelled. error: as its caller was, or would have been, told.
    sound: format of the reply. began_unix_s: when it was accepted. segments: of a text that was
    spoken in segments.
    """

    request_id: str
    outcome: str
    times: StageTimes
    quality: Quality
    usage: Usage
    sound: str
    sample_rate_hz: int
    began_unix_s: float
    error: Report | None = None
    segments: Report | None = None

    def report(self) -> Report:
        """For JSON; `request_id`, `finish_reason` and `usage` as SGLang-Omni has them."""
        segments = {} if self.segments is None else {"segments": self.segments}
        return {
            "object": "audio.speech",
            "request_id": self.request_id,
            "outcome": self.outcome,
            "finish_reason": REASONS.get(self.outcome, "error"),
            "error": self.error,
            "quality": {
                "verdict": str(self.quality.verdict),
                "is_retried": self.quality.is_retried,
            },
            "usage": usage_report(self.usage),
            "timbre": stage_report(self.times),
            "response_format": self.sound,
            "sample_rate": self.sample_rate_hz,
            "created_at": int(self.began_unix_s),
            **segments,
        }


def usage_report(usage: Usage) -> dict[str, int]:
    """Tokens as OpenAI's events have them."""
    return {**asdict(usage), "total_tokens": usage.input_tokens + usage.output_tokens}


class Outcomes(Protocol):
    """Where routers write down how requests ended, and look it up. A namespace sees its own."""

    def tell(self, namespace: str, outcome: Outcome) -> None:
        """Write one down, some time soon; at once for the caller, and never an error."""
        ...

    async def find(self, namespace: str, request_id: str) -> Report | None:
        """What was written down; None for none. Raises StageUnavailableError."""
        ...


class OutcomeBook:
    """The last MOST reports of all namespaces, none older than KEEP_S.

    A request id that a namespace uses again has its newest there.
    """

    def __init__(self, most: int = MOST, keep_s: float = KEEP_S) -> None:
        self._most, self._keep_s = most, keep_s
        self._reports: OrderedDict[tuple[str, str], tuple[Report, float]] = OrderedDict()

    def put(self, namespace: str, request_id: str, report: Report) -> None:
        self._reports.pop((namespace, request_id), None)
        self._reports[namespace, request_id] = (report, time.monotonic() + self._keep_s)
        while len(self._reports) > self._most:
            self._reports.popitem(last=False)

    def find(self, namespace: str, request_id: str) -> Report | None:
        report, until_s = self._reports.get((namespace, request_id), (None, 0.0))
        return report if until_s > time.monotonic() else None


class ClusterOutcomes:
    """The cluster's book, through its actor. Use from one event loop.

    name: of the service; services of one name on one cluster share a book.
    """

    def __init__(self, name: str) -> None:
        self._name = f"{name}-outcomes-i{INTERFACE}"
        self._actor: Any = None
        self._connecting = asyncio.Lock()
        self.under_way = 0

    def start(self) -> None:
        """Have the actor made in the background, before the first request ends."""
        self._send(self._connect())

    def tell(self, namespace: str, outcome: Outcome) -> None:
        """See Outcomes."""
        if self.under_way < MOST_UNDER_WAY:
            self._send(self._call("put", namespace, outcome.request_id, outcome.report()))
        else:
            logger.info("the outcome of %s was dropped: too many wait", outcome.request_id)

    async def find(self, namespace: str, request_id: str) -> Report | None:
        """See Outcomes."""
        try:
            report = await self._call("find", namespace, request_id)
            if report is None:
                await asyncio.sleep(LATE_S)
                report = await self._call("find", namespace, request_id)
        except (RayError, TimeoutError, ValueError) as error:
            raise StageUnavailableError(
                "the list of ended requests does not answer", detail=str(error)
            ) from error
        return report

    def _send(self, work: Coroutine[Any, Any, object]) -> None:
        self.under_way += 1
        spawn("writing down an outcome", self._quietly(work))

    async def _quietly(self, work: Coroutine[Any, Any, object]) -> None:
        try:
            await work
        except (RayError, TimeoutError, ValueError) as error:
            logger.info("an outcome could not be written down: %s", error)
        finally:
            self.under_way -= 1

    async def _call(self, method: str, *args: object) -> Any:
        actor = await self._connect()
        try:
            async with asyncio.timeout(DEADLINE_S):
                return await getattr(actor, method).remote(*args)
        except ActorDiedError:
            self._actor = None  # gone for good: the next call makes another
            raise

    async def _connect(self) -> Any:
        async with self._connecting:
            if self._actor is None:
                self._actor = await asyncio.to_thread(
                    detached_actor, OutcomeBook, self._name, RAY_NAMESPACE
                )
            return self._actor
