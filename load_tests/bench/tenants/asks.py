"""What a tenant asks: for another's things by their ids, and for what another had made before."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np

from pipeline.audio.decode import decode_clip
from tests.audio_files import wav
from tests.http_app import CLIP
from tests.two_tenants import CALLS_BY_ID, SPEECH, Call, Tenant, another, filled, settle

SETS = 6  # of things that the other has; as many that nobody has
BY_NAME: list[Call] = [
    ("name", "POST", "/v1/audio/speech", {"json": {**SPEECH, "voice": "@"}}),
    ("clip", "DELETE", "/v1/cache/@", {}),
]
ENCODED, SPOKEN = "encode a clip that the other has encoded", "speak what the other has kept"
_LEVELS = 100_000


@dataclass(frozen=True, slots=True)
class Ask:
    """kind: requests of one kind are compared. is_theirs: for the other's; else for nobody's."""

    kind: str
    is_theirs: bool
    method: str
    path: str
    sent: dict[str, Any]
    asked: str = ""
    """The id, which a refusal may quote."""


@dataclass(slots=True)
class Timed:
    """Of one kind, by clock, and by whether it was the other's.

    answers: status, cache and text, counted.
    """

    took_s: dict[tuple[str, bool], list[float]] = field(default_factory=lambda: defaultdict(list))
    answers: dict[bool, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))

    def add(self, ask: Ask, reply: httpx.Response, took_s: Mapping[str, float]) -> None:
        """took_s: by clock."""
        for clock, seconds in took_s.items():
            self.took_s[clock, ask.is_theirs].append(seconds)
        said = "audio" if reply.is_success else reply.text.replace(ask.asked or "\0", "@")
        told = f"{reply.status_code} {reply.headers.get('x-cache', '')} {said}"
        self.answers[ask.is_theirs][told] += 1

    @property
    def is_told_by_answers(self) -> bool:
        """Whether one of the two was answered in a way that the other was not."""
        return set(self.answers[True]) != set(self.answers[False])


async def settled(owner: Tenant) -> list[dict[str, str]]:
    """Ids of what a tenant has, set by set."""
    sets = list[dict[str, str]]()
    for number in range(SETS):
        await settle(owner, number)
        sets.append(dict(owner.ids))
    return sets


def by_id(
    sets: Sequence[dict[str, str]], rounds: int, chance: random.Random, *, is_changing: bool = True
) -> Iterator[Ask]:
    """Each call by id, `rounds` times for the other's and for nobody's.

    Every id is asked as often as any other of its kind: the service remembers for half a second
    that a tenant has no such voice. is_changing: also what changes or ends what it finds.
    """
    invented = [{kind: another(found, chance) for kind, found in ids.items()} for ids in sets]
    for kind, method, path, sent in (*CALLS_BY_ID, *BY_NAME):
        if not is_changing and (method != "GET" or path.endswith("/events")):
            continue
        for number in range(rounds):
            for is_theirs, one_set in ((True, sets), (False, invented)):
                asked = one_set[number % len(sets)][kind]
                where = path.replace("@", asked)
                label = f"{method} {path} ({kind})"
                yield Ask(label, is_theirs, method, where, filled(sent, asked), asked)


async def by_content(owner: Tenant, pairs: int, chance: random.Random) -> list[Ask]:
    """Clips and texts of which the owner has had every other one, each to be asked once."""
    asks = list[Ask]()
    clip = decode_clip(CLIP)
    for number, level in enumerate(chance.sample(range(_LEVELS), 2 * pairs)):
        samples = clip.samples[np.newaxis] * np.float32(1 - level / (2 * _LEVELS))
        sent = {"content": wav(samples, clip.sample_rate_hz)}
        asks.append(Ask(ENCODED, number % 2 == 0, "POST", "/v1/cache/warm", sent))
    for number, digits in enumerate(chance.sample(range(100_000, 1_000_000), 2 * pairs)):
        body = {**SPEECH, "input": f"My number is {digits}.", "voice": "bruno", "seed": 7}
        asks.append(Ask(SPOKEN, number % 2 == 0, "POST", "/v1/audio/speech", {"json": body}))
    for ask in asks:
        if ask.is_theirs:
            await owner.made(ask.method, ask.path, **ask.sent)
    return asks
