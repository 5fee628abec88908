"""Where the time of a request goes, as spans of a trace. Knows nothing of what becomes of them.

A `Trace` is one span that others lie below. It travels between processes as W3C's traceparent.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TypeAlias, TypeVar

Result = TypeVar("Result")
Attribute: TypeAlias = str | int | float | bool

_PARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
_SAMPLED = 1  # the one flag that is defined


now_ns = time.time_ns
LEAST_WAIT_NS = 1_000_000  # a shorter one says nothing


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of time that is over."""

    name: str
    trace_id: int
    """128 bits, as `span_id` has 64; neither is 0."""
    span_id: int
    parent_id: int
    """0 for the first of a trace."""
    began_ns: int
    """Nanoseconds since 1970, as of all spans: clocks of machines differ by what NTP leaves."""
    ended_ns: int
    attributes: dict[str, Attribute]
    error: str = ""
    """What ended it, a class of errors; empty for an end as it should be."""


Sink: TypeAlias = Callable[[Span], None]


@dataclass(frozen=True, slots=True)
class Parent:
    """What a traceparent says."""

    trace_id: int
    span_id: int
    is_sampled: bool

    @classmethod
    def read(cls, text: str | None) -> Parent | None:
        """None for what is no traceparent."""
        match = _PARENT.fullmatch(text or "")
        if match is None:
            return None
        trace_id, span_id, flags = (int(part, 16) for part in match.groups())
        return cls(trace_id, span_id, bool(flags & _SAMPLED)) if trace_id and span_id else None


@dataclass(frozen=True, slots=True)
class Sent:
    """What a process of ours sends another: a traceparent, and when it was sent."""

    parent: Parent
    at_ns: int

    @classmethod
    def read(cls, text: str | None) -> Sent | None:
        """None for what is none, or is not sampled."""
        parent, _, at_ns = (text or "").partition(";")
        told = Parent.read(parent)
        if told is None or not told.is_sampled or not at_ns.isdecimal():
            return None
        return cls(told, int(at_ns))


@dataclass(frozen=True, slots=True)
class Trace:
    """A span that has begun, whose children are noted as they end. Safe from any thread.

    Without a sink nothing is sampled: every method is a no-op.
    """

    sink: Sink | None = None
    trace_id: int = 0
    span_id: int = 0
    parent_id: int = 0
    name: str = ""
    began_ns: int = 0
    attributes: dict[str, Attribute] = field(default_factory=dict[str, Attribute])

    def __bool__(self) -> bool:
        return self.sink is not None

    def sent(self) -> str:
        """To another process of ours, which lies below this span from now on; see `Sent`.

        Empty where nothing is sampled.
        """
        return f"00-{self.hex_id}-{self.span_id:016x}-01;{now_ns()}" if self else ""

    @property
    def hex_id(self) -> str:
        """The trace's id as collectors show it; empty where nothing is sampled."""
        return f"{self.trace_id:032x}" if self else ""

    def began(self, name: str, began_ns: int = 0, **attributes: Attribute) -> Trace:
        """A span below this one, for `ended`; it began now, or when it is said."""
        if self.sink is None:
            return self
        at_ns = began_ns or now_ns()
        ids = (self.sink, self.trace_id, new_id(64), self.span_id)
        return Trace(*ids, name, at_ns, attributes)

    def ended(
        self, error: BaseException | None = None, at_ns: int = 0, **attributes: Attribute
    ) -> None:
        """This span ends now, or when it is said."""
        if self.sink is None:
            return
        span = Span(
            self.name,
            self.trace_id,
            self.span_id,
            self.parent_id,
            self.began_ns,
            at_ns or now_ns(),
            {**self.attributes, **attributes},
            "" if error is None else type(error).__name__,
        )
        self.sink(span)

    def told(self, **attributes: Attribute) -> None:
        """More about this span, before it ends."""
        if self.sink is not None:
            self.attributes.update(attributes)

    def noted(self, name: str, began_ns: int, **attributes: Attribute) -> None:
        """A span below this one that ends now. began_ns: see `now_ns`."""
        if self.sink is not None:
            self.began(name, began_ns, **attributes).ended()

    def waited(self, name: str, began_ns: int) -> None:
        """`noted`, of a wait that is worth a span."""
        if self.sink is not None and now_ns() - began_ns >= LEAST_WAIT_NS:
            self.noted(name, began_ns)

    @contextmanager
    def span(self, name: str, **attributes: Attribute) -> Iterator[Trace]:
        """A span below this one, in which `here` is for the duration of the context.

        Around no `yield` of a generator: whoever reads it may be in another context each time.
        """
        if self.sink is None:
            yield self
            return
        below = self.began(name, 0, **attributes)
        try:
            with inside(below):
                yield below
        except BaseException as error:
            below.ended(error)
            raise
        below.ended()


UNTRACED = Trace()
_HERE: ContextVar[Trace] = ContextVar("trace", default=UNTRACED)


def here() -> Trace:
    """The span that this code runs in."""
    return _HERE.get()


@contextmanager
def inside(trace: Trace) -> Iterator[None]:
    """Run in a span, for the duration of the context."""
    token = _HERE.set(trace)
    try:
        yield
    finally:
        _HERE.reset(token)


def in_turn(trace: Trace, work: Callable[[], Result]) -> Callable[[], Result]:
    """`work` for another thread, with a span of how long it waits there from now on."""
    asked_ns = now_ns()

    def run() -> Result:
        trace.waited("turn", asked_ns)
        return work()

    return run


def new_id(bits: int) -> int:
    """Of a span or a trace."""
    return random.getrandbits(bits) or 1
