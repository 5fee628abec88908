"""`make image`: the Dockerfile's target cpu built in a chroot, started read-only, and spoken with.

    python -m tests.image [--directory DIR] [--torch-index WORDS] [--show PATH …] [--keep]

Says what each took and how large the image is. Needs root, debootstrap and a package index.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from tests.image.chroot import Builder, Image, apart, command_in, missing, mounted
from tests.image.dockerfile import read_dockerfile

ROOT = Path(__file__).resolve().parents[2]
TARGET = "cpu"
READY_S = 300.0
URL = "http://127.0.0.1:8000"
SAYING = {"input": "It speaks.", "voice": "aria", "response_format": "wav", "seed": 1}


def main() -> int:
    """Build, start, ask, and say what came of it."""
    words = argparse.ArgumentParser(prog="python -m tests.image")
    words.add_argument("--directory", type=Path, help="where the chroots go; a temporary one")
    words.add_argument("--torch-index", default="", help="of the build argument TORCH_INDEX")
    words.add_argument("--show", type=Path, action="append", default=[], help="seen by builds, too")
    words.add_argument("--keep", action="store_true", help="leave the chroots")
    given = words.parse_args()
    if reason := missing():
        sys.stdout.write(f"skipped: {reason}\n")
        return 0
    if os.environ.get("TIMBRE_IMAGE_APART") != "1":
        again = apart([sys.executable, "-m", "tests.image", *sys.argv[1:]])
        environment = {**os.environ, "TIMBRE_IMAGE_APART": "1"}
        return subprocess.run(again, env=environment, check=False).returncode
    directory = given.directory or Path(tempfile.mkdtemp(prefix="timbre-image-"))
    directory.mkdir(parents=True, exist_ok=True)
    arguments = {"TORCH_INDEX": given.torch_index}
    try:
        began_s = time.monotonic()
        dockerfile = read_dockerfile(ROOT / "Dockerfile")
        image = Builder(ROOT, directory, dockerfile, arguments, given.show).build(TARGET)
        told = {"built in, s": round(time.monotonic() - began_s), "MB": _megabytes(image.root)}
        told |= examine(image)
    finally:
        if not given.keep:
            shutil.rmtree(directory, ignore_errors=True)
    sys.stdout.write(json.dumps(told, indent=1) + "\n")
    return 0


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
            request = urllib.request.Request(  # noqa: S310 - a literal address
                f"{URL}/v1/audio/speech",
                json.dumps(SAYING).encode(),
                {"Content-Type": "application/json"},
            )
            with urllib.request.urlopen(request, timeout=120) as reply:  # noqa: S310
                n_bytes = len(reply.read())
            began_s = time.monotonic()
        ended_s = time.monotonic() - began_s
    assert n_bytes > 10_000, n_bytes
    return {
        "user": image.uid(),
        "healthy after, s": round(healthy_s),
        "spoke, bytes": n_bytes,
        "ended after SIGINT, s": round(ended_s, 1),
    }


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
        if done.returncode == 0:
            return
        time.sleep(1)
    raise TimeoutError(f"not healthy in {READY_S:.0f} s")


def _said(image: Image, words: list[str]) -> str:
    done = subprocess.run(command_in(image, words), capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def _megabytes(root: Path) -> int:
    done = subprocess.run(
        ["du", "--summarize", "--one-file-system", "--block-size=1M", str(root)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return int(done.stdout.split()[0])


if __name__ == "__main__":
    sys.exit(main())
