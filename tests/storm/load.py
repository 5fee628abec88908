"""One load for every fault: arrivals at random times that nobody's slowness puts off.

Hits and misses of both caches, uploads and jobs, whose acknowledgements are kept so that they can
be held against what is there when all is over. Each wait is counted from when the request was due.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np

from tests.serve.service_client import clip_of_its_own

PER_S = 1.2  # requests a second: some third of what two cores speak beside three machines
MIX = {"hit": 0.55, "voice": 0.2, "clip": 0.1, "upload": 0.08, "job": 0.07}
WORDS = ("Yes.", "No.", "Good.", "Maybe.", "Well done.", "One.", "Two.", "Three.")
N_KNOWN = 6  # finished answers that are asked again and again
SILENT_S = 30.0  # a client's own patience; a wait this long is a hang whatever comes of it
LOOK_EVERY_S = 0.5  # of the balancer, at each proxy
FALL = 2  # looks without an answer after which a proxy is down
SERVER_FAULT = 500


@dataclass(frozen=True, slots=True)
class Call:
    """One request. due_s, ended_s: on the clock of time.monotonic. failure: empty if served.

    stall_s: longest time without anything from the service. told: what it was told when it was to
    come again, and did.
    """

    kind: str
    due_s: float
    ended_s: float
    stall_s: float
    failure: str
    told: tuple[str, ...] = ()


class Balancer:
    """Knows which proxies answer, as one in front of a cluster does: it asks them.

    Requests on their way through one that stops answering are cut (HAProxy's `on-marked-down
    shutdown-sessions`): a machine without power says nothing of their end.
    """

    def __init__(self, urls: Callable[[], list[str]]) -> None:
        self._urls = urls
        self._down: set[str] = set()
        self._missed = Counter[str]()
        self._through: dict[str, set[asyncio.Timeout]] = {}
        self._next = 0

    def order(self) -> list[str]:
        """Where to try a request: proxies that answer, in turn, then the others."""
        urls = self._urls()
        self._next += 1
        turn = self._next % len(urls)
        return sorted(urls[turn:] + urls[:turn], key=lambda url: url in self._down)

    def failed(self, url: str) -> None:
        self._down.add(url)

    @asynccontextmanager
    async def through(self, url: str) -> AsyncIterator[None]:
        """While a request is on its way through a proxy."""
        through = self._through.setdefault(url, set())
        try:
            async with asyncio.timeout(None) as cut:
                through.add(cut)
                try:
                    yield
                finally:
                    through.discard(cut)
        except TimeoutError:
            raise Unserved("cut by the balancer") from None

    async def watch(self, client: httpx.AsyncClient) -> None:
        while True:
            await asyncio.gather(*(self._look(client, url) for url in self._urls()))
            await asyncio.sleep(LOOK_EVERY_S)

    async def _look(self, client: httpx.AsyncClient, url: str) -> None:
        try:
            is_up = (await client.get(f"{url}/-/healthz", timeout=2.0)).is_success
        except httpx.HTTPError:
            self._missed[url] += 1
            if self._missed[url] >= FALL:
                self._down.add(url)
                for one in self._through.get(url, ()):
                    one.reschedule(0.0)
            return
        self._missed[url] = 0
        (self._down.discard if is_up else self._down.add)(url)  # one that drains says so


@dataclass
class Ledger:
    """What the service said it has taken: voices, jobs."""

    voices: list[str] = field(default_factory=list)
    jobs: list[str] = field(default_factory=list)


class Load:
    """Requests at their times until it is told to stop.

    headers: of each, such as a key. per_s: requests a second, PER_S unless told. patience_s: since
    it was due, within which a client that gets 503 with Retry-After asks again when it says so.
    """

    def __init__(
        self,
        urls: Callable[[], list[str]],
        seed: int,
        headers: Mapping[str, str] | None = None,
        per_s: float | None = None,
        patience_s: float = 0.0,
    ) -> None:
        self.calls: list[Call] = []
        self.ledger = Ledger()
        self._balancer = Balancer(urls)
        self._random = random.Random(seed)  # noqa: S311 - arrivals, not secrets
        self._seed = seed
        self._per_s = PER_S if per_s is None else per_s
        self._patience_s = patience_s
        self._known: dict[int, str] = {}
        self._n = 0
        self._going: set[asyncio.Task[None]] = set()
        self._client = httpx.AsyncClient(
            timeout=httpx.Timeout(SILENT_S, connect=2.0),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=0),
            headers=headers,
            trust_env=False,
        )

    @asynccontextmanager
    async def going(self) -> AsyncIterator[None]:
        """Within the block requests come; at its end those on their way are waited for."""
        arrivals = asyncio.create_task(self._arrive())
        watch = asyncio.create_task(self._balancer.watch(self._client))
        try:
            yield
        finally:
            arrivals.cancel()
            if self._going:
                await asyncio.wait(self._going)
            watch.cancel()
            await asyncio.wait([arrivals, watch])

    async def close(self) -> None:
        await self._client.aclose()

    async def warm_up(self) -> None:
        """Make the answers that are asked again, and hear each of them."""
        for seed in range(N_KNOWN):
            audio = await self._speak(_known(seed), [])
            self._known[seed] = hashlib.sha256(audio).hexdigest()

    async def get(self, path: str) -> httpx.Response:
        """From the first proxy that answers."""
        return await self._sent("GET", path)

    async def _arrive(self) -> None:
        due_s = time.monotonic()
        while True:
            due_s += self._random.expovariate(self._per_s)
            (kind,) = self._random.choices(list(MIX), list(MIX.values()))
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))
            self._n += 1
            one = asyncio.create_task(self._call(kind, self._n, due_s))
            self._going.add(one)
            one.add_done_callback(self._going.discard)

    async def _call(self, kind: str, number: int, due_s: float) -> None:
        signs = [due_s]  # when there was anything of the service
        ask: dict[str, Callable[[int, list[float]], Awaitable[None]]] = {
            "hit": self._hit,
            "voice": self._voice,
            "clip": self._clip,
            "upload": self._upload,
            "job": self._job,
        }
        failure, told, stall_s = "", list[str](), 0.0
        while True:
            again_s = None
            try:
                await ask[kind](number, signs)
            except ToldToComeAgain as error:
                failure, again_s = str(error), error.after_s
            except Unserved as error:
                failure = str(error)
            except httpx.HTTPError as error:
                failure = type(error).__name__
            ended_s = time.monotonic()
            stall_s = max(stall_s, float(np.diff([*signs, ended_s]).max()))
            if again_s is None or ended_s + again_s > due_s + self._patience_s:
                break
            await asyncio.sleep(again_s)
            told.append(failure)
            failure, signs = "", [time.monotonic()]
        self.calls.append(Call(kind, due_s, ended_s, stall_s, failure, tuple(told)))

    async def _hit(self, number: int, signs: list[float]) -> None:
        seed = number % N_KNOWN
        audio = await self._speak(_known(seed), signs)
        if hashlib.sha256(audio).hexdigest() != self._known[seed]:
            raise Unserved("other audio")

    async def _voice(self, number: int, signs: list[float]) -> None:
        body = {"input": WORDS[number % len(WORDS)], "voice": "aria", "seed": self._unique(number)}
        await self._speak(body, signs)

    async def _clip(self, number: int, signs: list[float]) -> None:
        clip, transcript = clip_of_its_own()
        encoded = base64.b64encode(clip).decode()
        prompt = {"prompt_audio_base64": encoded, "prompt_text": transcript}
        await self._speak({"input": "Yes.", "seed": number, "step_audio": prompt}, signs)

    async def _upload(self, number: int, signs: list[float]) -> None:
        clip, transcript = clip_of_its_own()
        name = f"storm-{self._unique(number)}"
        form = {"name": name, "consent": "I agree that my voice is cloned.", "ref_text": transcript}
        files = {"audio_sample": ("v.wav", clip, "audio/wav")}
        reply = await self._sent("POST", "/v1/audio/voices", data=form, files=files)
        signs.append(time.monotonic())
        self.ledger.voices.append(_checked(reply).json()["voice"]["id"])

    async def _job(self, number: int, signs: list[float]) -> None:
        inputs = [{"text": WORDS[(number + i) % len(WORDS)], "voice": "bruno"} for i in range(2)]
        body = {"inputs": inputs, "response_format": "wav", "seed": self._unique(number)}
        reply = await self._sent("POST", "/v1/audio/jobs", json=body)
        signs.append(time.monotonic())
        self.ledger.jobs.append(_checked(reply).json()["id"])

    def _unique(self, number: int) -> int:
        return self._seed * 10_000 + number

    async def _speak(self, body: dict[str, Any], signs: list[float]) -> bytes:
        asked = {"response_format": "pcm", **body}
        for url in self._balancer.order():
            try:
                async with (
                    self._balancer.through(url),
                    self._client.stream("POST", f"{url}/v1/audio/speech", json=asked) as reply,
                ):
                    signs.append(time.monotonic())
                    if not reply.is_success:
                        await reply.aread()
                        _checked(reply)
                    pieces: list[bytes] = []
                    async for piece in reply.aiter_bytes():
                        signs.append(time.monotonic())
                        pieces.append(piece)
            except (httpx.ConnectError, httpx.ConnectTimeout):
                self._balancer.failed(url)
                continue
            audio = b"".join(pieces)
            if not audio:
                raise Unserved("no audio")
            return audio
        raise Unserved("no proxy")

    async def _sent(self, method: str, path: str, **how: Any) -> httpx.Response:
        for url in self._balancer.order():
            try:
                async with self._balancer.through(url):
                    return await self._client.request(method, url + path, **how)
            except (httpx.ConnectError, httpx.ConnectTimeout):
                self._balancer.failed(url)
        raise Unserved("no proxy")


class Unserved(Exception):
    """A request that got no good answer: what it got instead."""


class ToldToComeAgain(Unserved):
    """503, and when: in after_s seconds."""

    def __init__(self, what: str, after_s: float) -> None:
        super().__init__(what)
        self.after_s = after_s


def _checked(reply: httpx.Response) -> httpx.Response:
    if reply.is_success:
        return reply
    try:
        code = reply.json()["error"]["code"]
    except (ValueError, KeyError, TypeError):
        code = reply.text.strip()[:60]
    what, after = f"{reply.status_code} {code}", reply.headers.get("retry-after")
    if reply.status_code == httpx.codes.SERVICE_UNAVAILABLE and after is not None:
        raise ToldToComeAgain(what, float(after))
    told = ", no Retry-After" if after is None and reply.status_code >= SERVER_FAULT else ""
    raise Unserved(f"{what}{told}")


def _known(seed: int) -> dict[str, Any]:
    return {"input": WORDS[seed], "voice": "bruno", "seed": 90_000_000 + seed}


def failures(calls: list[Call]) -> dict[str, int]:
    """How many failed with what."""
    return dict(Counter(one.failure for one in calls if one.failure).most_common())


def told_to_come_again(calls: list[Call]) -> dict[str, int]:
    """How many were told to by what."""
    return dict(Counter(what for one in calls for what in set(one.told)).most_common())
