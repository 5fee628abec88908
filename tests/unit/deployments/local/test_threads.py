"""The threads of a local service follow from its cores and replicas."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from deployments.config.serve_config import ResourceRequest
from deployments.config.settings import load_settings
from deployments.local.threads import planned_threads, with_planned_threads
from tests.conftest import ROOT

pytestmark = pytest.mark.unit
MANY = {"tokenizer": 4, "llm": 2, "vocoder": 2}  # as in serve_config.yaml


def args(**threads: int) -> dict[str, Any]:
    return {section: {"threads": n} for section, n in threads.items()}


def requests(**replicas: int) -> list[ResourceRequest]:
    counts = {"Router": 1, "Tokenizer": 1, "LLM": 1, "Vocoder": 1, **replicas}
    return [ResourceRequest(name, n, {"CPU": 0.1}, surges=True) for name, n in counts.items()]


@pytest.mark.parametrize(
    ("stated", "replicas", "cores", "planned"),
    [
        ({}, {}, 2, {}),
        ({"vocoder": 1}, {}, 1, {}),
        ({"vocoder": 2, "llm": 1}, {}, 2, {"vocoder": 1}),
        (MANY, {}, 2, {"tokenizer": 1, "llm": 1, "vocoder": 1}),
        (MANY, {}, 6, {"tokenizer": 2}),
        (MANY, {}, 16, {}),
        ({"llm": 2, "vocoder": 2}, {"Vocoder": 4}, 6, {"llm": 1, "vocoder": 1}),
        ({"llm": 2, "vocoder": 2}, {"Router": 8}, 6, {}),
    ],
)
def test_no_more_threads_than_a_replicas_share_of_the_cores(
    stated: dict[str, int], replicas: dict[str, int], cores: int, planned: dict[str, int]
) -> None:
    assert planned_threads(load_settings(args(**stated)), requests(**replicas), cores) == planned


def test_a_variant_of_the_language_model_counts_and_has_its_threads() -> None:
    settings = load_settings({**args(llm=2), "llm_variants": {"int8": {}}})
    counted = requests(**{"LLM-int8": 1})
    assert planned_threads(settings, counted, 4) == {"llm": 1, "llm_variants.int8": 1}
    assert planned_threads(settings, counted, 8) == {}


def test_what_is_changed_is_said_and_the_rest_stays() -> None:
    stated = {**args(llm=2, vocoder=2), "model": "tiny"}
    document = {"applications": [{"name": "timbre", "args": stated}]}
    said: list[str] = []
    changed = with_planned_threads(document, {"llm": 1, "llm_variants.int8": 1}, said.append)
    assert changed["applications"][0]["args"] == {**args(llm=1, vocoder=2), "model": "tiny"}
    assert document["applications"][0]["args"]["llm"] == {"threads": 2}
    assert said == ["llm.threads is 2, and the cores here give each replica 1"]


def test_the_shipped_config_is_right_on_two_cores() -> None:
    (application,) = yaml.safe_load((ROOT / "serve_config.cpu.yaml").read_text())["applications"]
    assert planned_threads(load_settings(application["args"]), requests(), 2) == {}
