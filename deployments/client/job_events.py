"""A job followed to its end, over as many connections as it takes."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from typing import Any

from deployments.client.service import Service
from pipeline.errors import CapacityError, StageError

OVER = frozenset({"completed", "failed", "cancelled"})
MOST_FAILURES = 20  # connections in a row that brought nothing
PAUSE_S = 1.0

Job = dict[str, Any]


def followed(service: Service, job_id: str) -> Iterator[Job]:
    """The job whenever it is further; the last one is over.

    Connections that end, break off or find the service full are made again. Raises InputError for a
    job that is not there, and StageError or CapacityError when the service stays so, or silent.
    """
    n_failures = 0
    while True:
        try:
            for job in _told(service, job_id):
                n_failures = 0
                yield job
                if job["status"] in OVER:
                    return
        except (StageError, CapacityError):
            if n_failures >= MOST_FAILURES:
                raise
        else:
            if n_failures >= MOST_FAILURES:
                raise StageError(f"{service.url} answers, and says nothing of {job_id}")
        n_failures += 1
        time.sleep(PAUSE_S)


def _told(service: Service, job_id: str) -> Iterator[Job]:
    with service.streamed("GET", f"/v1/audio/jobs/{job_id}/events") as reply:
        yield from _jobs(reply.iter_lines())


def _jobs(lines: Iterable[str]) -> Iterator[Job]:
    """The data of server-sent events, a line each; comments are skipped."""
    for line in lines:
        if line.startswith("data:"):
            yield json.loads(line.removeprefix("data:"))
