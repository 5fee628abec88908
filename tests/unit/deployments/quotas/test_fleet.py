"""Several routers with one book: as exact as one router would be, mostly without asking."""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from typing import Any

import pytest

from deployments.quotas.accounts import Account, Measure
from deployments.quotas.book import HELD_WAIT_S, LEASE_S, SETTLE_S
from deployments.quotas.purse import ShortError
from pipeline.errors import StageUnavailableError
from tests.quota_fleet import TENANT, Fleet

pytestmark = pytest.mark.unit
WITHIN = 0.1
MINUTE_S = 60.0


async def settled(n_routers: int, **rest: Any) -> Fleet:
    """Routers that know of each other, with a book that is not new."""
    fleet = Fleet(n_routers, **rest)
    await fleet.pass_s(SETTLE_S + 1)
    return fleet


async def admitted(fleet: Fleet, limit: float, per_s: float, seconds: float) -> list[float]:
    """When requests were let in, of those that come at random times to random routers."""
    at, end_s, told_s = [], fleet.now_s + seconds, fleet.now_s
    weights = [fleet.draw.random() ** 2 for _ in fleet.routers]
    while fleet.now_s < end_s:
        fleet.now_s += fleet.draw.expovariate(per_s)
        if fleet.now_s - told_s >= 1.0:
            told_s = fleet.now_s
            await fleet.tell()
        [router] = fleet.draw.choices(range(len(fleet.routers)), weights)
        if await fleet.ask(router, limit):
            at.append(fleet.now_s)
    return at


def most_in_a_minute(at: list[float]) -> int:
    return max(
        (bisect_left(at, begin_s + MINUTE_S) - number for number, begin_s in enumerate(at)),
        default=0,
    )


@pytest.mark.parametrize("n_routers", [1, 2, 5, 8])
@pytest.mark.parametrize(("limit", "over"), [(7, 5.0), (60, 3.0), (600, 1.5)])
async def test_no_minute_has_more_and_no_crowd_gets_much_less(
    n_routers: int, limit: int, over: float
):
    fleet = await settled(n_routers, seed=limit + n_routers)
    at = await admitted(fleet, limit, over * limit / MINUTE_S, 180.0)
    assert most_in_a_minute(at) <= limit
    a_minute = len(at) / 3
    assert a_minute >= (1 - WITHIN) * limit


@pytest.mark.parametrize("share", [0.5, 0.9])
async def test_who_stays_below_the_limit_is_never_refused(share: float):
    fleet = await settled(4)
    refused = 0
    for _ in range(4 * 60):
        fleet.now_s += 60 / (120 * share)
        await fleet.tell()
        refused += not await fleet.ask(fleet.draw.randrange(4), 120)
    assert refused == 0


@pytest.mark.parametrize("limit", [1, 3, 20, 100])
async def test_a_burst_gets_all_of_it_whoever_else_holds_leases(limit: int):
    fleet = await settled(4)
    await fleet.tell()
    first = await fleet.ask(0, limit)
    let_in = [await fleet.ask(1, limit) for _ in range(2 * limit)]
    assert first
    assert (1 - WITHIN) * limit <= 1 + sum(let_in) <= limit


async def test_a_burst_at_once_on_all_routers_gets_no_more():
    fleet = await settled(4)
    asked = [fleet.ask(number % 4, 50) for number in range(200)]
    assert 45 <= sum(await asyncio.gather(*asked)) <= 50


async def test_a_busy_tenant_is_let_in_from_memory():
    fleet = await settled(2)
    await fleet.ask(0, 6_000)
    await fleet.ask(1, 6_000)
    before = fleet.book.calls
    for _ in range(100):  # 100 a second
        assert await fleet.ask(0, 6_000)
    assert fleet.book.calls - before <= 2


