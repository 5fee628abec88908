"""What is done with a built image, and with a release packed for machines without a network."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from tests.image.chroot import Image, command_in, mounted, run_in
from tests.runbooks import executed

READY_S = 400.0
URL = "http://127.0.0.1:8000"
SAYING = {"input": "It speaks.", "voice": "aria", "response_format": "wav", "seed": 1}
RELEASE = "/opt/timbre-0.1.0"
PYTHON = {"PYTHON": "/opt/timbre/bin/python"}  # of the stage `sources`: Debian's own has no pip


def pack(image: Image, root: Path, shown: Sequence[Path]) -> None:
    """What docs/operations/install.md does with an index, as it stands there."""
    shutil.rmtree(image.inside("out"), ignore_errors=True)
    shutil.rmtree(image.root / RELEASE.lstrip("/"), ignore_errors=True)
    shutil.copytree(root / "deploy", image.inside("deploy"), dirs_exist_ok=True)
    shutil.copy2(root / "cluster.yaml", image.inside("."))
    variables = {**image.environment, **PYTHON, "RELEASE": RELEASE}
    with mounted(image.root, shown):
        for step in executed("install.md", "image"):
            run_in(image, ["bash", "-euo", "pipefail", "-c", step.text], variables)


def install(image: Image) -> dict[str, object]:
    """The same directory, where there is no network: as a further release, which speaks."""
    began_s = time.monotonic()
    release = "/opt/timbre-without-network"
    shutil.rmtree(image.root / release.lstrip("/"), ignore_errors=True)
    say = (
        f"{release}/bin/timbre say Yes. --voice pipeline/voices/aria.wav --voice-text Yes. "
        "--output /tmp/yes.wav && test -s /tmp/yes.wav"
    )
    with mounted(image.root):
        variables = {**image.environment, **PYTHON, "HOME": "/root"}
        run_in(image, ["out/timbre/install", f"..{release}/"], variables)  # as it may be typed
        installed_s = time.monotonic() - began_s
        run_in(image, ["sh", "-c", say], variables)
    return {"installed without a network in, s": round(installed_s)}


def examine(image: Image) -> dict[str, object]:
    """Start it as it says, from a file system that is read-only; ask for health and for speech."""
    assert image.uid() != 0, "it runs as root"
    with mounted(image.root, read_only=True):
        written = _said(image, ["sh", "-c", "touch /srv/timbre/x 2>&1; touch /x 2>&1; id -u"])
        assert written.count("Read-only file system") == 2, written
        began_s = time.monotonic()
        with _running(image):
            _wait_until_healthy(image, began_s)
            healthy_s = time.monotonic() - began_s
            n_bytes = _spoken_bytes()
            began_s = time.monotonic()
        ended_s = time.monotonic() - began_s
    return {
        "user": image.uid(),
        "healthy after, s": round(healthy_s),
        "spoke, bytes": n_bytes,
        "ended after SIGINT, s": round(ended_s, 1),
    }


def save(image: Image, file: Path) -> None:
    """For another process."""
    file.write_text(json.dumps({**asdict(image), "root": str(image.root)}))


def load(file: Path) -> Image:
    document: Mapping[str, object] = json.loads(file.read_text())
    return Image(**{**document, "root": Path(str(document["root"]))})  # type: ignore[arg-type]


def _spoken_bytes() -> int:
    """Of a reply, once the stages are ready."""
    request = urllib.request.Request(  # noqa: S310 - a literal address
        f"{URL}/v1/audio/speech",
        json.dumps(SAYING).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=120) as reply:  # noqa: S310
        n_bytes = len(reply.read())
    assert n_bytes > 10_000, n_bytes
    return n_bytes


@contextlib.contextmanager
def _running(image: Image) -> Iterator[None]:
    process = subprocess.Popen(command_in(image, image.command))
    try:
        yield
    finally:
        process.send_signal(2)  # STOPSIGNAL
        process.wait(60)


def _wait_until_healthy(image: Image, began_s: float) -> None:
    while time.monotonic() - began_s < READY_S:
        done = subprocess.run(command_in(image, image.health), capture_output=True, check=False)
        if done.returncode == 0 and _is_ready():
            return
        time.sleep(1)
    raise TimeoutError(f"not healthy in {READY_S:.0f} s")


def _is_ready() -> bool:
    """The health check says that the router is there; a first request wants all stages."""
    try:
        with urllib.request.urlopen(f"{URL}/readyz", timeout=5) as reply:  # noqa: S310
            return reply.status == 200
    except OSError:
        return False


def _said(image: Image, words: list[str]) -> str:
    done = subprocess.run(command_in(image, words), capture_output=True, text=True, check=False)
    return done.stdout + done.stderr
