"""Sends a plan's calls: an open loop at its moments, a closed loop one answer after another.

An open loop waits for nobody: what a slow service would keep from being sent is sent, and its
waiting counts from the moment at which it was to be sent (no coordinated omission).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from load_tests.load.answers import Answer
from load_tests.load.asks import ask_of
from load_tests.load.clients import Clients, Clock
from load_tests.load.plan import Call

LONGEST_REST_S = 5.0  # of a client that was refused, in a closed loop
USUAL_REST_S = 1.0  # where the refusal does not say
WARM_UPS_AT_ONCE = 2


async def open_loop(
    calls: Sequence[Call], clients: Clients, clock: Clock, nonce: int
) -> list[Answer]:
    """Answers in the order of the calls. nonce: of the clips."""
    tasks: list[asyncio.Task[Answer]] = []
    async with asyncio.TaskGroup() as group:
        for call in calls:
            ask = ask_of(call, nonce)  # before its moment: making it is not waiting
            await clock.reach(call.at_s)
            tasks.append(group.create_task(clients.speak(call, ask, call.at_s)))
    return [task.result() for task in tasks]


async def closed_loop(
    calls: Sequence[Call], n_clients: int, clients: Clients, clock: Clock, nonce: int
) -> list[Answer]:
    """Answers as they ended. Whoever is refused rests as long as the refusal says."""
    answers: list[Answer] = []
    waiting = iter(calls)

    async def client() -> None:
        for call in waiting:
            ask = ask_of(call, nonce)
            now_s = clock.now_s()
            answer = await clients.speak(replace(call, at_s=now_s), ask, now_s)
            answers.append(answer)
            if answer.outcome == "refused":
                wait_s = answer.retry_after_s if answer.can_wait else None
                await asyncio.sleep(min(wait_s or USUAL_REST_S, LONGEST_REST_S))

    async with asyncio.TaskGroup() as group:
        for _ in range(n_clients):
            group.create_task(client())
    return answers


async def warmed_up(calls: Sequence[Call], clients: Clients, clock: Clock, nonce: int) -> int:
    """Make voices and phrases known; how many of the calls failed."""
    whole = [replace(call, leaves_after_s=None, read_rate=None) for call in calls]
    answers = await closed_loop(whole, WARM_UPS_AT_ONCE, clients, clock, nonce)
    return sum(answer.outcome != "ok" for answer in answers)


async def saturated_hz(
    calls: Sequence[Call], n_clients: int, clients: Clients, clock: Clock, nonce: int
) -> float:
    """Calls a second that are answered to as many clients in a closed loop as keep it busy.

    More calls than clients, and counted until the last is sent: then some clients have no more.
    """
    whole = [replace(call, leaves_after_s=None, read_rate=None) for call in calls]
    begun_s = clock.now_s()
    answers = await closed_loop(whole, n_clients, clients, clock, nonce)
    until_s = max(answer.sent_s for answer in answers)
    n_answered = sum(one.outcome == "ok" and one.ended_s <= until_s for one in answers)
    return n_answered / (until_s - begun_s)