async def test_all_that_a_request_needs_is_asked_at_once_and_none_taken_where_one_lacks():
    fleet = await settled(1)
    [router] = fleet.routers
    wants = [
        (Account(f"key/{number}", Measure.STREAMS), limit, 1.0)
        for number, limit in enumerate((2.0, 1.0, 2.0))
    ]
    before = fleet.book.calls
    grant = await router.reserve(wants)
    assert fleet.book.calls - before == 1
    with pytest.raises(ShortError, match="key/1"):
        await router.reserve(wants)
    grant.close()
    await fleet.pass_s(1)
    for account, limit, _ in wants:
        assert router.purse(account, limit).taken == 0
    assert await router.reserve([wants[0]])
    assert await router.reserve([wants[0]])


async def test_a_refused_tenant_does_not_ask_the_book_each_time():
    fleet = await settled(1)
    assert await fleet.ask(0, 1)
    assert not await fleet.ask(0, 1)
    before = fleet.book.calls
    assert not any([await fleet.ask(0, 1) for _ in range(1_000)])
    assert fleet.book.calls == before


async def test_accounts_do_not_mix():
    fleet = await settled(1)
    assert await fleet.take(0, Measure.STREAMS, 1, of="tenant/a") is not None
    assert await fleet.take(0, Measure.STREAMS, 1, of="tenant/a") is None
    assert await fleet.take(0, Measure.STREAMS, 1, of="tenant/b") is not None


async def test_streams_are_counted_over_all_routers_and_free_when_they_end():
    fleet = await settled(3)
    taken = [await fleet.take(number % 3, Measure.STREAMS, 5) for number in range(5)]
    assert all(taken)
    assert await fleet.take(0, Measure.STREAMS, 5) is None
    taken[1].close()
    await asyncio.sleep(0.01)  # what is told in the background
    fleet.now_s += 0.3
    assert await fleet.take(2, Measure.STREAMS, 5) is not None
    assert await fleet.take(1, Measure.STREAMS, 5) is None


async def test_what_a_dead_router_held_is_free_again():
    fleet = await settled(2)
    for _ in range(4):
        assert await fleet.take(0, Measure.STREAMS, 4)
    assert await fleet.take(1, Measure.STREAMS, 4) is None
    del fleet.routers[0]
    await fleet.pass_s(LEASE_S + 1)
    assert await fleet.take(0, Measure.STREAMS, 4) is not None


async def test_audio_is_charged_as_it_is_sent_and_the_rest_given_back():
    fleet = await settled(2)
    grant = await fleet.take(0, Measure.AUDIO_MINUTE, 60, 40.0)
    assert grant is not None
    grant.spend(10.0)
    grant.close()
    await fleet.pass_s(2)
    other = await fleet.take(1, Measure.AUDIO_MINUTE, 60, 45.0)
    assert other is not None
    other.spend(45.0)
    other.close()
    await fleet.pass_s(2)
    last = await fleet.take(1, Measure.AUDIO_MINUTE, 60, 20.0)
    assert last is not None, "five seconds are left: what is begun with them is finished"
    assert await fleet.take(0, Measure.AUDIO_MINUTE, 60, 1.0) is None


async def test_what_is_only_held_is_worth_asking_for_again_soon():
    fleet = await settled(2)
    assert await fleet.take(0, Measure.AUDIO_MINUTE, 60, 80.0) is not None
    with pytest.raises(ShortError) as caught:
        await fleet.routers[1].reserve([(Account(TENANT, Measure.AUDIO_MINUTE), 60, 5.0)])
    assert caught.value.wait_s == HELD_WAIT_S


async def test_who_went_over_pays_by_waiting():
    fleet = await settled(1)
    grant = await fleet.take(0, Measure.AUDIO_MINUTE, 30, 5.0)
    assert grant is not None
    for _ in range(75):
        grant.spend(1.0)
    grant.close()
    await fleet.pass_s(1)
    waited = 0
    while await fleet.take(0, Measure.AUDIO_MINUTE, 30, 1.0) is None:
        await fleet.pass_s(1)
        waited += 1
    assert waited == pytest.approx(120, abs=5)


