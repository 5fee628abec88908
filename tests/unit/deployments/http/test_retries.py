"""OpenAI's own client against every error: it sends again what may pass, and nothing else."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field

import httpx2
import openai
import pytest
import pytest_asyncio
from openai import _base_client

from deployments.http.errors import may_pass, status_of
from pipeline import errors
from pipeline.contracts import SpeechChunk, SpeechRequest, VoicePrompt
from pipeline.errors import TimbreError
from tests.http_app import HttpApp, http_app
from tests.unit.deployments.http.test_errors import tree

pytestmark = pytest.mark.unit
TRIES = 3  # of the client: the first, and two more
LONGEST_WAIT_S = 120


@dataclass
class Failing:
    """A speaker that fails with this error, and counts."""

    error: Exception = field(default_factory=lambda: TimbreError("x"))
    asked: int = 0

    async def speak(
        self, request: SpeechRequest, voice: VoicePrompt
    ) -> AsyncGenerator[SpeechChunk]:
        del request, voice
        self.asked += 1
        raise self.error
        yield


@pytest_asyncio.fixture
async def app(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[HttpApp]:
    async with http_app() as made:
        yield made


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The client's pauses, which take no time."""
    waited: list[float] = []

    async def pause(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr(_base_client.anyio, "sleep", pause)
    return waited


def client(app: HttpApp) -> openai.AsyncOpenAI:
    transport = httpx2.ASGITransport(app.app, raise_app_exceptions=False)
    http = httpx2.AsyncClient(transport=transport)
    return openai.AsyncOpenAI(base_url="http://timbre/v1", api_key="unused", http_client=http)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*tree(), OSError, KeyError], ids=lambda kind: kind.__name__)
async def test_what_may_pass_is_sent_again(
    app: HttpApp, waits: list[float], monkeypatch: pytest.MonkeyPatch, kind: type[Exception]
) -> None:
    failing = Failing(kind("what went wrong"))
    monkeypatch.setattr(app.synthesizer, "speak", failing.speak)
    async with client(app) as asking:
        with pytest.raises(openai.APIStatusError) as caught:
            await asking.audio.speech.create(model="tts-1", voice="bruno", input="Hello.")
    error = failing.error
    assert caught.value.status_code == (status_of(error) if isinstance(error, TimbreError) else 500)
    assert failing.asked == (TRIES if may_pass(error) else 1)
    assert len(waits) == failing.asked - 1
    assert all(0 < wait <= LONGEST_WAIT_S for wait in waits)


async def test_a_wait_is_as_long_as_the_service_asks(
    app: HttpApp, waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = Failing(errors.CapacityError("full"))
    monkeypatch.setattr(app.synthesizer, "speak", failing.speak)
    async with client(app) as asking:
        with pytest.raises(openai.InternalServerError):
            await asking.audio.speech.create(model="tts-1", voice="bruno", input="Hello.")
    assert waits == [1.0, 1.0]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/nothing", 404),
        ("DELETE", "/v1/audio/speech", 405),
        ("GET", "/v1/voices?legacy=perhaps", 400),
        ("POST", "/v1/audio/speech", 400),
    ],
)
async def test_refusals_by_address_or_parameter_are_final(
    app: HttpApp, method: str, path: str, status: int
) -> None:
    reply = await app.http.request(method, path)
    assert (reply.status_code, reply.headers["x-should-retry"]) == (status, "false")
