"""Spans of one answer of the language model: its queue, until its first tokens, all of it."""

from __future__ import annotations

from pipeline.contracts import TokenChunk
from pipeline.serving.tracing import UNTRACED, Trace, now_ns

NS = 10**9


class AnswerSpans:
    """Lives in the stream's frame. trace: what they lie below."""

    def __init__(self, trace: Trace) -> None:
        self._llm = trace.began("llm")
        self._has_begun = False
        self._n_tokens = 0

    def came(self, chunk: TokenChunk) -> None:
        """Tokens are there. The first say how long they took, and so when they had a slot."""
        if not self._llm:
            return
        self._n_tokens += len(chunk.ids)
        if not self._has_begun:
            self._begin(chunk)
        if chunk.last:
            self.ended(None)

    def ended(self, error: BaseException | None) -> None:
        """The stream is over; of one that has its last tokens it was before."""
        self._llm.ended(error, tokens=self._n_tokens)
        self._llm = UNTRACED

    def _begin(self, chunk: TokenChunk) -> None:
        self._has_begun = True
        slot_ns = max(now_ns() - round(chunk.work_s * NS), self._llm.began_ns)
        self._llm.began("queue", self._llm.began_ns, stage="llm").ended(at_ns=slot_ns)
        self._llm.noted("llm first token", slot_ns)