async def test_over_time_random_speech_is_within_a_tenth():
    fleet, sent = await settled(4, seed=3), 0.0
    began_s = fleet.now_s
    while fleet.now_s - began_s < 900:
        await fleet.pass_s(fleet.draw.uniform(0.1, 2.0))
        likely_s = fleet.draw.uniform(1, 12)
        grant = await fleet.take(fleet.draw.randrange(4), Measure.AUDIO_MINUTE, 60, likely_s)
        if grant is not None:
            audio_s = likely_s * fleet.draw.uniform(0.6, 1.4)
            grant.spend(audio_s)
            grant.close()
            sent += audio_s
    assert sent == pytest.approx(900, rel=WITHIN)


async def test_what_failed_is_refunded():
    fleet = await settled(2)
    grant = await fleet.take(0, Measure.REQUESTS, 1)
    assert grant is not None
    grant.spend(1.0)
    grant.close()
    assert not await fleet.ask(1, 1)
    grant.refund()
    await fleet.pass_s(1)
    assert await fleet.ask(1, 1)


async def test_without_the_book_each_router_has_its_share_for_a_while():
    fleet = await settled(4, alone_s=100.0)
    await fleet.pass_s(2)
    fleet.book.is_away = True
    let_in = [await fleet.ask(number % 4, 40) for number in range(400)]
    assert 36 <= sum(let_in) <= 40
    await fleet.pass_s(101)
    with pytest.raises(StageUnavailableError, match="cannot be found out"):
        await fleet.ask(0, 40)


async def test_alone_no_router_spends_what_another_one_has_spent():
    fleet = await settled(2)
    assert all([await fleet.ask(0, 40) for _ in range(33)])
    assert all([await fleet.ask(1, 40) for _ in range(2)])
    await fleet.pass_s(1)
    fleet.book.is_away = True
    await fleet.pass_s(1)
    more = sum([await fleet.ask(number % 2, 40) for number in range(100)])
    assert 35 + more <= 1.1 * 40
    await fleet.pass_s(62)
    assert sum([await fleet.ask(number % 2, 40) for number in range(100)]) == 40


async def test_what_was_spent_meanwhile_counts_when_the_book_is_back():
    fleet = await settled(2)
    await fleet.pass_s(2)
    fleet.book.is_away = True
    assert sum([await fleet.ask(number % 2, 20) for number in range(100)]) == 20
    await fleet.pass_s(10)
    fleet.book.is_away = False
    await fleet.pass_s(2)
    assert not await fleet.ask(0, 20)
    await fleet.pass_s(62)
    assert await fleet.ask(0, 20)


async def test_a_new_book_is_told_what_was_spent():
    fleet = await settled(3)
    assert sum([await fleet.ask(number % 3, 30) for number in range(90)]) == 30
    held = await fleet.take(0, Measure.STREAMS, 1)
    assert held is not None
    fleet.lose_book()
    await fleet.pass_s(2)
    assert not await fleet.ask(0, 30)
    assert await fleet.take(1, Measure.STREAMS, 1) is None


async def test_a_caller_that_goes_away_while_it_asks_takes_nothing():
    fleet = await settled(1)
    asked = asyncio.create_task(fleet.take(0, Measure.STREAMS, 1))
    await asyncio.sleep(0)
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    await fleet.pass_s(2)
    assert await fleet.take(0, Measure.STREAMS, 1) is not None


async def test_a_changed_limit_counts_at_once():
    fleet = await settled(1)
    assert await fleet.ask(0, 1)
    assert not await fleet.ask(0, 1)
    fleet.now_s += 0.3
    assert await fleet.ask(0, 5)


async def test_who_asks_for_nothing_any_more_is_forgotten():
    fleet = await settled(1)
    for number in range(50):
        grant = await fleet.take(0, Measure.REQUESTS, 9, of=f"tenant/{number}")
        assert grant is not None
        grant.spend(1.0)
        grant.close()
    [router] = fleet.routers
    await fleet.pass_s(200)
    running = asyncio.create_task(router.run())
    await asyncio.sleep(0.01)
    running.cancel()
    assert router.n_accounts == fleet.book.book.n_accounts == 0
