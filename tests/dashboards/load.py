"""A load that gives every panel something to show: all outcomes that callers can bring about."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import httpx
from websockets.sync.client import connect

from tests.serve.service_client import ServiceClient, body, clip_of_its_own, cloned

AT_ONCE = 3
BURST = 10  # more than the vocoder takes, its queue included
LONG = "One two three four five six. " * 6
SECONDS = 75.0


class Load:
    """On a service with keys. speaker, busy: headers of two tenants' keys; busy has a quota."""

    def __init__(
        self, client: ServiceClient, speaker: dict[str, str], busy: dict[str, str]
    ) -> None:
        self._client, self._speaker, self._busy = client, speaker, busy
        self._number = count()

    def run(self) -> None:
        """Until SECONDS have gone by."""
        until_s = time.monotonic() + SECONDS
        while time.monotonic() < until_s:
            works = [self._known, self._new, self._whole, self._session, self._strangers]
            with ThreadPoolExecutor(AT_ONCE) as pool:
                list(pool.map(lambda work: work(), works))
            self._burst()

    def _known(self) -> None:
        for _ in range(3):
            self._speak(input="One two three four.")

    def _new(self) -> None:
        self._speak(**cloned(*clip_of_its_own(), cache="off"))

    def _whole(self) -> None:
        self._speak(input=LONG, seed=next(self._number), response_format="mp3", stream=False)

    def _session(self) -> None:
        address = self._client.service.url.replace("http", "ws", 1) + "/v1/audio/speech/stream"
        with connect(address, additional_headers=self._speaker, proxy=None) as session:
            session.send(json.dumps({"type": "session.config", "voice": "bruno"}))
            session.send(json.dumps({"type": "input.text", "text": "One two three."}))
            session.send(json.dumps({"type": "input.cancel"}))
            session.send(json.dumps({"type": "input.text", "text": "One two three."}))
            session.send(json.dumps({"type": "input.done"}))
            for message in session:
                told = json.loads(message) if isinstance(message, str) else {}
                if told.get("type") == "session.done" and not told.get("cancelled"):
                    return

    def _strangers(self) -> None:
        self._client.speak()
        self._client.http.post(
            "/v1/audio/speech", json=body(), headers={"authorization": "Bearer no key of ours"}
        )
        for _ in range(2):
            self._client.http.post("/v1/audio/speech", json=body(), headers=self._busy)
        self._speak(input="")

    def _burst(self) -> None:
        """Some of it is refused."""
        seeds = [next(self._number) for _ in range(BURST)]
        with ThreadPoolExecutor(BURST) as pool:
            list(pool.map(lambda seed: self._speak(seed=seed, cache="off"), seeds))

    def _speak(self, **fields: object) -> httpx.Response:
        return self._client.http.post(
            "/v1/audio/speech", json=body(**fields), headers=self._speaker
        )


def leave(client: ServiceClient, headers: dict[str, str]) -> None:
    """As a listener that goes before the end."""
    with client.http.stream(
        "POST", "/v1/audio/speech", json=body(input=LONG, cache="off"), headers=headers
    ) as reply:
        next(reply.iter_raw())
