"""A disk of its own for the store of voices: it can be made slow, or full, and nobody else's is."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.storm.machine import run

DISK_BYTES = 96 * 2**20
THROTTLE = Path("/sys/fs/cgroup/blkio")
LIMITS = ("read_iops_device", "write_iops_device")
SLOW_PER_S = 4  # reads, and writes, a second


class Disk:
    """A file system on a loop device. path: where it is mounted."""

    def __init__(self, path: Path, device: str) -> None:
        self.path, self._device = path, device
        numbers = os.stat(device).st_rdev
        self._number = f"{os.major(numbers)}:{os.minor(numbers)}"

    def slow(self) -> None:
        """A handful of reads and writes a second from now on, for everybody."""
        for limit in LIMITS:
            (THROTTLE / f"blkio.throttle.{limit}").write_text(f"{self._number} {SLOW_PER_S}\n")

    def full(self) -> None:
        """No byte more."""
        with (self.path / "filler").open("wb", buffering=0) as filler:
            for n_bytes in (2**16, 1):  # what is left over is less than one of the first
                with contextlib.suppress(OSError):
                    while True:
                        filler.write(bytes(n_bytes))

    def heal(self) -> None:
        """As it was."""
        for limit in LIMITS:
            (THROTTLE / f"blkio.throttle.{limit}").write_text(f"{self._number} 0\n")
        (self.path / "filler").unlink(missing_ok=True)


def missing() -> str:
    """Why there can be no such disk here; empty where there can."""
    if not (THROTTLE / f"blkio.throttle.{LIMITS[0]}").exists():
        return "no blkio controller (cgroup v1) to slow a disk with"
    without = [tool for tool in ("losetup", "mkfs.ext4") if shutil.which(tool) is None]
    return f"not installed: {', '.join(without)}" if without else ""


@contextlib.contextmanager
def mounted_disk(directory: Path) -> Iterator[Disk]:
    """A fresh disk, gone at the end of the block."""
    image, path = directory / "disk.img", directory / "disk"
    path.mkdir()
    with image.open("wb") as file:
        file.truncate(DISK_BYTES)
    run("mkfs.ext4", "-q", "-m", "0", "-O", "^has_journal", str(image))
    device = run("losetup", "--find", "--show", str(image)).strip()
    try:
        run("mount", device, str(path))
        disk = Disk(path, device)
        try:
            yield disk
        finally:
            disk.heal()
            subprocess.run(["umount", "--lazy", str(path)], check=False)
    finally:
        run("losetup", "--detach", device)
