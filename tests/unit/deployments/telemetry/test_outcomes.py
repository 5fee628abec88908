"""The book of how requests ended: what it says, how much it keeps, what its absence costs."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from ray.exceptions import ActorDiedError, ActorUnavailableError

from deployments.telemetry import outcomes
from deployments.telemetry.outcomes import ClusterOutcomes, Outcome, OutcomeBook
from pipeline.contracts import Quality, StageTimes, Usage, Verdict
from pipeline.errors import StageUnavailableError
from tests.waiting import until

pytestmark = pytest.mark.unit
MINE = "mine"


def outcome(request_id: str, how: str = "ok") -> Outcome:
    times = StageTimes(tier="l1", total_s=2.0, audio_s=4.0)
    quality, usage = Quality(Verdict.LOOP, is_retried=True), Usage(7, 5)
    return Outcome(request_id, how, times, quality, usage, "pcm", 8_000, 1_700_000_000.5)


def test_a_report_says_how_what_and_when():
    report = outcome("a").report()
    assert (report["request_id"], report["finish_reason"]) == ("a", "stop")
    assert report["usage"] == {"input_tokens": 7, "output_tokens": 5, "total_tokens": 12}
    assert report["quality"] == {"verdict": "loop", "is_retried": True}
    assert report["timbre"]["rtf"] == 0.5
    assert (report["sample_rate"], report["created_at"]) == (8_000, 1_700_000_000)


@pytest.mark.parametrize(
    ("how", "reason"),
    [("ok", "stop"), ("cancelled", "cancelled"), ("error", "error"), ("refused", "error")],
)
def test_reasons(how: str, reason: str):
    assert outcome("a", how).report()["finish_reason"] == reason


def test_a_book_keeps_the_last_ones_for_a_while(monkeypatch: pytest.MonkeyPatch):
    book = OutcomeBook(most=3, keep_s=60)
    for name in "abcd":
        book.put(MINE, name, {"name": name})
    book.put(MINE, "b", {"name": "newer"})
    book.put(MINE, "e", {"name": "e"})
    assert [book.find(MINE, name) for name in "abcde"] == [
        None,
        {"name": "newer"},
        None,
        {"name": "d"},
        {"name": "e"},
    ]
    now_s = time.monotonic()
    monkeypatch.setattr(outcomes.time, "monotonic", lambda: now_s + 61)
    assert book.find(MINE, "e") is None


def test_a_namespace_sees_its_own_alone():
    book = OutcomeBook()
    book.put(MINE, "a", {"name": "mine"})
    assert book.find("yours", "a") is None
    book.put("yours", "a", {"name": "yours"})
    assert (book.find(MINE, "a"), book.find("yours", "a")) == ({"name": "mine"}, {"name": "yours"})


class Method:
    def __init__(self, actor: Actor, name: str) -> None:
        self._actor, self._name = actor, name

    async def remote(self, *args: Any) -> Any:
        if self._actor.error is not None:
            raise self._actor.error
        await self._actor.go.wait()
        return getattr(self._actor.book, self._name)(*args)


class Actor:
    """A handle on a book; error: what calls of it raise."""

    def __init__(self) -> None:
        self.book, self.error, self.go = OutcomeBook(), None, asyncio.Event()
        self.go.set()

    def __getattr__(self, name: str) -> Method:
        return Method(self, name)


@pytest.fixture
def actor(monkeypatch: pytest.MonkeyPatch) -> Actor:
    made = Actor()
    monkeypatch.setattr(outcomes, "detached_actor", lambda *_: made)
    monkeypatch.setattr(outcomes, "LATE_S", 0.01)
    return made


async def test_what_one_router_tells_another_finds(actor: Actor):
    one, other = ClusterOutcomes("voices"), ClusterOutcomes("voices")
    one.start()
    one.tell(MINE, outcome("a"))
    await until(lambda: actor.book.find(MINE, "a") is not None)
    assert await other.find(MINE, "a") == outcome("a").report()
    assert await other.find(MINE, "b") is None


async def test_a_word_that_is_still_on_its_way_is_waited_for(
    actor: Actor, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(outcomes, "LATE_S", 0.2)
    one = ClusterOutcomes("voices")
    asked = asyncio.create_task(one.find(MINE, "a"))
    await asyncio.sleep(0.05)
    one.tell(MINE, outcome("a"))
    assert await asked == outcome("a").report()


@pytest.mark.parametrize("kind", [ActorUnavailableError, ActorDiedError])
async def test_without_the_actor_nothing_fails_but_the_question(actor: Actor, kind: type):
    one = ClusterOutcomes("voices")
    actor.error = kind("gone", b"x" * 16) if kind is ActorUnavailableError else kind()
    one.tell(MINE, outcome("a"))
    with pytest.raises(StageUnavailableError, match="does not answer"):
        await one.find(MINE, "a")
    actor.error = None
    one.tell(MINE, outcome("b"))
    await until(lambda: actor.book.find(MINE, "b") is not None)


async def test_words_that_nobody_takes_do_not_pile_up(
    actor: Actor, monkeypatch: pytest.MonkeyPatch
):
    actor.go.clear()
    monkeypatch.setattr(outcomes, "DEADLINE_S", 0.1)
    one = ClusterOutcomes("voices")
    for number in range(1_000):
        one.tell(MINE, outcome(str(number)))
    assert one.under_way == outcomes.MOST_UNDER_WAY
    await until(lambda: one.under_way == 0)
    actor.go.set()
    one.tell(MINE, outcome("late"))
    await until(lambda: actor.book.find(MINE, "late") is not None)
