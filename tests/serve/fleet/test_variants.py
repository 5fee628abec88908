"""Two variants of the language model in one service: a request names the one that speaks."""

from __future__ import annotations

import httpx
import pytest

from tests.serve.service_client import ServiceClient, body
from tests.waiting import eventually

pytestmark = pytest.mark.serve


def speak(client: ServiceClient, **step_audio: str) -> httpx.Response:
    request = body(response_format="pcm", cache="off", step_audio=step_audio)
    return client.http.post("/v1/audio/speech", json=request)


def test_the_named_variant_speaks(many: ServiceClient) -> None:
    def drawn() -> tuple[int, int]:
        return tuple(many.gauge(stage, "tokens_generated_total") for stage in ("llm", "llm-int8"))

    before = drawn()
    usual = speak(many)
    assert usual.status_code == httpx.codes.OK
    after_usual = drawn()
    assert after_usual[0] > before[0]
    assert after_usual[1] == before[1]
    assert speak(many, model_variant="base").content == usual.content
    after_base = drawn()
    other = speak(many, model_variant="int8")
    assert other.status_code == httpx.codes.OK
    assert other.content
    after_int8 = drawn()
    assert after_int8[0] == after_base[0]
    assert after_int8[1] > after_base[1]
    assert many.gauge("llm-int8", "slots_total") == 1


def test_each_replica_tells_its_memory_and_what_its_start_took(many: ServiceClient) -> None:
    stages = many.ready()["stages"]
    base, int8 = (stages[stage]["replicas"][0] for stage in ("llm", "llm-int8"))
    assert 0 < int8["weight_bytes"] < base["weight_bytes"]
    assert base["cache_bytes"] == 8 * int8["cache_bytes"], "8 slots and 1"
    assert (base["device_bytes"], base["limit_bytes"]) == (0, 0), "no GPU"
    assert base["start_s"]["load"] > 0
    assert base["start_s"]["warm_up"] > 0
    assert eventually(lambda: "language model int8 is ready: load" in many.log())


def test_a_name_of_the_predecessor_means_what_is_deployed(many: ServiceClient) -> None:
    assert speak(many, model_variant="bnb").content == (speak(many, model_variant="int8").content)


def test_what_is_not_deployed_is_refused_with_what_is(many: ServiceClient) -> None:
    reply = speak(many, model_variant="awq")
    assert reply.status_code == httpx.codes.BAD_REQUEST
    error = reply.json()["error"]
    assert error["param"] == "step_audio.model_variant"
    assert "'awq'" in error["message"]
    assert "deployed: base, int8" in error["message"]


def test_the_variants_are_listed(many: ServiceClient) -> None:
    models = many.http.get("/v1/models").json()["data"]
    assert {tuple(model["model_variants"]) for model in models} == {("base", "int8")}
