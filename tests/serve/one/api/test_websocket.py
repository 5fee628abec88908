"""Sessions over a WebSocket on a real cluster, with a real client."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from socket import SHUT_RDWR
from typing import Any

import psutil
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.conftest import ROOT
from tests.documents.examples import SHOWN_URL
from tests.readme_blocks import blocks
from tests.serve.service_client import TIMEOUT_S, ServiceClient, decoded
from tests.serve.services import ENVIRONMENT
from tests.waiting import wait_until

pytestmark = pytest.mark.serve
LONG = "You only need to hear a voice once to speak with it again, and then it is quick. "


class Session:
    """A configured session with the shared service."""

    def __init__(self, socket: ClientConnection, **config: Any) -> None:
        self.socket = socket
        how = {"voice": "aria", "response_format": "pcm", "split_granularity": "sentence"}
        self.say("session.config", **how, **config)

    def say(self, kind: str, **fields: Any) -> None:
        self.socket.send(json.dumps({"type": kind, **fields}))

    def until(self, kind: str) -> list[Any]:
        """All messages up to the first of a kind; audio as bytes."""
        found: list[Any] = []
        while not (found and isinstance(found[-1], dict) and found[-1]["type"] == kind):
            message = self.socket.recv(TIMEOUT_S)
            found.append(message if isinstance(message, bytes) else json.loads(message))
        return found


@contextmanager
def session_with(client: ServiceClient, **config: Any) -> Iterator[Session]:
    headers = {"X-Request-Id": "me 1"}
    with connect(address(client), proxy=None, additional_headers=headers) as socket:
        yield Session(socket, **config)


def address(client: ServiceClient) -> str:
    return client.service.url.replace("http", "ws", 1) + "/v1/audio/speech/stream"


def test_the_example_of_the_document_works(client: ServiceClient, tmp_path: Path):
    [example] = [b.text for b in blocks("docs/websocket.md") if b.language == "python"]
    ours = example.replace(re.sub("^http", "ws", SHOWN_URL), address(client).split("/v1")[0])
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", ours],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "heard: Hello there. " in done.stdout
    samples, rate_hz = decoded((tmp_path / "hello.wav").read_bytes())
    assert len(samples) > 1.5 * rate_hz
    assert abs(samples).max() > 1e-3


def test_a_session_says_what_a_request_says(client: ServiceClient):
    with session_with(client, seed=7) as session:
        assert session.socket.response is not None
        assert session.socket.response.headers["x-request-id"] == "me1"
        for piece in ("One two th", "ree four."):
            session.say("input.text", text=piece)
        session.say("input.done")
        said = session.until("session.done")
        audio = b"".join(one for one in said if isinstance(one, bytes))
        alone = client.speak(input="One two three four.", seed=7, response_format="pcm").content
        assert audio == alone
        outcome = client.http.get("/v1/audio/speech/me1:0:0").json()
        assert outcome["outcome"] == "ok"
        session.say("session.close")
        with pytest.raises(ConnectionClosed) as closed:
            session.socket.recv(TIMEOUT_S)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1000


def test_an_interruption_and_a_cut_connection_free_every_stage(client: ServiceClient):
    with session_with(client) as session:
        session.say("input.text", text=LONG * 10)
        session.until("audio.start")
        wait_until(lambda: client.busy() != (0, 0))
        session.say("input.cancel", played_ms=0)
        report = session.until("input.cancelled")[-1]
        assert report["heard_text"] == ""
        assert report["unheard_text"] == LONG * 10
        wait_until(lambda: client.busy() == (0, 0))
        session.say("input.text", text="Sorry, go on. ")
        session.say("input.done")
        session.until("audio.start")
        session.say("input.text", text=LONG * 10)
        wait_until(lambda: client.busy() != (0, 0))
        session.socket.socket.shutdown(SHUT_RDWR)  # without a word
        wait_until(lambda: client.busy() == (0, 0))


def test_mistakes_end_a_session_and_strangers_get_none(client: ServiceClient):
    with session_with(client) as session:
        session.socket.send(b"\x00")
        assert "binary" in session.until("error")[-1]["message"]
        with pytest.raises(ConnectionClosed) as closed:  # noqa: PT012 - some are told before
            for _ in range(50):
                session.socket.send("?")
                session.until("error")
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1008
        with pytest.raises(InvalidStatus) as refused:
            with connect(address(client), proxy=None, origin="https://evil.example"):
                pass
        assert refused.value.response.status_code == 403


def cluster_of(service_pid: int) -> str:
    """Address of a service's own Ray cluster: others run on this machine, too."""
    session, flag = os.getsid(service_pid), "--gcs-address="
    for process in psutil.process_iter(["name"]):
        if process.info["name"] == "raylet" and os.getsid(process.pid) == session:
            (address,) = [word for word in process.cmdline() if word.startswith(flag)]
            return address.removeprefix(flag)
    raise AssertionError("the service has no Ray cluster")


def test_interruptions_are_measured_by_the_stages_own_gauges(client: ServiceClient, tmp_path: Path):
    """How soon they are free is the machine's to tell: here, that they are."""
    out = tmp_path / "sessions.json"
    where = ["--url", client.service.url, "--address", cluster_of(client.service.pid)]
    words = ["--trials", "6", *where, "--json", str(out)]
    done = subprocess.run(
        [sys.executable, "-m", "load_tests.sessions", *words],
        cwd=ROOT,
        env={**os.environ, **ENVIRONMENT},
        capture_output=True,
        text=True,
        check=False,
    )
    assert out.exists(), done.stderr
    rows = {row["what"]: row["value"] for row in json.loads(out.read_text())["rows"]}
    assert rows["4 interruptions: every stage free, p50"] < TIMEOUT_S
    assert rows["2 first audios alone, p50"] > 0
