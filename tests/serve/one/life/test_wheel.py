"""The wheel away from its repository: what it holds, and a service in an empty directory."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import httpx
import pytest

from tests.conftest import ROOT
from tests.serve.one.life.conftest import FromWheel
from tests.serve.one.life.wheel import run
from tests.serve.service_client import cloned, decoded, listed_clip

pytestmark = pytest.mark.serve


def test_the_wheel_holds_what_a_service_reads(wheel: Path):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        for name in ("serve_config.yaml", "serve_config.cpu.yaml"):
            assert archive.read(f"deployments/config/{name}") == (ROOT / name).read_bytes()
    assert {n.split("/")[0] for n in names if ".dist-info/" not in n} == {
        "pipeline",
        "deployments",
        "cache_store",
    }
    notices = {n.rpartition("/")[2] for n in names if ".dist-info/licenses/" in n}
    assert notices == {"LICENSE", "NOTICE"}
    for tree in ("pipeline/voices", "pipeline/checkpoints"):
        files = {str(p.relative_to(ROOT)) for p in (ROOT / tree).rglob("*") if p.is_file()}
        assert files <= names


def test_up_a_clone_over_http_and_down_in_an_empty_directory(updatable: FromWheel):
    """The last that is done with it."""
    timbre, client, empty = str(updatable.timbre), updatable.client, updatable.directory
    assert run(timbre, "lint", "serve_config.yaml", cwd=empty).endswith("is good\n")
    assert re.fullmatch(r"(timbre )?\d+\.\d+\.\d+\s*", run(timbre, "--version", cwd=empty))
    assert f"ready at {client.service.url}," in updatable.said
    clip, transcript = listed_clip("bruno")
    reply = client.http.post(
        "/v1/audio/speech", json=cloned(clip, transcript, response_format="wav")
    )
    assert reply.status_code == httpx.codes.OK, reply.text[:300]
    samples, rate_hz = decoded(reply.content)
    assert rate_hz == 24_000
    assert len(samples) > 0.1 * rate_hz
    assert client.http.get("/readyz").status_code == httpx.codes.OK
    running = (empty / "out" / "serve_config.running.yaml").read_text()
    assert str(updatable.timbre.parents[1]) in running, "the checkout's config, not the wheel's"
    assert run(timbre, "down", cwd=empty) == "stopped\n"
    with pytest.raises(httpx.TransportError):
        httpx.get(client.service.url + "/healthz", timeout=5.0)
