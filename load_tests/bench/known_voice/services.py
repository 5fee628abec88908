"""Local services of any tree of the repository, and how soon they make sound."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.cache_helpers import free_port

ROOT = Path(__file__).parents[3]
COMMAND = (sys.executable, "-P", "-c", "from deployments.cli import app; app()")
START_TIMEOUT_S = 300
REQUEST_TIMEOUT_S = 120

Change = Callable[[dict[str, Any], dict[str, dict[str, Any]]], None]


def as_shipped(args: dict[str, Any], deployments: dict[str, dict[str, Any]]) -> None:
    """A Change that is none."""


@contextmanager
def service(
    directory: Path, tree: Path = ROOT, change: Change = as_shipped
) -> Iterator[httpx.Client]:
    """A tree's CPU config, `timbre up` and, at the end, `timbre down`. Finished speech is off.

    directory: log, state and, in `voices`, the records, which the next start there finds. change:
    edits `args` and the deployments by name; replicas are pinned to what it leaves.
    Raises SystemExit with the last words of a start that fails.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # services outlive their starter
    directory.mkdir(parents=True, exist_ok=True)
    port = free_port()
    path = directory / "serve_config.yaml"
    path.write_text(_config(tree, directory, port, change))
    state = ("--state-dir", str(directory))
    _run(tree, "up", str(path), *state)
    try:
        url = f"http://127.0.0.1:{port}"
        with httpx.Client(base_url=url, timeout=REQUEST_TIMEOUT_S, trust_env=False) as client:
            yield client
    finally:
        _run(tree, "down", *state)


def _config(tree: Path, directory: Path, port: int, change: Change) -> str:
    document = yaml.safe_load((tree / "serve_config.cpu.yaml").read_text())
    document["http_options"]["port"] = port
    (application,) = document["applications"]
    args = application["args"]
    args["cache"]["url"] = str(directory / "voices")
    if "speech_cache" in args:
        args["speech_cache"] = {"enabled": False}
    deployments = {one["name"]: one for one in application["deployments"]}
    change(args, deployments)
    for one in deployments.values():
        one["autoscaling_config"]["max_replicas"] = one["autoscaling_config"]["min_replicas"]
    return yaml.safe_dump(document, sort_keys=False)


def _run(tree: Path, *words: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    done = subprocess.run(
        [*COMMAND, *words],
        cwd=tree,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=START_TIMEOUT_S,
    )
    if done.returncode:
        raise SystemExit(f"timbre {words[0]} in {tree}: {(done.stderr or done.stdout)[-2000:]}")


def first_audio_s(client: httpx.Client, voice: str, text: str, seed: int) -> float:
    """From the request to the first byte of sound; the rest is read, too."""
    body = {"input": text, "voice": voice, "seed": seed, "response_format": "pcm"}
    begun_s = time.perf_counter()
    with client.stream("POST", "/v1/audio/speech", json=body) as reply:
        reply.raise_for_status()
        pieces = reply.iter_raw()
        next(pieces)
        took_s = time.perf_counter() - begun_s
        for _ in pieces:
            pass
    return took_s
