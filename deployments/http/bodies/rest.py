"""The rest of a body that nobody wants: a client that is still sending reads no reply."""

from __future__ import annotations

import asyncio

from starlette.types import Receive

DISCARD_S = 30.0


async def discard(receive: Receive, most_bytes: int) -> None:
    """Read and drop it, as far as it comes within DISCARD_S and `most_bytes`."""
    has_more = True
    try:
        async with asyncio.timeout(DISCARD_S):
            while has_more and most_bytes > 0:
                message = await receive()
                most_bytes -= len(message.get("body", b""))
                has_more = message.get("more_body", False)
    except TimeoutError:
        return
