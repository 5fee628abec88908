"""A stage at its limit still answers control calls, and what it refuses is no error in the log."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest

from tests.serve.one.api.test_limits import wav
from tests.serve.service_client import ServiceClient

pytestmark = pytest.mark.serve

N_CLIPS = 24


def test_a_burst_of_encodes_leaves_the_service_ready(client: ServiceClient):
    assert client.speak().status_code == httpx.codes.OK
    clips = [wav(4.0, 16_000, level) for level in np.linspace(0.2, 0.4, N_CLIPS)]
    with ThreadPoolExecutor(N_CLIPS) as pool:
        warmed = [pool.submit(client.http.post, "/v1/cache/warm", content=clip) for clip in clips]
        probes = [client.http.get("/readyz").status_code]
        hits = [client.speak(seed=1)]
        while not all(one.done() for one in warmed):
            probes.append(client.http.get("/readyz").status_code)
            if client.ready()["stages"]["tokenizer"]["state"] != "ok":
                probes.append(0)
    assert set(probes) == {httpx.codes.OK}
    assert [hit.status_code for hit in hits] == [httpx.codes.OK]
    assert {one.result().status_code for one in warmed} == {httpx.codes.OK}


def test_refusals_of_a_stage_are_lines_and_no_tracebacks(client: ServiceClient):
    before = client.log().count("Traceback")
    for text in ("...", "。"):
        assert 400 <= client.speak(input=text).status_code < 500
    assert client.log().count("Traceback") == before
