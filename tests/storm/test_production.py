"""A stranger with the runbooks: install, upgrade, rollback and scale under load, three machines.

No request may fail. Writes load_tests/results/runbook.json, which docs/operations/upgrade.md shows.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.storm import machine, timings
from tests.storm.production import Production, cluster_steps, is_shipped, production, under_load

pytestmark = [pytest.mark.storm, pytest.mark.timeout(2400)]
PER_S = 0.6
AT_START = {"Router": 2, "Tokenizer": 1, "LLM": 2, "Vocoder": 2, "Jobs": 1}


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Production]:
    if reason := machine.missing():
        pytest.skip(reason)
    with production(tmp_path_factory.mktemp("production")) as one:
        yield one


async def test_a_stranger_with_the_runbooks(stranger: Production) -> None:
    deploy, key = cluster_steps("install.md")
    scale, release, look = cluster_steps("upgrade.md")
    (back,) = cluster_steps("rollback.md")
    before, after = {str(stranger.release)}, {str(stranger.next_release)}

    took_s = stranger.do(deploy) + stranger.do(key)
    acts: dict[str, dict[str, Any]] = {"install: the first deployment": {"took_s": took_s}}
    assert is_shipped(Path(stranger.variables["CONFIG"]))
    assert stranger.has(AT_START)
    assert stranger.releases() == before

    acts["upgrade to another release"] = await under_load(stranger, [release, look], 1, PER_S)
    timings.keep(acts, PER_S)
    assert stranger.has(AT_START)
    assert stranger.releases() == after

    acts["rollback"] = await under_load(stranger, [back], 2, PER_S)
    timings.keep(acts, PER_S)
    assert stranger.has(AT_START)
    assert stranger.releases() == before

    acts["one more tokenizer"] = await under_load(stranger, [scale], 3, PER_S)
    timings.keep(acts, PER_S)
    assert stranger.has(AT_START | {"Tokenizer": 2})
    assert not any(one.get("failed") for one in acts.values()), acts
