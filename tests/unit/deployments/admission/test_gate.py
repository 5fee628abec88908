"""Places by count and by bytes, classes, shares and deadlines; nobody runs dry, none is lost."""

from __future__ import annotations

import asyncio
import pickle
import time

import pytest

from deployments.admission.costs import ServiceCosts
from deployments.admission.gate import AdmissionGate, Permit, Places
from deployments.admission.line import Demand
from deployments.config.admission_settings import AdmissionSettings
from pipeline.errors import CapacityError, OverShareError, TextError, TooLargeError
from pipeline.serving.terms import Service, Terms

pytestmark = pytest.mark.unit

CHUNKS = (18, 15, 21, 30, 48, 64)
STREAM, WHOLE, BATCH = Terms(), Terms(Service.WHOLE), Terms(Service.BATCH)


def costs(row_s: float = 0.005, lead_in_s: float = 0.2) -> ServiceCosts:
    """Of a vocoder that takes so long for a row: 0.005 is some six seconds of audio a second."""
    known = ServiceCosts()
    known.decoded(64, 1, 75 * row_s)
    known.begin()
    known._lead_in.restart(lead_in_s)
    return known


def gate(
    streams: int = 8,
    max_bytes: int | None = None,
    waiting: int | None = None,
    *,
    row_s: float = 0.005,
    **settings: object,
) -> AdmissionGate:
    return AdmissionGate(
        AdmissionSettings.model_validate(settings),
        Places(streams, max_bytes, waiting),
        costs(row_s),
    )


def ask(
    admission: AdmissionGate, terms: Terms = STREAM, size_bytes: int = 1, audio_s: float = 5.5
) -> Permit:
    return admission.permit(terms, Demand(size_bytes, audio_s, CHUNKS))


async def entered(permit: Permit, *, or_refused: bool = False) -> bool:
    """Whether its turn is now; it is taken if so. or_refused: it may be refused."""
    try:
        async with asyncio.timeout(0.001):
            await permit.acquire()
    except TimeoutError:
        return False
    except CapacityError:
        assert or_refused
        return False
    return True


async def refusal(permit: Permit) -> CapacityError:
    """What one is told at once who is not served."""
    began_s = time.monotonic()
    with pytest.raises(CapacityError) as caught:
        await permit.acquire()
    assert time.monotonic() == began_s
    return caught.value


async def plays(permit: Permit, audio_s: float, every_s: float) -> None:
    """An answer that is made, in chunks, and is over."""
    await permit.acquire()
    made_s = 0.0
    while made_s < audio_s:
        await asyncio.sleep(every_s)
        permit.listener.heard(0.9, time.monotonic())
        made_s += 0.9
    permit.release()


def blind(streams: int = 10, max_bytes: int | None = None, waiting: int | None = None):
    return gate(streams, max_bytes, waiting, enabled=False)


# Places and bytes.


async def test_streams_are_counted() -> None:
    permits = [ask(admission := blind(2)), ask(admission), ask(admission)]
    assert [await entered(permit) for permit in permits] == [True, True, False]
    permits[0].release()
    assert await entered(ask(admission))


async def test_bytes_are_counted() -> None:
    admission = blind(10, 100)
    first, second, third = (ask(admission, size_bytes=n) for n in (60, 40, 1))
    assert [await entered(p) for p in (first, second, third)] == [True, True, False]
    assert admission.used_bytes == 100
    second.release()
    assert await entered(ask(admission, size_bytes=1))
    assert admission.used_bytes == 61


async def test_nobody_overtakes_and_leaving_the_line_lets_others_in() -> None:
    admission = blind(10, 100)
    await ask(admission, size_bytes=60).acquire()
    large = asyncio.create_task(ask(admission, size_bytes=80).acquire())
    await asyncio.sleep(0)
    small = asyncio.create_task(ask(admission, size_bytes=20).acquire())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not large.done()
    assert not small.done()
    large.cancel()
    await asyncio.wait([large, small], timeout=60)
    assert small.done()
    assert admission.used_bytes == 80


async def test_a_turn_that_comes_with_the_cancellation_is_given_back() -> None:
    admission = blind(1, 100)
    holder = ask(admission, size_bytes=50)
    await holder.acquire()
    waiting = asyncio.create_task(ask(admission, size_bytes=50).acquire())
    await asyncio.sleep(0)
    holder.release()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert admission.used_bytes == 0
    assert await entered(ask(admission, size_bytes=100))


async def test_a_place_left_before_a_cancelled_one_has_noticed_is_not_lost() -> None:
    admission = blind(1, 100)
    holder = ask(admission, size_bytes=50)
    await holder.acquire()
    last = ask(admission, size_bytes=50)
    gone = asyncio.create_task(ask(admission, size_bytes=50).acquire())
    later = asyncio.create_task(last.acquire())
    await asyncio.sleep(0)
    gone.cancel()
    holder.release()
    with pytest.raises(asyncio.CancelledError):
        await gone
    await asyncio.wait_for(later, 1)
    assert admission.used_bytes == 50
    last.release()
    assert await entered(ask(admission, size_bytes=100))


