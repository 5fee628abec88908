"""From moments in many processes to what a request spent where, outside of the stages."""

from __future__ import annotations

import statistics
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from load_tests.bench.report import percentile
from load_tests.bench.router.marks import Moment

SENT, HEARD = "client.sent", "client.heard"
STAGES = "in the stages"
MS = 1e3

# (from, to, what happens between): along the way of the first byte.
FIRST_BYTE = (
    (SENT, "proxy.in", "client to proxy: connection, head"),
    ("proxy.in", "router.in", "proxy to router: one handle call, the body along"),
    ("router.in", "router.read", "ingress: edge, route, body, dialect, text"),
    ("router.read", "router.voice", "voice resolved"),
    ("router.voice", "router.asks", "key and look-ups of finished speech"),
    ("router.asks", "vocoder.in", "call to the vocoder: queue, serialise, read"),
    ("vocoder.in", "vocoder.out", STAGES),
    ("vocoder.out", "vocoder.heard", "chunk back through the handle"),
    ("vocoder.heard", "router.encoded", "relay, tape, codec"),
    ("router.encoded", "router.out", "head of the reply, middleware"),
    ("router.out", "proxy.out", "router to proxy"),
    ("proxy.out", HEARD, "HTTP out"),
)
LAST_BYTE = (
    ("vocoder.out", "vocoder.heard", "last chunk back through the handle"),
    ("vocoder.heard", "router.out", "relay, tape, codec, middleware"),
    ("router.out", "proxy.out", "router to proxy"),
    ("proxy.out", HEARD, "end of the reply"),
)


@dataclass(frozen=True, slots=True)
class Asked:
    """One request as its client saw it, by the clock of the marks."""

    sent_s: float
    first_s: float
    last_s: float


@dataclass(frozen=True, slots=True)
class Span:
    """A part of the way, over many requests, milliseconds."""

    what: str
    p50_ms: float
    p95_ms: float

    @classmethod
    def over(cls, what: str, took_s: Sequence[float]) -> Span:
        return cls(what, MS * statistics.median(took_s), MS * percentile(took_s, 0.95))


@dataclass(frozen=True, slots=True)
class Way:
    """Of one kind of request: the parts of the way, and all of it without the stages."""

    kind: str
    n_requests: int
    first: Sequence[Span]
    first_total: Span
    last: Sequence[Span]
    last_total: Span


def way_of(kind: str, asked: Sequence[Asked], moments: Sequence[Moment]) -> Way:
    """Requests that came one after another: what lies between a request's ends is its own."""
    times = [moment.at_s for moment in moments]
    first: dict[str, list[float]] = {}
    last: dict[str, list[float]] = {}
    totals: list[tuple[float, float]] = []
    for one in asked:
        own = moments[bisect_left(times, one.sent_s) : bisect_right(times, one.last_s)]
        begin = {SENT: one.sent_s, HEARD: one.first_s} | _first_of_each(own)
        end = {HEARD: one.last_s} | {moment.name: moment.at_s for moment in own}
        _add(first, FIRST_BYTE, begin)
        _add(last, LAST_BYTE, end)
        totals.append(_without_stages(one, begin, end))
    to_first, to_last = zip(*totals, strict=True)
    return Way(
        kind,
        len(asked),
        [Span.over(what, took_s) for what, took_s in first.items()],
        Span.over("first byte without the stages", to_first),
        [Span.over(what, took_s) for what, took_s in last.items()],
        Span.over("last byte without the stages", to_last),
    )


def _first_of_each(moments: Sequence[Moment]) -> dict[str, float]:
    return {moment.name: moment.at_s for moment in reversed(moments)}


def _add(
    into: dict[str, list[float]],
    path: Sequence[tuple[str, str, str]],
    at_s: Mapping[str, float],
) -> None:
    """Along the marks that there are: one that is missing joins the parts on its sides."""
    begun = next((start for start, _, _ in path if start in at_s), None)
    passed: list[str] = []
    for _, end, what in path:
        passed.append(what)
        if begun is not None and end in at_s and end != begun:
            into.setdefault("; ".join(passed), []).append(at_s[end] - at_s[begun])
            begun, passed = end, []


def _without_stages(
    one: Asked, begin: Mapping[str, float], end: Mapping[str, float]
) -> tuple[float, float]:
    entered_s = begin.get("vocoder.in")
    if entered_s is None:
        return one.first_s - one.sent_s, one.last_s - one.sent_s
    made_first_s = begin["vocoder.out"] - entered_s
    made_last_s = end["vocoder.out"] - entered_s
    return one.first_s - one.sent_s - made_first_s, one.last_s - one.sent_s - made_last_s
