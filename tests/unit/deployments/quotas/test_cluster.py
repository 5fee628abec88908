"""The book as routers reach it: one actor of that name, waited for a quarter of a second."""

from __future__ import annotations

import asyncio
import pickle
import threading
from typing import Any

import pytest
from ray.exceptions import ActorDiedError, ActorUnavailableError

from deployments.quotas import cluster
from deployments.quotas.accounts import Account, BookAwayError, Measure, Word
from deployments.quotas.book import QuotaBook
from deployments.quotas.cluster import ClusterBook

pytestmark = pytest.mark.unit
WORD = Word(Account("tenant/a", Measure.REQUESTS), 10, 0.0, 0.0, 0.0, 0.0, (1.0,))


class Actor:
    """A handle on a book. error: what calls raise; silent: they never answer."""

    def __init__(self) -> None:
        self.book, self.error, self.is_silent = QuotaBook(), None, False
        self.sync = self

    async def remote(self, *args: Any) -> Any:
        if self.error is not None:
            raise self.error
        if self.is_silent:
            await asyncio.sleep(60)
        return _sent(self.book.sync(*_sent(args)))


def _sent(value: Any) -> Any:
    """As it arrives in another process."""
    return pickle.loads(pickle.dumps(value))  # noqa: S301 - our own


@pytest.fixture
def actor(monkeypatch: pytest.MonkeyPatch) -> Actor:
    made = Actor()
    monkeypatch.setattr(cluster, "detached_actor", lambda *_: made)
    monkeypatch.setattr(cluster, "DEADLINE_S", 10.0)
    return made


async def test_routers_of_one_name_share_a_book(actor: Actor):
    one, other = ClusterBook("voices"), ClusterBook("voices")
    assert (await one.sync("one", [WORD])).answers[0].granted == 1
    told = await other.sync("other", [])
    assert told.n_routers == 2
    assert isinstance(WORD.account.measure, Measure)


@pytest.mark.parametrize("kind", [ActorUnavailableError, ActorDiedError])
async def test_a_book_that_is_gone_is_said_to_be_away(actor: Actor, kind: type):
    book = ClusterBook("voices")
    await book.sync("one", [])
    actor.error = kind("gone", b"x" * 16) if kind is ActorUnavailableError else kind()
    with pytest.raises(BookAwayError):
        await book.sync("one", [WORD])
    actor.error = None
    assert (await book.sync("one", [WORD])).answers[0].granted == 1


async def test_a_silent_book_is_not_waited_for(actor: Actor, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cluster, "DEADLINE_S", 0.05)
    book = ClusterBook("voices")
    actor.is_silent = True
    with pytest.raises(BookAwayError, match="no answer"):
        await book.sync("one", [WORD])


async def test_a_book_that_takes_long_to_make_is_made_once(
    actor: Actor, monkeypatch: pytest.MonkeyPatch
):
    made: list[str] = []
    go = threading.Event()

    def slow(_of: type, name: str, _namespace: str) -> Actor:
        made.append(name)
        go.wait(5)
        return actor

    monkeypatch.setattr(cluster, "detached_actor", slow)
    book = ClusterBook("voices")
    with monkeypatch.context() as in_haste:
        in_haste.setattr(cluster, "DEADLINE_S", 0.05)
        for _ in range(2):
            with pytest.raises(BookAwayError):
                await book.sync("one", [])
    go.set()
    assert (await book.sync("one", [WORD])).answers[0].granted == 1
    assert made == ["voices-quotas-i1"]
