"""What stands around the cards: how much of it a load takes, and where it saturates."""

from __future__ import annotations

import math
from dataclasses import dataclass

from deployments.capacity.profile import Profile

GOAL = 0.6  # of a process: beyond it waiting grows fast
CLAIM_AND_PUBLISH = 2  # calls of the index for a voice that is encoded
READ_AND_WRITE = 2  # objects of the store for what is made and kept: looked for, then written


@dataclass(frozen=True, slots=True)
class Load:
    """What is asked for, a second."""

    rps: float
    audio_s: float
    """Mean, of an answer."""
    voice_hits: float
    """Share of the voices, where speech is made."""
    speech_hits: float
    """Share of all requests."""
    kept_share: float
    """Of the speech that is made: looked for and kept."""
    replicas: int
    """Of all stages, that the controller looks after."""

    @property
    def made_rps(self) -> float:
        return self.rps * (1 - self.speech_hits)

    @property
    def kept_rps(self) -> float:
        """Requests whose speech is looked for: hits, and what is kept of what is made."""
        return self.rps * self.speech_hits + self.made_rps * self.kept_share

    def amounts(self) -> dict[str, float]:
        """By what a limit counts; see profile.Limit."""
        encoded_rps = self.made_rps * (1 - self.voice_hits)
        return {
            "audio_s": (self.rps - self.kept_rps) * self.audio_s,
            "kept_audio_s": self.kept_rps * self.audio_s,
            "look_up": encoded_rps * CLAIM_AND_PUBLISH,
            "object": (encoded_rps + self.made_rps * self.kept_share) * READ_AND_WRITE,
            "replica": float(self.replicas),
        }


@dataclass(frozen=True, slots=True)
class Around:
    """One kind of process, or the store, under a load."""

    what: str
    busy: float
    """Of one: cores, or of a store its whole rate."""
    needed: int
    """So many, each at most GOAL busy."""
    most: int | None
    """That there can be; None without a bound."""
    saturates_rps: float
    """Requests a second at which all that there can be are busy all the time; of what has no bound,
    at which one is. Infinite where nothing of this load reaches it."""
    sources: tuple[str, ...]

    @property
    def is_enough(self) -> bool:
        return self.most is None or self.needed <= self.most


def around(profile: Profile, load: Load) -> list[Around]:
    """Every limit of the profile, kinds in their order there."""
    amounts = load.amounts()
    found: list[Around] = []
    for what in dict.fromkeys(one.what for one in profile.limits):
        parts = [one for one in profile.limits if one.what == what]
        busy = sum(one.core_s * amounts[one.per] for one in parts)
        most = parts[0].most
        at_rps = load.rps * (most or 1) / busy if busy else math.inf
        sources = tuple(dict.fromkeys(one.source for one in parts))
        needed = max(math.ceil(busy / GOAL), 1)
        found.append(Around(what, busy, needed, most, at_rps, sources))
    return found
