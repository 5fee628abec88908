"""The production config is deployed, and once more, on a service that runs."""

from __future__ import annotations

import httpx
import pytest
import yaml

from tests.serve.starts.conftest import AT_START, KEY, Production
from tests.waiting import eventually

pytestmark = pytest.mark.serve


def test_it_comes_up_speaks_to_who_has_a_key_and_is_deployed_twice(production: Production):
    assert production.speak("tk_nobody").status_code == httpx.codes.UNAUTHORIZED
    assert production.speak(KEY).status_code == httpx.codes.OK
    before = production.running()
    production.deploy()
    assert eventually(lambda: production.has(AT_START), every_s=0.5)
    assert production.running() == before, "the same config restarted replicas"


@pytest.mark.exhaustive  # tests/serve/one/life/test_scaling.py has it of the embedded default
def test_an_edit_of_the_config_scales_one_stage_and_restarts_nothing(production: Production):
    before = production.running()
    document = yaml.safe_load(production.config.read_text())
    (tokenizer,) = [
        one for one in document["applications"][0]["deployments"] if one["name"] == "Tokenizer"
    ]
    tokenizer["autoscaling_config"]["min_replicas"] = 2
    production.config.write_text(yaml.safe_dump(document))
    production.deploy()
    assert eventually(lambda: production.has(AT_START | {"Tokenizer": 2}), every_s=0.5)
    after = production.running()
    assert all(before[name] <= after[name] for name in AT_START)
    assert production.speak(KEY).status_code == httpx.codes.OK
