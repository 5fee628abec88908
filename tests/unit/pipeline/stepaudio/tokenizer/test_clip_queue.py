"""Which clips are encoded together, when, and what becomes of the others when one goes or fails."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np
import pytest

from pipeline.contracts import ReferenceClip
from pipeline.stepaudio.tokenizer.clip_queue import ClipQueue

pytestmark = pytest.mark.unit

RATE_HZ = 8_000


def clip(length_s: float, name: str = "") -> ReferenceClip:
    samples = np.zeros(round(length_s * RATE_HZ), np.float32)
    return ReferenceClip(samples, RATE_HZ, name or f"{length_s:g}")


@dataclass
class Encoder:
    """Answers with names, one batch whenever it may; a clip called "bad" fails."""

    may_end: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))
    batches: list[list[str]] = field(default_factory=list)
    at_work: int = 0
    most_at_work: int = 0

    async def __call__(self, clips: list[ReferenceClip]) -> list[Future[str]]:
        names = [one.digest for one in clips]
        self.batches.append(names)
        self.at_work += 1
        self.most_at_work = max(self.most_at_work, self.at_work)
        await self.may_end.acquire()
        self.at_work -= 1
        if "worst" in names:
            raise RuntimeError("the whole pass failed")
        return [self._answer(name) for name in names]

    def _answer(self, name: str) -> Future[str]:
        answer: Future[str] = Future()
        if name == "bad":
            answer.set_exception(ValueError("bad clip"))
        else:
            answer.set_result(name)
        return answer

    def end(self, batches: int = 1) -> None:
        for _ in range(batches):
            self.may_end.release()


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def ask(queue: ClipQueue[str], *clips: ReferenceClip) -> list[asyncio.Task[str]]:
    async def encode(one: ReferenceClip) -> str:
        return await (await queue.begin(one))

    return [asyncio.create_task(encode(one)) for one in clips]


@pytest.mark.parametrize("turns", [1, 2, 3])
async def test_without_a_budget_every_clip_goes_alone_in_order(turns: int) -> None:
    encoder = Encoder()
    queue = ClipQueue(encoder, turns, 0.0)
    tasks = ask(queue, *(clip(1.0, str(i)) for i in range(7)))
    for _ in range(7):
        await settle()
        encoder.end()
    assert await asyncio.gather(*tasks) == [str(i) for i in range(7)]
    assert encoder.batches == [[str(i)] for i in range(7)]
    assert encoder.most_at_work == turns


async def test_a_clip_waits_for_no_other() -> None:
    encoder = Encoder()
    queue = ClipQueue(encoder, 2, 60.0)
    ask(queue, clip(1.0, "a"))
    await settle()
    ask(queue, clip(1.0, "b"))
    await settle()
    assert encoder.batches == [["a"], ["b"]]
    encoder.end(2)
    await settle()


@pytest.mark.parametrize(
    ("lengths_s", "batches"),
    [
        ([6, 6, 6, 6], [["6", "6", "6"], ["6"]]),
        ([6, 10, 1, 5, 7], [["6", "5", "7", "1"], ["10"]]),  # nearest first; a small one still fits
        ([10, 1, 9, 1], [["10", "9", "1"], ["1"]]),
        ([1, 20, 2, 20], [["1", "2"], ["20"], ["20"]]),  # the longest fit beside nothing
        ([30, 1, 1], [["30"], ["1", "1"]]),  # longer than the budget: alone
        ([1, 30, 1], [["1", "1"], ["30"]]),
    ],
    ids=str,
)
async def test_those_that_wait_go_together_by_length(
    lengths_s: list[float], batches: list[list[str]]
) -> None:
    encoder = Encoder()
    queue = ClipQueue(encoder, 1, 20.0)
    tasks = ask(queue, clip(3.0, "first"), *map(clip, lengths_s))
    encoder.end(1 + len(batches))
    answers = await asyncio.gather(*tasks)
    assert answers == ["first", *(f"{length_s:g}" for length_s in lengths_s)]
    assert encoder.batches == [["first"], *batches]


async def test_of_equal_length_the_oldest_go_first() -> None:
    encoder = Encoder()
    queue = ClipQueue(encoder, 1, 3.0)
    tasks = ask(queue, *(clip(1.0, str(i)) for i in range(6)))
    encoder.end(3)
    await asyncio.gather(*tasks)
    assert encoder.batches == [["0"], ["1", "2", "3"], ["4", "5"]]


async def test_who_is_cancelled_while_waiting_leaves_the_queue() -> None:
    encoder = Encoder()
    queue = ClipQueue(encoder, 1, 60.0)
    tasks = ask(queue, *(clip(1.0, name) for name in "abcd"))
    await settle()
    tasks[2].cancel()
    await settle()
    tasks[3].cancel()
    encoder.end(2)  # a turn gets free before the one cancelled last has noticed
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert answers[:2] == ["a", "b"]
    assert all(isinstance(answer, asyncio.CancelledError) for answer in answers[2:])
    assert encoder.batches == [["a"], ["b"]]


async def test_who_is_cancelled_as_the_turn_gets_free_harms_nobody() -> None:
    encoder = Encoder()
    queue = ClipQueue(encoder, 1, 60.0)
    for n_steps in range(8):
        tasks = ask(queue, *(clip(1.0, name) for name in "abc"))
        await settle()
        encoder.end(2)
        for _ in range(n_steps):
            await asyncio.sleep(0)
        tasks[1].cancel()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert [answers[0], answers[2]] == ["a", "c"]
        await settle()
        assert encoder.at_work == 0


async def test_who_is_cancelled_at_work_leaves_the_others_theirs() -> None:
    encoder = Encoder()
    queue = ClipQueue(encoder, 1, 60.0)
    tasks = ask(queue, *(clip(1.0, name) for name in "abc"))
    encoder.end(1)
    await settle()
    assert encoder.batches == [["a"], ["b", "c"]]
    tasks[1].cancel()
    later = ask(queue, clip(1.0, "d"))
    await settle()
    assert tasks[1].cancelled()
    assert encoder.batches == [["a"], ["b", "c"]]  # the turn is the work's
    encoder.end(2)
    assert await asyncio.gather(tasks[2], *later) == ["c", "d"]


async def test_a_clip_fails_alone() -> None:
    encoder = Encoder()
    queue = ClipQueue(encoder, 1, 60.0)
    tasks = ask(queue, *(clip(1.0, name) for name in ("a", "b", "bad", "c")))
    encoder.end(2)
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert encoder.batches == [["a"], ["b", "bad", "c"]]
    assert [answers[i] for i in (0, 1, 3)] == ["a", "b", "c"]
    assert isinstance(answers[2], ValueError)


async def test_a_pass_that_fails_is_all_its_clips_error_and_the_queue_goes_on() -> None:
    encoder = Encoder()
    queue = ClipQueue(encoder, 1, 2.0)
    tasks = ask(queue, *(clip(1.0, name) for name in ("a", "b", "worst", "c")))
    encoder.end(3)
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert encoder.batches == [["a"], ["b", "worst"], ["c"]]
    assert [answers[0], answers[3]] == ["a", "c"]
    assert all(isinstance(answers[i], RuntimeError) for i in (1, 2))
