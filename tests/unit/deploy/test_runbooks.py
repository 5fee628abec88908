"""docs/operations: each block of commands says where it is executed; those of stores are, here."""

from __future__ import annotations

import json
import os
import re
import shlex
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT
from tests.runbooks import EXECUTED, OPERATIONS, executed, pages, steps
from tests.storm import faults, timings

pytestmark = pytest.mark.unit
INCIDENTS = OPERATIONS / "incidents"
# Which the operator follows one after another, on one store.
ON_STORES = (
    "restore.md", "move_buckets.md", "rotate_keys.md", "incidents/cache.md", "capacity.md"
)  # fmt: skip


@pytest.mark.parametrize("page", pages())
def test_every_block_says_where_it_is_executed(page: str) -> None:
    for step in steps(page):
        assert step.why_not or step.where in EXECUTED, f"{page}:{step.line}"


def test_blocks_are_where_their_tests_look_for_them() -> None:
    found = {where: {one for one in pages() if executed(one, where)} for where in EXECUTED}
    assert found["store"] == set(ON_STORES)
    assert found["cluster"] == {"install.md", "upgrade.md", "rollback.md"}
    assert found["image"] == {"install.md"}
    assert found["storm"] == {"drain.md"}
    (drain,) = executed("drain.md", "storm")
    source = Path(faults.__file__).read_text()
    options = [word for word in shlex.split(drain.text, comments=True) if word.startswith("--")]
    assert {word.partition("=")[0] for word in options} > {"--node-id", "--reason"}
    assert all(word.partition("=")[0] in source for word in options), "the storm tier's drain"


def test_every_page_is_found_from_the_first_and_no_link_is_dead() -> None:
    linked = {OPERATIONS / "index.md"}
    for page in pages():
        path = OPERATIONS / page
        for target in re.findall(r"\]\(([^)#]+)\)", path.read_text(encoding="utf-8")):
            file = (path.parent / target).resolve()
            assert file.is_file(), f"{page}: {target}"
            if path.name == "index.md":
                linked.add(file)
    assert linked >= {OPERATIONS / page for page in pages()}


@pytest.mark.slow
def test_what_is_done_to_a_store_is_done(tmp_path: Path) -> None:
    """As it stands, in the order of ON_STORES, on directories instead of buckets."""
    names = {"STORE": "store", "BACKUP": "backup", "NEW_STORE": "new"}
    places = {name: str(tmp_path / folder) for name, folder in names.items()}
    config = tmp_path / "serve_config.yaml"
    document = yaml.safe_load((ROOT / "serve_config.yaml").read_text())
    document["applications"][0]["args"]["cache"] = {"url": places["STORE"]}
    config.write_text(yaml.safe_dump(document))
    make_key = (
        f"timbre keys create --config {config} --tenant museum --scope speak > {tmp_path}/key\n"
    )
    blocks = [step.text for page in ON_STORES for step in executed(page, "store")]
    environment = {
        **os.environ,
        **places,
        "CONFIG": str(config),
        "KEY_FILE": str(tmp_path / "key"),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
    }
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", make_key + "\n".join(blocks)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "key.new").read_text().startswith("tk_")
    assert stat.S_IMODE((tmp_path / "key.new").stat().st_mode) == 0o600
    assert f"url: {places['NEW_STORE']}" in config.read_text()
    keys = {path.name for path in (tmp_path / "new" / "access").rglob("*") if path.is_file()}
    assert keys > {p.name for p in (tmp_path / "backup" / "access").rglob("*") if p.is_file()}
    service = next(yaml.safe_load_all((tmp_path / "rayservice.large.yaml").read_text()))
    assert service["spec"]["rayClusterConfig"]["workerGroupSpecs"][1]["minReplicas"] == 34


def test_every_alert_has_its_place_on_the_page_of_its_group() -> None:
    files = list((ROOT / "deploy").rglob("alerts.yaml"))
    if not files:
        pytest.skip("no alerts are here")
    (rules,) = [yaml.safe_load(file.read_text(encoding="utf-8")) for file in files]
    for group in rules["groups"]:
        page = INCIDENTS / f"{group['name'].removeprefix('timbre-')}.md"
        headings = set(re.findall(r"^## (Timbre\w+)$", page.read_text(encoding="utf-8"), re.M))
        assert headings == {rule["alert"] for rule in group["rules"]}, page.name


def test_alerts_of_runbooks_are_on_one_page_each() -> None:
    every = [
        heading
        for page in INCIDENTS.glob("*.md")
        for heading in re.findall(r"^## (\w+)$", page.read_text(encoding="utf-8"), re.M)
    ]
    assert len(every) == len(set(every)) > 10


def test_the_table_of_upgrades_is_what_was_measured() -> None:
    if not timings.RESULTS.exists():
        pytest.skip("the runbooks were not followed yet: tests/storm/test_production.py")
    table = timings.markdown(json.loads(timings.RESULTS.read_text()))
    assert f"{timings.BEGIN}\n\n{table}\n\n{timings.END}" in timings.PAGE.read_text()
