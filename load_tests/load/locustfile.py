"""Locust's users: the same workloads and clients' ears under locust's own statistics.

    python -m locust -f load_tests/load/locustfile.py --headless --host http://127.0.0.1:8000 \\
        --workload hot_voice --saturation 1 OpenLoop
    python -m locust … --users 8 ClosedLoop

OpenLoop sends the workload's calls at their moments, whatever becomes of those before them; what it
reports counts from there. ClosedLoop's users each wait for their answer: what such a load says of
latency is too good when the service stalls. Response times are those of the first audio and of the
whole answer, in milliseconds.
"""

from __future__ import annotations

import json
import secrets
import threading
import time
from argparse import ArgumentParser
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import gevent
import requests
from locust import User, constant, events, task
from locust.env import Environment
from websockets.exceptions import InvalidStatus, WebSocketException
from websockets.sync.client import connect

from load_tests.load.answers import OK, Answer, Ear
from load_tests.load.asks import BYTES_S, Ask, ask_of
from load_tests.load.place import local_only
from load_tests.load.plan import Call, plan_of
from load_tests.load.workload import workloads

FAULTS: tuple[tuple[type[BaseException], str], ...] = (
    (requests.Timeout, "timeout"),
    (TimeoutError, "timeout"),
    (requests.exceptions.ChunkedEncodingError, "cut off"),
    (requests.ConnectionError, "not connected"),
    (WebSocketException, "session closed"),
    (OSError, "reset"),
)
NONCE = secrets.randbelow(2**31)  # of the clips of this run


@events.init_command_line_parser.add_listener
def _add_options(parser: ArgumentParser) -> None:
    parser.add_argument("--workload", default="hot_voice", help="see python -m load_tests.load")
    parser.add_argument("--saturation", type=float, default=1.0, help="calls/s of a full service")
    parser.add_argument("--scale", type=float, default=1.0, help="of the calls or the duration")
    parser.add_argument("--elsewhere", action="store_true", help="not this machine's service")


@events.test_start.add_listener
def _check(environment: Environment, **_: Any) -> None:
    options = environment.parsed_options
    local_only(environment.host or "", is_elsewhere=bool(options and options.elsewhere))


class Listener(User):
    """Speaks, plays what comes, and tells locust."""

    abstract = True
    host = "http://127.0.0.1:8000"

    def on_start(self) -> None:
        self._begun_s = time.perf_counter()
        self._http = requests.Session()
        self._http.trust_env = False
        options = self.environment.parsed_options
        assert options is not None
        self._workload = workloads()[options.workload].scaled(options.scale, None)
        self._saturation_hz: float = options.saturation

    def _now_s(self) -> float:
        return time.perf_counter() - self._begun_s

    def _speak(self, call: Call, ask: Ask, at_s: float) -> None:
        call, ear = replace(call, at_s=at_s), Ear(call, at_s, self._now_s())
        try:
            answer = (self._session if ask.messages else self._reply)(call, ask, ear)
        except (requests.RequestException, OSError, WebSocketException) as error:
            kind = next((kind for cls, kind in FAULTS if isinstance(error, cls)), str(type(error)))
            answer = ear.failed(kind, self._now_s())
        self._tell(answer)

    def _reply(self, call: Call, ask: Ask, ear: Ear) -> Answer:
        address = f"{self.host}{ask.path}"
        how = {"data": ask.body, "headers": dict(ask.headers), "timeout": self._workload.timeout_s}
        with self._http.post(address, stream=True, **how) as reply:
            ear.replied(reply.status_code, reply.headers)
            if not ear.is_audio:
                return ear.ended(self._now_s(), reply.content)
            for piece in reply.raw.stream(None):
                ear.heard(len(piece), self._now_s())
                if self._has_left(call, len(piece)):
                    return ear.left(self._now_s())
        return ear.ended(self._now_s())

    def _session(self, call: Call, ask: Ask, ear: Ear) -> Answer:
        address = f"{self.host}{ask.path}".replace("http", "ws", 1)
        timeout_s = self._workload.timeout_s
        try:
            with connect(address, proxy=None, compression=None, open_timeout=timeout_s) as talk:
                ear.replied(OK, {})
                for message in ask.messages:
                    talk.send(message)
                while True:
                    message = talk.recv(timeout_s)
                    if isinstance(message, bytes):
                        ear.heard(len(message), self._now_s())
                        if self._has_left(call, len(message)):
                            return ear.left(self._now_s())
                        continue
                    said = json.loads(message)
                    if said["type"] == "error":
                        return ear.told(said["error"], self._now_s())
                    if said["type"] == "session.done":
                        return ear.ended(self._now_s())
        except InvalidStatus as error:
            ear.replied(error.response.status_code, dict(error.response.headers.raw_items()))
            return ear.ended(self._now_s(), bytes(error.response.body))

    def _has_left(self, call: Call, n_bytes: int) -> bool:
        """Take as long for what came as the caller does; whether he hung up since."""
        if call.read_rate is not None:
            gevent.sleep(n_bytes / BYTES_S[call.format] / call.read_rate)
        return call.leaves_after_s is not None and self._now_s() > call.at_s + call.leaves_after_s

    def _end(self) -> None:
        """Of the run, when all calls were answered."""
        assert self.environment.runner is not None
        self.environment.runner.quit()

    def _tell(self, answer: Answer) -> None:
        """Two of locust's requests: the first audio and the whole answer, which may fail.

        Who hung up has heard no whole answer.
        """
        fault = f"refused, {answer.status}" if answer.outcome == "refused" else answer.fault
        times: dict[str, tuple[float, Exception | None]] = {}
        if answer.first_audio_s is not None:
            times["first audio"] = answer.first_audio_s, None
        if answer.outcome != "left":
            times["whole"] = answer.whole_s, RuntimeError(fault) if fault else None
        for name, (taken_s, exception) in times.items():
            self.environment.events.request.fire(
                request_type=answer.dialect,
                name=name,
                response_time=1e3 * taken_s,
                response_length=0,
                exception=exception,
                context={},
            )


class OpenLoop(Listener):
    """One user for the whole crowd, since nobody in it waits for another."""

    fixed_count = 1

    @task
    def crowd(self) -> None:
        plan = plan_of(self._workload, self._saturation_hz)
        calls: list[gevent.Greenlet[..., None]] = []
        for call in plan.calls:
            ask = ask_of(call, NONCE)
            gevent.sleep(max(0.0, call.at_s - self._now_s()))
            calls.append(gevent.spawn(self._speak, call, ask, call.at_s))
        gevent.joinall(calls)
        self._end()


class ClosedLoop(Listener):
    """Each user takes the next of the workload's calls when it has its answer."""

    wait_time = constant(0)
    _lock = threading.Lock()
    _waiting: Iterator[Call] | None = None

    @task
    def call(self) -> None:
        cls = type(self)
        with self._lock:
            if cls._waiting is None:
                cls._waiting = iter(plan_of(self._workload, self._saturation_hz).calls)
            call = next(cls._waiting, None)
        if call is None:
            self._end()
        else:
            self._speak(call, ask_of(call, NONCE), self._now_s())
