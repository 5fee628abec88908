"""The HTTP application that bodies are sent to, one for each module of tests."""

from __future__ import annotations

import pytest_asyncio

from tests.http_app import http_app


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def app():
    async with http_app() as made:
        yield made
