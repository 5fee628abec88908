"""Kills one replica of each stage while eight requests run.

Nothing hangs, and the next request works.
"""

from __future__ import annotations

import itertools
import threading

import httpx
import pytest

from tests.serve.service_client import TEXT, TIMEOUT_S, ServiceClient, body
from tests.waiting import eventually

pytestmark = pytest.mark.chaos
N_REQUESTS = 8
FREED_WITHIN_S = 60.0  # answers of a killed vocoder are drawn to their end
LONG = TEXT * 5  # some seven seconds: far from its end when its first chunk is heard
_SEEDS = itertools.count(1_000)  # none is used twice: what is kept needs no stage


def outcomes_while(client: ServiceClient, kill: str, text: str) -> list[str]:
    """Eight concurrent requests that nobody asked before, a kill once one of them is heard.

    `ok`, a status, or `cut` for each.
    """
    outcomes: list[str] = []
    heard = threading.Event()

    def run(seed: int) -> None:
        request = body(seed=seed, input=text, response_format="pcm")
        try:
            with httpx.Client(base_url=client.service.url, timeout=TIMEOUT_S) as http:
                with http.stream("POST", "/v1/audio/speech", json=request) as reply:
                    for _ in reply.iter_raw():
                        heard.set()
                    outcomes.append("ok" if reply.status_code == 200 else str(reply.status_code))
        except (httpx.RemoteProtocolError, httpx.ReadError):
            outcomes.append("cut")

    threads = [threading.Thread(target=run, args=(next(_SEEDS),)) for _ in range(N_REQUESTS)]
    for thread in threads:
        thread.start()
    assert heard.wait(TIMEOUT_S)
    client.kill(kill)
    for thread in threads:
        thread.join(TIMEOUT_S)
    assert not any(thread.is_alive() for thread in threads), "a request hangs"
    return outcomes


@pytest.mark.parametrize("stage", ["Tokenizer", "LLM", "Vocoder", "Router"])
def test_a_killed_replica_hangs_nobody(client: ServiceClient, stage: str):
    assert client.speak().status_code == 200
    outcomes = outcomes_while(client, stage, TEXT if stage == "Tokenizer" else LONG)
    assert len(outcomes) == N_REQUESTS
    for outcome in outcomes:
        assert outcome in {"ok", "cut"} or 500 <= int(outcome) < 600, outcomes
    if stage == "Tokenizer":
        assert outcomes == ["ok"] * N_REQUESTS, "the voice is cached, nobody needs the tokenizer"
    else:
        assert "cut" in outcomes, "the one that was heard was under way"
    assert eventually(lambda: _speaks(client), every_s=0.5)
    assert eventually(lambda: client.ready()["ready"], every_s=0.5)
    assert eventually(lambda: client.busy() == (0, 0), FREED_WITHIN_S), client.busy()
    if stage in {"LLM", "Vocoder"}:
        assert eventually(lambda: "speech" in client.log() and " error " in client.log())


def _speaks(client: ServiceClient) -> bool:
    try:
        return client.speak(seed=99).status_code == 200
    except httpx.TransportError:
        return False
