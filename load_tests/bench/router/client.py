"""A client that costs next to nothing: when a request was sent, its first byte came, and its last.

httpx takes a millisecond or two for a request; that is not the service's.
"""

from __future__ import annotations

import http.client
import itertools
import json
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from load_tests.bench.known_voice.listeners import PCM_BYTES_S
from load_tests.bench.router.spans import Asked

TIMEOUT_S = 120.0
WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
_NUMBERS = itertools.count()


def new_text() -> str:
    """One that nobody asked for before, as long as any other."""
    number = next(_NUMBERS)
    return " ".join(WORDS[number // 10**i % 10] for i in range(6)).capitalize() + "."


def body(**fields: Any) -> dict[str, Any]:
    """A request in a listed voice, for pcm unless told otherwise."""
    return {"input": new_text(), "voice": "bruno", "response_format": "pcm", **fields}


class Client:
    """One connection."""

    def __init__(self, host: str, port: int) -> None:
        self._http = http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
        self._http.connect()

    def speak(self, wanted: dict[str, Any]) -> tuple[Asked, int]:
        """Ask and read all; when what happened, and how many bytes came."""
        content, headers = json.dumps(wanted).encode(), {"Content-Type": "application/json"}
        sent_s = time.monotonic()
        self._http.request("POST", "/v1/audio/speech", content, headers)
        reply = self._http.getresponse()
        n_bytes = len(reply.read1())
        first_s = time.monotonic()
        n_bytes += len(reply.read())
        last_s = time.monotonic()
        if reply.status != http.client.OK:
            raise RuntimeError(f"status {reply.status}")
        return Asked(sent_s, first_s, last_s), n_bytes

    def close(self) -> None:
        self._http.close()


def one_by_one(client: Client, wanted: Sequence[dict[str, Any]]) -> list[Asked]:
    """Requests one after another on one connection."""
    return [client.speak(one)[0] for one in wanted]


def at_once(host: str, port: int, streams: int, each: int, **fields: Any) -> float:
    """So many listeners, each asking for pcm so often; seconds of audio that all of them got.

    fields: of every request.
    """
    clients = [Client(host, port) for _ in range(streams)]

    def listen(client: Client) -> int:
        return sum(client.speak(body(**fields))[1] for _ in range(each))

    with ThreadPoolExecutor(streams) as pool:
        n_bytes = sum(pool.map(listen, clients))
    for client in clients:
        client.close()
    return n_bytes / PCM_BYTES_S
