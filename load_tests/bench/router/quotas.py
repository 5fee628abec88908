"""What quotas cost a request that a lease in memory lets in: no stages, no cluster, one core.

    python -m load_tests.bench.router.quotas [--requests N]

The middleware around an application that answers at once, and the charge of one reply of ten
pieces; a tenant and a key, each with every limit, so that eight accounts are looked at.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections.abc import Sequence

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deployments.access.caller import Caller
from deployments.config.tenants.quota_settings import Quota, QuotaSettings
from deployments.http.quotas.middleware import Quotas
from deployments.quotas.accounts import Told, Word
from deployments.quotas.book import SETTLE_S, QuotaBook
from deployments.quotas.gate import QuotaGate
from deployments.quotas.ledger import Ledger
from deployments.quotas.spending import spending
from load_tests.bench.report import percentile

EVERYTHING = Quota(
    requests_per_minute=10**7,
    audio_s_per_minute=1e8,
    audio_s_per_day=1e11,
    streams=10**4,
    voices=100,
    stored_bytes=10**9,
)
PIECES = 10
MS = 1e3


class NearBook:
    """The book in this process. late: how much older it is than it is, to be settled."""

    def __init__(self) -> None:
        self.late_s, self.calls = 0.0, 0
        self._book = QuotaBook(lambda: time.monotonic() + self.late_s)

    async def sync(self, router: str, words: Sequence[Word]) -> Told:
        """See Book."""
        self.calls += 1
        return self._book.sync(router, words)


async def _answers(scope: Scope, receive: Receive, send: Send) -> None:
    """An application that answers at once."""
    del scope, receive
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


async def _begins(scope: Scope, receive: Receive, send: Send) -> None:
    """The same, with room taken for a reply: all that is before its first piece."""
    with await spending().speech(4.0):
        await _answers(scope, receive, send)


async def _speaks(scope: Scope, receive: Receive, send: Send) -> None:
    """The same, with the charge of a reply, as SpeechReply makes it."""
    with await spending().speech(4.0) as charge:
        for _ in range(PIECES):
            charge.sent(0.4)
    await _answers(scope, receive, send)


async def _nothing() -> Message:
    return {"type": "http.request", "body": b""}


async def _forget(message: Message) -> None:
    del message


async def _times_s(app: ASGIApp, requests: int) -> list[float]:
    times: list[float] = []
    for _ in range(requests):
        caller = Caller("acme", "key-1")
        scope: Scope = {
            "type": "http",
            "method": "POST",
            "path": "/v1/audio/speech",
            "headers": [],
            "state": {"caller": caller, "request_id": "r"},
        }
        began_s = time.perf_counter()
        await app(scope, _nothing, _forget)
        times.append(time.perf_counter() - began_s)
        if not len(times) % 50:
            await asyncio.sleep(0)  # the background has its turn, as under load
    return times


async def _measure(requests: int) -> None:
    book = NearBook()
    ledger = Ledger(book, "bench", 600.0)
    gate = QuotaGate(QuotaSettings(tenant=EVERYTHING, key=EVERYTHING), ledger, lambda *_: None)
    limited = Quotas(_speaks, gate=gate, default_namespace="shared")
    await _times_s(limited, 1)
    book.late_s = SETTLE_S
    await _times_s(limited, 50)
    await ledger.tell()
    calls = book.calls
    bare = await _times_s(_answers, requests)
    counted = await _times_s(Quotas(_answers, gate=gate, default_namespace="shared"), requests)
    begun = await _times_s(Quotas(_begins, gate=gate, default_namespace="shared"), requests)
    spoken = await _times_s(limited, requests)
    floor_s = statistics.median(bare)
    rows = {
        "counted and told": counted,
        "and room taken for a reply, up to its first piece": begun,
        f"and {PIECES} pieces of it charged": spoken,
    }
    for what, times in rows.items():
        p50, p95 = statistics.median(times), percentile(times, 0.95)
        print(
            f"{what}: p50 {(p50 - floor_s) * MS:.3f} ms, p95 {(p95 - floor_s) * MS:.3f} ms more "
            f"({requests} requests)"
        )
    print(f"the book was asked {book.calls - calls} times in {3 * requests} requests")


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=5_000)
    asyncio.run(_measure(parser.parse_args().requests))


if __name__ == "__main__":
    main()
