"""`make image`: the Dockerfile's target cpu built in a chroot, started read-only, and spoken with.

    python -m tests.image [--directory DIR] [--torch-index WORDS] [--show PATH …] [--keep]
                          [--phase build|examine]

In the second phase nothing of the network is there: what was packed for machines without one is
installed, and the image's service is asked for health and for speech. Says what each took and how
large the image is. Needs root, debootstrap and a package index.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.image.chroot import Builder, apart, missing
from tests.image.dockerfile import read_dockerfile
from tests.image.examined import examine, install, load, pack, save

ROOT = Path(__file__).resolve().parents[2]
TARGET, PACKED = "cpu", "sources"
PHASES = ("build", "examine")


def main() -> int:
    """Each phase in namespaces of its own; the directory goes at the end, unless it is kept."""
    words = argparse.ArgumentParser(prog="python -m tests.image")
    words.add_argument("--directory", type=Path, help="where the chroots go; a temporary one")
    words.add_argument("--torch-index", default="", help="of the build argument TORCH_INDEX")
    words.add_argument("--show", type=Path, action="append", default=[], help="seen by builds, too")
    words.add_argument("--keep", action="store_true", help="leave the chroots")
    words.add_argument("--phase", choices=PHASES, help="that one alone")
    given = words.parse_args()
    if reason := missing():
        sys.stdout.write(f"skipped: {reason}\n")
        return 0
    directory = given.directory or Path(tempfile.mkdtemp(prefix="timbre-image-"))
    if os.environ.get("TIMBRE_IMAGE_PHASE"):
        return _build(given, directory) if given.phase == "build" else _examine(directory)
    directory.mkdir(parents=True, exist_ok=True)
    options = [f"--directory={directory}", f"--torch-index={given.torch_index}"]
    options += [f"--show={path}" for path in given.show]
    try:
        for phase in [given.phase] if given.phase else PHASES:
            mine = [sys.executable, "-m", "tests.image", *options, f"--phase={phase}"]
            variables = {**os.environ, "TIMBRE_IMAGE_PHASE": phase}
            again = apart(mine, network=phase == "build")
            if status := subprocess.run(again, env=variables, check=False).returncode:
                return status
    finally:
        if not given.keep:
            shutil.rmtree(directory, ignore_errors=True)
    return 0


def _build(given: argparse.Namespace, directory: Path) -> int:
    began_s = time.monotonic()
    arguments = {"TORCH_INDEX": given.torch_index}
    dockerfile = read_dockerfile(ROOT / "Dockerfile")
    builder = Builder(ROOT, directory, dockerfile, arguments, given.show)
    image = builder.build(TARGET)
    built_s = time.monotonic() - began_s
    packed = builder.build(PACKED)
    began_s = time.monotonic()
    pack(packed, ROOT, given.show)
    save(image, directory / "image.json")
    save(packed, directory / "packed.json")
    told = {
        "built in, s": round(built_s),
        "MB": _megabytes(image.root),
        "packed and installed in, s": round(time.monotonic() - began_s),
    }
    sys.stdout.write(json.dumps(told) + "\n")
    return 0


def _examine(directory: Path) -> int:
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    told = install(load(directory / "packed.json"))
    told |= examine(load(directory / "image.json"))
    sys.stdout.write(json.dumps(told) + "\n")
    return 0


def _megabytes(root: Path) -> int:
    done = subprocess.run(
        ["du", "--summarize", "--one-file-system", "--block-size=1M", str(root)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return int(done.stdout.split()[0])


if __name__ == "__main__":
    sys.exit(main())