def test_a_stream_that_would_never_fit_is_refused_at_once() -> None:
    with pytest.raises(TooLargeError, match=r"take 101 bytes .* 100 are there"):
        ask(blind(10, 100), size_bytes=101)


async def test_only_so_many_wait_of_each_class_and_those_who_left_do_not_count() -> None:
    admission = blind(1, waiting=3)  # one of them a batch
    await ask(admission).acquire()
    waiting = [asyncio.create_task(ask(admission).acquire()) for _ in range(2)]
    batch = asyncio.create_task(ask(admission, BATCH).acquire())
    await asyncio.sleep(0)
    for terms, n_waiting in ((STREAM, 2), (WHOLE, 2), (BATCH, 1)):
        with pytest.raises(CapacityError, match=f"{n_waiting} streams wait already"):
            await ask(admission, terms).acquire()
    waiting[0].cancel()
    later = asyncio.create_task(ask(admission).acquire())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not later.done()
    for task in (*waiting, later, batch):
        task.cancel()
    await asyncio.wait([*waiting, later, batch])


# What would run dry, or come too late.


@pytest.mark.usefixtures("virtual_time")
async def test_streams_are_let_in_as_far_as_none_runs_dry() -> None:
    admission = gate(row_s=0.006, first_audio_s=1.5)  # some four seconds of audio a second
    assert await entered(ask(admission))
    soon = asyncio.create_task(ask(admission).acquire())
    await asyncio.sleep(0)
    errors = [await refusal(ask(admission)) for _ in range(6)]
    assert all(error.wait_s and 0 < error.wait_s < 8 for error in errors)
    await asyncio.wait_for(soon, 1.5)
    assert all(error.code == "overloaded" for error in errors)


@pytest.mark.usefixtures("virtual_time")
async def test_who_is_refused_at_once_is_served_when_he_was_told_to_ask() -> None:
    admission = gate(row_s=0.008, first_audio_s=0.5)
    playing = [asyncio.create_task(plays(ask(admission), 5.5, 0.4)) for _ in range(2)]
    await asyncio.sleep(0)
    refused = [await refusal(ask(admission)) for _ in range(3)]
    afters = [error.retry_after_s or 0.0 for error in refused]
    assert afters == sorted(afters)
    assert len(set(afters)) == 3  # each has a time of his own
    await asyncio.sleep(afters[0])
    assert await entered(ask(admission))
    await asyncio.wait(playing)


@pytest.mark.usefixtures("virtual_time")
async def test_one_who_would_begin_soon_waits_and_begins() -> None:
    admission = gate(row_s=0.008, first_audio_s=10.0)
    playing = [asyncio.create_task(plays(ask(admission), 5.5, 0.4)) for _ in range(2)]
    await asyncio.sleep(0)
    asked_s = time.monotonic()
    crowd = [asyncio.create_task(ask(admission).acquire()) for _ in range(2)]
    await asyncio.wait(crowd)
    assert 0 < time.monotonic() - asked_s < 10.0
    await asyncio.wait(playing)


@pytest.mark.usefixtures("virtual_time")
async def test_alone_everybody_is_served_however_slow_the_machine_is() -> None:
    admission = gate(row_s=0.2)
    assert await entered(ask(admission))
    assert await refusal(ask(admission))
    assert await entered(ask(gate(row_s=0.2), WHOLE, audio_s=600))


@pytest.mark.usefixtures("virtual_time")
async def test_whole_answers_wait_their_turn_as_far_as_they_end_in_time() -> None:
    admission = gate(8, waiting=40, row_s=0.015, whole_s=10.0)  # 1.8 seconds a second
    asked = [asyncio.create_task(ask(admission, WHOLE).acquire()) for _ in range(20)]
    await asyncio.sleep(0.01)
    refused = [task for task in asked if task.done() and task.exception()]
    assert 3 <= len(asked) - len(refused) <= 5
    begun = [task for task in asked if task.done() and not task.exception()]
    assert 1 <= len(begun) <= 6  # two places are for those who listen
    for task in asked:
        task.cancel()
    await asyncio.wait(asked)


@pytest.mark.usefixtures("virtual_time")
async def test_the_rest_of_a_reply_is_not_refused() -> None:
    admission = gate(8, waiting=4, row_s=0.02)
    assert await entered(ask(admission))
    assert await refusal(ask(admission))
    assert await entered(ask(admission, Terms(is_begun=True, due_s=time.monotonic() + 2)))


@pytest.mark.usefixtures("virtual_time")
async def test_a_listener_who_ran_dry_makes_it_more_careful_for_a_while() -> None:
    admission = gate(first_audio_s=0.5)
    permit = ask(admission)
    await permit.acquire()
    before = admission.capacity
    permit.listener.heard(0.5, time.monotonic())
    await asyncio.sleep(1)
    permit.listener.heard(0.5, time.monotonic())
    permit.release()
    again = ask(admission)
    await again.acquire()
    assert admission.capacity < before
    again.release()
    await asyncio.sleep(600)
    await ask(admission).acquire()
    assert admission.capacity == pytest.approx(before)


