"""A stranger with the runbooks: install, upgrade, rollback and scale under load, three machines.

No request may fail. Writes load_tests/results/runbook.json, which docs/operations/upgrade.md shows.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from load_tests.bench.provenance import provenance
from tests.conftest import ROOT
from tests.storm import machine
from tests.storm.production import Production, cluster_steps, is_shipped, production, under_load

pytestmark = [pytest.mark.storm, pytest.mark.timeout(2400)]
RESULTS = ROOT / "load_tests" / "results" / "runbook.json"
PER_S = 0.6
AT_START = {"Router": 2, "Tokenizer": 1, "LLM": 2, "Vocoder": 2, "Jobs": 1}


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Production]:
    if reason := machine.missing():
        pytest.skip(reason)
    with production(tmp_path_factory.mktemp("production")) as one:
        yield one


async def test_a_stranger_with_the_runbooks(stranger: Production) -> None:
    told: dict[str, Any] = {}
    deploy, key = cluster_steps("install.md")
    scale, release, look = cluster_steps("upgrade.md")
    (back,) = cluster_steps("rollback.md")
    before, after = {str(stranger.release)}, {str(stranger.next_release)}

    told["install"] = {"steps, s": [round(stranger.do(step), 1) for step in (deploy, key)]}
    assert is_shipped(Path(stranger.variables["CONFIG"]))
    assert (stranger.replicas(), stranger.releases()) == (AT_START, before)

    told["upgrade"] = await under_load(stranger, [release, look], 1, PER_S)
    assert (stranger.replicas(), stranger.releases()) == (AT_START, after)

    told["rollback"] = await under_load(stranger, [back], 2, PER_S)
    assert (stranger.replicas(), stranger.releases()) == (AT_START, before)

    told["scale up"] = await under_load(stranger, [scale], 3, PER_S)
    assert stranger.replicas() == AT_START | {"Tokenizer": 2}

    RESULTS.write_text(json.dumps({**told, **provenance("cpu")}, indent=1) + "\n")
    failed = {name: one["failed"] for name, one in told.items() if one.get("failed")}
    assert not failed, told
