"""Two variants of the language model in one service: a request names the one that speaks."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import httpx
import pytest
import yaml

from tests.serve.conftest import running, write_config
from tests.serve.service_client import ServiceClient, body
from tests.waiting import eventually

pytestmark = pytest.mark.serve


@pytest.fixture(scope="module")
def two_variants(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceClient]:
    directory = tmp_path_factory.mktemp("variants")
    variants = {"int8": {"quantization": "int8", "slots": 2}}
    path = write_config(directory, cache={"url": str(directory / "voices")}, llm_variants=variants)
    config = yaml.safe_load(path.read_text())
    deployments = config["applications"][0]["deployments"]
    llm = next(deployment for deployment in deployments if deployment["name"] == "LLM")
    llm["ray_actor_options"]["num_cpus"] = 0.3  # with another of it, all stages fit two cores
    deployments.append({**copy.deepcopy(llm), "name": "LLM-int8"})
    path.write_text(yaml.safe_dump(config))
    with running(directory, path) as client:
        yield client


def speak(client: ServiceClient, **step_audio: str) -> httpx.Response:
    request = body(response_format="pcm", step_audio=step_audio)
    return client.http.post("/v1/audio/speech", json=request)


def test_the_named_variant_speaks(two_variants: ServiceClient) -> None:
    def drawn() -> tuple[int, int]:
        return tuple(
            two_variants.gauge(stage, "tokens_generated_total") for stage in ("llm", "llm-int8")
        )

    before = drawn()
    usual = speak(two_variants)
    assert usual.status_code == httpx.codes.OK
    after_usual = drawn()
    assert after_usual[0] > before[0]
    assert after_usual[1] == before[1]
    assert speak(two_variants, model_variant="base").content == usual.content
    after_base = drawn()
    other = speak(two_variants, model_variant="int8")
    assert other.status_code == httpx.codes.OK
    assert other.content
    after_int8 = drawn()
    assert after_int8[0] == after_base[0]
    assert after_int8[1] > after_base[1]
    assert two_variants.gauge("llm-int8", "slots_total") == 2


def test_each_replica_tells_its_memory_and_what_its_start_took(two_variants: ServiceClient) -> None:
    stages = two_variants.ready()["stages"]
    base, int8 = (stages[stage]["replicas"][0] for stage in ("llm", "llm-int8"))
    assert 0 < int8["weight_bytes"] < base["weight_bytes"]
    assert base["cache_bytes"] == 4 * int8["cache_bytes"], "8 slots and 2"
    assert (base["device_bytes"], base["limit_bytes"]) == (0, 0), "no GPU"
    assert base["start_s"]["load"] > 0
    assert base["start_s"]["warm_up"] > 0
    assert eventually(lambda: "language model int8 is ready: load" in two_variants.log())


def test_a_name_of_the_predecessor_means_what_is_deployed(two_variants: ServiceClient) -> None:
    assert speak(two_variants, model_variant="bnb").content == (
        speak(two_variants, model_variant="int8").content
    )


def test_what_is_not_deployed_is_refused_with_what_is(two_variants: ServiceClient) -> None:
    reply = speak(two_variants, model_variant="awq")
    assert reply.status_code == httpx.codes.BAD_REQUEST
    error = reply.json()["error"]
    assert error["param"] == "step_audio.model_variant"
    assert "'awq'" in error["message"]
    assert "deployed: base, int8" in error["message"]


def test_the_variants_are_listed(two_variants: ServiceClient) -> None:
    models = two_variants.http.get("/v1/models").json()["data"]
    assert {tuple(model["model_variants"]) for model in models} == {("base", "int8")}
