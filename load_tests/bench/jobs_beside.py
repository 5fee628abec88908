"""First audio of an interactive listener while a job of many segments runs, beside without one.

    python -m load_tests.bench.jobs_beside [--requests 20] [--segments 1000] [--json FILE]

One service of this tree as it ships for a CPU. A listener asks for one text after another, without
a seed: alone, then while the job runs, then alone again once the job was cancelled.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from load_tests.bench.known_voice.listeners import TEXTS
from load_tests.bench.known_voice.services import service
from load_tests.bench.provenance import provenance
from load_tests.bench.report import Row, percentile, publish

JOBS = "/v1/audio/jobs"
BAR = 1.3  # of the 95th percentile, with a job over without
BEGIN_S = 60.0  # until the job's first segment
BETWEEN_S = 0.5  # a listener thinks


def first_audios(client: httpx.Client, texts: Iterator[str], n: int) -> list[float]:
    """Seconds from each request to its first byte of sound; the rest is read, too."""
    taken_s: list[float] = []
    for text in itertools.islice(texts, n):
        body = {"input": text, "voice": "bruno", "response_format": "pcm"}
        begun_s = time.perf_counter()
        with client.stream("POST", "/v1/audio/speech", json=body) as reply:
            reply.raise_for_status()
            pieces = reply.iter_raw()
            next(pieces)
            taken_s.append(time.perf_counter() - begun_s)
            for _ in pieces:
                pass
        time.sleep(BETWEEN_S)
    return taken_s


def posted(client: httpx.Client, n_segments: int) -> str:
    """The address of a new job."""
    inputs = [{"text": text, "voice": "aria"} for text in itertools.islice(numbered(), n_segments)]
    made = client.post(JOBS, json={"inputs": inputs})
    made.raise_for_status()
    return f"{JOBS}/{made.json()['id']}"


def begun(client: httpx.Client, job: str) -> int:
    """Its segments that are made, once there are some. Raises TimeoutError without any."""
    give_up_s = time.monotonic() + BEGIN_S
    while not (n_made := done(client, job)):
        if time.monotonic() > give_up_s:
            raise TimeoutError("the job does not begin")
        time.sleep(0.2)
    return n_made


def numbered() -> Iterator[str]:
    """Texts that are all different: none is found finished."""
    for number in itertools.count(1):
        yield f"This is number {number} of a long list, and nobody waits for it."


def done(client: httpx.Client, job: str) -> int:
    """Its segments that are made."""
    told: dict[str, Any] = client.get(job).raise_for_status().json()
    return int(told["progress"]["done"])


def measured(client: httpx.Client, n_requests: int, n_segments: int) -> list[Row]:
    texts = itertools.cycle(TEXTS)
    first_audios(client, texts, 3)
    alone = first_audios(client, texts, n_requests)
    job = posted(client, n_segments)
    before, begun_s = begun(client, job), time.monotonic()
    beside = first_audios(client, texts, n_requests)
    made, took_s = done(client, job) - before, time.monotonic() - begun_s
    client.post(f"{job}/cancel").raise_for_status()
    time.sleep(3.0)
    alone += first_audios(client, texts, n_requests)
    rows: list[Row] = []
    for share in (0.5, 0.95):
        name = f"first audio, p{100 * share:.0f}"
        without, with_job = percentile(alone, share), percentile(beside, share)
        rows += [
            Row(f"{name}: alone, before and after", without, "s"),
            Row(f"{name}: while a job runs", with_job, "s"),
            Row(f"{name}: with a job over without", with_job / without, "", BAR),
        ]
    return [*rows, Row("segments a minute that the job made meanwhile", 60 * made / took_s, "")]


def keeps_speech(args: dict[str, Any], deployments: dict[str, dict[str, Any]]) -> None:
    """As it ships: a job's segments are finished speech."""
    del deployments
    args["speech_cache"] = {"enabled": True}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m load_tests.bench.jobs_beside")
    parser.add_argument("--requests", type=int, default=20, help="of the listener, each time")
    parser.add_argument("--segments", type=int, default=1_000, help="of the job")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, service(Path(name), change=keeps_speech) as client:
        rows = measured(client, options.requests, options.segments)
    return publish(rows, provenance("cpu"), options.json)


if __name__ == "__main__":
    sys.exit(main())
