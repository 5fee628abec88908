"""What the edge does not even begin with."""

from __future__ import annotations

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from deployments.http.edge import Edge

pytestmark = pytest.mark.unit
LIMIT_BYTES = 1000


async def test_a_declared_body_over_the_limit_is_not_begun():
    begun: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        begun.append(scope["path"])
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    edge = Edge(app, max_body_bytes=LIMIT_BYTES)
    transport = httpx.ASGITransport(edge)
    async with httpx.AsyncClient(transport=transport, base_url="http://router") as client:
        over = await client.post("/over", content=b"x" * (LIMIT_BYTES + 1))
        fits = await client.post("/fits", content=b"x" * LIMIT_BYTES)
    assert (over.status_code, fits.status_code) == (413, 204)
    assert begun == ["/fits"]