@pytest.mark.usefixtures("virtual_time")
async def test_a_crowd_that_comes_too_late_costs_one_forecast(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    admission = gate(row_s=0.2)
    playing = ask(admission)
    assert await entered(playing)
    asked: list[object] = []
    wait = admission._outlook.wait

    def counted(*one: object) -> tuple[float, float]:
        asked.append(one)
        return wait(*one)  # type: ignore[arg-type]

    monkeypatch.setattr(admission._outlook, "wait", counted)
    for _ in range(20):
        await refusal(ask(admission))
    assert len(asked) == 1
    await asyncio.sleep(0.2)
    await refusal(ask(admission))
    assert len(asked) == 2
    playing.release()
    assert await entered(ask(admission))


# Batches.


@pytest.mark.usefixtures("virtual_time")
async def test_batches_begin_when_nobody_else_waits_and_leave_places() -> None:
    admission = gate(4, waiting=8, first_audio_s=60)
    batches = [ask(admission, BATCH) for _ in range(3)]
    assert [await entered(one) for one in batches] == [True, True, False]
    assert await entered(ask(admission))
    assert await entered(ask(admission))
    waiting = asyncio.create_task(ask(admission).acquire())
    batch = asyncio.create_task(ask(admission, BATCH).acquire())
    await asyncio.sleep(0)
    batches[0].release()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert waiting.done()
    assert not batch.done()
    batches[1].release()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert batch.done()


@pytest.mark.usefixtures("virtual_time")
async def test_batches_do_not_count_where_nobody_listens_to_them() -> None:
    admission = gate(8, row_s=0.02)
    assert await entered(ask(admission, BATCH))
    assert await entered(ask(admission))
    assert admission.reserved == 1.0


# Tenants.


def of(tenant: str, service: Service = Service.STREAM) -> Terms:
    return Terms(service, tenant)


@pytest.mark.usefixtures("virtual_time")
async def test_a_tenant_with_its_share_is_told_so_while_others_want_some() -> None:
    admission = gate(row_s=0.004, first_audio_s=0.5)
    while await entered(ask(admission, of("a")), or_refused=True):
        pass
    alone = await refusal(ask(admission, of("a")))
    assert type(alone) is CapacityError
    other = await refusal(ask(admission, of("b")))
    assert type(other) is CapacityError
    over = await refusal(ask(admission, of("a")))
    assert type(over) is OverShareError
    assert over.retry_after_s is not None
    await asyncio.sleep(60)  # nobody else asks any more
    assert type(await refusal(ask(admission, of("a")))) is CapacityError


@pytest.mark.usefixtures("virtual_time")
async def test_the_tenant_with_less_goes_first_and_weights_count() -> None:
    admission = gate(2, first_audio_s=60, tenant_weights={"c": 4.0})
    held = [ask(admission, of("a")), ask(admission, of("c"))]
    for permit in held:
        assert await entered(permit)
    order: list[str] = []

    async def take(tenant: str) -> None:
        permit = ask(admission, of(tenant))
        await permit.acquire()
        order.append(tenant)
        permit.release()

    tasks = [asyncio.create_task(take("c")), asyncio.create_task(take("b"))]
    await asyncio.sleep(0)
    assert isinstance(await refusal(ask(admission, of("a"))), OverShareError)
    held[0].release()
    await asyncio.wait(tasks)
    assert order == ["b", "c"]


@pytest.mark.usefixtures("virtual_time")
async def test_no_tenant_has_more_than_its_limit() -> None:
    admission = gate(8, tenant_streams=1)
    assert await entered(ask(admission, of("a")))
    error = await refusal(ask(admission, of("a")))
    assert isinstance(error, OverShareError)
    assert await entered(ask(admission, of("b")))


def test_a_refusal_says_the_same_in_another_process() -> None:
    error = OverShareError("no", wait_s=2.5, retry_after_s=3.0, holds_s=0.25)
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    assert type(again) is OverShareError
    assert (again.message, again.wait_s, again.retry_after_s, again.holds_s) == (
        "no", 2.5, 3.0, 0.25,
    )  # fmt: skip
    assert again.later(1.0).wait_s == 1.5
    usual = TextError("no").__reduce__()[0]
    assert error.__reduce__()[0] is usual, "code of before an update has no other"


@pytest.mark.usefixtures("virtual_time")
async def test_a_whole_answer_that_waits_for_a_place_holds_no_listener_up() -> None:
    admission = gate(4, first_audio_s=60)
    for _ in range(3):
        assert await entered(ask(admission, Terms(Service.WHOLE, "a")))
    whole = asyncio.create_task(ask(admission, Terms(Service.WHOLE, "b")).acquire())
    await asyncio.sleep(0)
    assert await entered(ask(admission, of("a")))
    assert not whole.done()
    whole.cancel()
    await asyncio.wait([whole])
