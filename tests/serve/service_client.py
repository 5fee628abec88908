"""A client of the running service that the serve and chaos tiers share.

Requests, gauges, replica processes.
"""

from __future__ import annotations

import base64
import io
import itertools
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import av
import httpx
import numpy as np
import psutil

from deployments.local.service import RunningService
from pipeline.audio.decode import decode_clip
from pipeline.contracts import ReferenceClip
from pipeline.voice_list import VOICES_DIR, load_voices
from tests.audio_files import wav
from tests.waiting import wait_until

TEXT = "One two three four."
TIMEOUT_S = 240.0
_LEVELS = itertools.count(1)


class ServiceClient:
    """Talks to one running service over HTTP, as a user would."""

    def __init__(self, service: RunningService) -> None:
        self.service = service
        self.http = httpx.Client(base_url=service.url, timeout=TIMEOUT_S)

    def close(self) -> None:
        self.http.close()

    def speak(self, **fields: Any) -> httpx.Response:
        """POST /v1/audio/speech with a listed voice and a fixed seed unless told otherwise."""
        return self.http.post("/v1/audio/speech", json=body(**fields))

    @contextmanager
    def stream(self, **fields: Any) -> Iterator[httpx.Response]:
        with self.http.stream("POST", "/v1/audio/speech", json=body(**fields)) as reply:
            yield reply

    def ready(self) -> dict[str, Any]:
        """What /readyz says of a moment after the call: those who ask at once share a report."""
        asked_s = time.monotonic()
        while True:
            report = self.http.get("/readyz").json()
            if report["age_s"] < time.monotonic() - asked_s:
                return report
            time.sleep(0.1)

    def gauge(self, stage: str, name: str) -> int:
        """A gauge summed over the stage's replicas, as soon as one of them answers."""
        report: dict[str, Any] = {}

        def is_told() -> bool:
            report.update(self.ready()["stages"][stage])
            return "replicas" in report

        wait_until(is_told)
        return sum(replica[name] for replica in report["replicas"])

    def encodes(self) -> int:
        return self.gauge("tokenizer", "encodes")

    def busy(self) -> tuple[int, int]:
        """LLM slots and vocoder streams in use."""
        return self.gauge("llm", "slots_active"), self.gauge("vocoder", "streams_active")

    def log(self) -> str:
        return Path(self.service.log).read_text(errors="replace")

    def replica(self, stage: str) -> psutil.Process:
        """The process of one replica of a deployment (Router, Tokenizer, LLM, Vocoder)."""
        processes = self.replicas(stage)
        assert processes, f"no process of {stage}"
        return processes[0]

    def replicas(self, stage: str) -> list[psutil.Process]:
        root = psutil.Process(self.service.pid)
        title = f"ray::ServeReplica:timbre:{stage}"
        return [p for p in root.children(recursive=True) if title in " ".join(cmdline_of(p))]

    def prometheus(self) -> str:
        """What Prometheus would scrape of this service's Ray node."""
        pages = [_scraped(port) for port in self._agents_ports()]
        return "\n".join(page for page in pages if "timbre_" in page)

    def metrics_port(self) -> int:
        """Where Prometheus would scrape it."""
        return next(port for port in self._agents_ports() if "timbre_" in _scraped(port))

    def _agents_ports(self) -> list[int]:
        root = psutil.Process(self.service.pid)
        agents = [
            p for p in root.children(recursive=True) if "DashboardAgent" in " ".join(cmdline_of(p))
        ]
        ports = {
            socket.laddr.port
            for agent in agents
            for socket in agent.net_connections("tcp")
            if socket.status == psutil.CONN_LISTEN
        }
        return sorted(ports)

    def kill(self, stage: str) -> None:
        self.replica(stage).send_signal(signal.SIGKILL)


def _scraped(port: int) -> str:
    try:
        reply = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=20.0)
    except httpx.HTTPError:  # a port that speaks something else
        return ""
    return reply.text if reply.status_code == httpx.codes.OK else ""


def cmdline_of(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return []


def body(**fields: Any) -> dict[str, Any]:
    return {"input": TEXT, "voice": "aria", "seed": 7, **fields}


def cloned(clip: bytes, transcript: str, **fields: Any) -> dict[str, Any]:
    """A body with an uploaded clip."""
    step_audio = {"prompt_audio_base64": base64.b64encode(clip).decode(), "prompt_text": transcript}
    return body(step_audio=step_audio, **fields)


def listed_clip(name: str = "aria") -> tuple[bytes, str]:
    voice = load_voices(VOICES_DIR)[name]
    return voice.path.read_bytes(), voice.transcript


def clip_of_its_own() -> tuple[bytes, str]:
    """A clip that no other test sent, and its transcript: a listed one, a little quieter."""
    known, transcript = _bruno()
    level = 1 - next(_LEVELS) / 4000
    return wav(known.samples[np.newaxis] * level, known.sample_rate_hz), transcript


@cache
def _bruno() -> tuple[ReferenceClip, str]:
    clip, transcript = listed_clip("bruno")
    return decode_clip(clip), transcript


def decoded(audio: bytes) -> tuple[np.ndarray, int]:
    """Samples (mono float32) and rate of any container."""
    with av.open(io.BytesIO(audio)) as container:
        rate_hz = container.streams.audio[0].rate
        resampler = av.AudioResampler("flt", "mono", rate_hz)
        frames = [
            f.to_ndarray()[0]
            for frame in container.decode(audio=0)
            for f in resampler.resample(frame)
        ]
    return np.concatenate(frames), rate_hz
