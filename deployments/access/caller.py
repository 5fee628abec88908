"""Whose request it is, and what it may do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Scope(StrEnum):
    """What a key is for."""

    SPEAK = "speak"
    """Speech, edits' audio aside: every dialect, batches, dialogues, sessions."""
    VOICES = "voices"
    """Uploaded voices, consents, dictionaries."""
    EDITS = "edits"
    """Edits, their steps and audio."""
    JOBS = "jobs"
    """Jobs and their results."""
    CACHE = "cache"
    """The cache's pages: what is kept, warming, removing."""
    ADMIN = "admin"
    """Keys, metrics and the detail of health; allows what all others do."""
    UNMARKED = "unmarked"
    """Speech without a mark, for those who mark it themselves; no other scope includes it."""


@dataclass(frozen=True, slots=True)
class Caller:
    """One key's holder.

    namespace: of its cache, voices, consents, jobs, dictionaries and outcomes; the server alone
    makes namespaces. key_id: public, for logs and counts; empty where keys are off.
    """

    namespace: str
    key_id: str = ""
    scopes: frozenset[Scope] = frozenset()

    def may(self, scope: Scope) -> bool:
        """Whether its key has the scope."""
        if scope in self.scopes:
            return True
        return Scope.ADMIN in self.scopes and scope is not Scope.UNMARKED
