# pyright: basic
"""The engine's state of one stream: its request and its slot."""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import dataclass, field

from pipeline.contracts import GROUP_S, Int32Array, TokenChunk
from pipeline.errors import TimbreError
from pipeline.stepaudio.llm.sampling import DrawState
from pipeline.stepaudio.tokens import GROUP_TOKENS

_AHEAD_S = 0.3  # of audio that a stream must have in hand to wait while others join
BEGINNING_TOKENS = 7 * GROUP_TOKENS  # a first chunk of 18 rows of the vocoder, 3 of lookahead
_BEHIND_S = 0.5  # between the steps of a stream that is behind others: it must end one day


@dataclass(slots=True, eq=False)
class EngineRequest:
    """A caller's stream. `cancelled` and `finished` change under the engine's condition only.

    submitted_s: monotonic clock. voice: whose prompt it is, as `Engine.forget` names it. is_behind:
    others go first. due_s: monotonic clock, when the answer is wanted.
    """

    prompt: Int32Array
    draws: DrawState
    budget_tokens: int
    loop: asyncio.AbstractEventLoop
    events: asyncio.Queue[TokenChunk | TimbreError]
    submitted_s: float
    voice: str
    is_behind: bool = False
    due_s: float = math.inf
    cancelled: bool = False
    finished: bool = False


@dataclass(slots=True, eq=False)
class Slot:
    """A request in work. Owned by the worker.

    ticket: order of admission. prefix_tokens: the part of the prompt that others may share, 0 for
    none. length: tokens whose keys are in the cache. token: the next one to run. produced: answer
    so far, as choices. begun_s: monotonic clock, when the first of it was handed out. turn_s: when
    it last had part in a step.
    """

    index: int
    ticket: int
    request: EngineRequest
    prefix_tokens: int = 0
    length: int = 0
    token: int = 0
    produced: list[int] = field(default_factory=list)
    emitted_tokens: int = 0
    admitted_s: float = field(default_factory=time.monotonic)
    begun_s: float | None = None
    turn_s: float = 0.0

    def takes_turn(self, now_s: float, *, has_others: bool) -> bool:
        """Whether it has part in what is done next: behind others, only now and then."""
        if self.request.is_behind and has_others and now_s - self.turn_s < _BEHIND_S:
            return False
        self.turn_s = now_s
        return True

    @property
    def work_s(self) -> float:
        """Seconds since the request got this slot."""
        return time.monotonic() - self.admitted_s

    def can_wait(self, now_s: float) -> bool:
        """Whether a listener would not hear it if the next step came some tenths of a second later.

        Before its first tokens a stream may wait: those that come with it gain as much.
        """
        if self.begun_s is None:
            return True
        made_s = self.emitted_tokens / GROUP_TOKENS * GROUP_S
        return made_s - (now_s - self.begun_s) > _AHEAD_S

    def is_due(self, chunk_tokens: int) -> bool:
        """Whether what was produced is to be handed out: at the start each group by itself.

        The vocoder begins with the first, and makes sound as soon as it has the sixth or seventh.
        """
        size = GROUP_TOKENS if self.emitted_tokens < BEGINNING_TOKENS else chunk_tokens
        return len(self.produced) - self.emitted_tokens >= size

    @property
    def is_prefilling(self) -> bool:
        return self.length < len(self.request.prompt) - 1

    def next_border(self, chunk_tokens: int) -> int:
        """Where the next chunk of prefill ends.

        Borders do not depend on whether the prefix was computed or copied, so that neither do the
        bits of what follows it.
        """
        border = len(self.request.prompt) - 1
        if self.length < self.prefix_tokens:
            border = self.prefix_tokens
        return min(self.length + chunk_tokens, border)


def whole_groups(n_tokens: int) -> int:
    """The tokens of the whole groups among the first n_tokens."""
    return n_tokens - n_tokens % GROUP_TOKENS
