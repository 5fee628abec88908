"""Checks of the machine itself: Python, cores, memory, room on disks, file descriptors, GPU."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import psutil

from deployments.config.stages import Stages
from deployments.doctor.findings import Finding, fault, good, unknown, warning
from deployments.doctor.site import Site
from deployments.local.cores import usable_cores

GIB = 2**30
OLDEST_PYTHON = (3, 11)
LEAST_MEMORY_GIB, GOOD_MEMORY_GIB = 2.0, 4.0  # the shipped CPU config takes about three
LEAST_DISK_GIB, GOOD_DISK_GIB = 1.0, 5.0
GOOD_FILES = 4096  # of a proxy: two for each connection
SHM = Path("/dev/shm")  # noqa: S108 - Ray's object store
GPU_ASK_S = 10.0
_THREADS = "OMP_NUM_THREADS"


def python(site: Site) -> Finding:
    """Which runs this, and so the service."""
    del site
    found = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < OLDEST_PYTHON:
        return fault(f"Python {found}", "3.11 or newer")
    return good(f"Python {found}")


def cores(site: Site) -> Finding:
    """Whether the stages at start share the cores that there are."""
    have = usable_cores()
    if site.config is None:
        return unknown(f"{have} cores may be used")
    asked = sum(
        one.replicas * one.resources.get("CPU", 0.0) for one in site.config.resource_requests
    )
    if asked > have:
        return warning(
            f"the stages ask for {asked:g} cores, {have} may be used",
            "fewer replicas or smaller num_cpus; `timbre up` lets them share",
        )
    return good(f"the stages ask for {asked:g} of {have} cores")


def threads(site: Site) -> Finding:
    """Libraries that start a thread for each core, in each of a dozen processes."""
    set_to = site.environment.get(_THREADS)
    if set_to is not None and set_to.isdigit() and int(set_to) > usable_cores():
        return warning(
            f"{_THREADS} is {set_to}, {usable_cores()} cores may be used", f"unset {_THREADS}"
        )
    return good(f"{_THREADS} is {set_to or 'not set: each stage has its own number'}")


def memory(site: Site) -> Finding:
    """What is free now."""
    del site
    free_gib = psutil.virtual_memory().available / GIB
    if free_gib < LEAST_MEMORY_GIB:
        return fault(f"{free_gib:.1f} GiB are free", f"the smallest config takes {GOOD_MEMORY_GIB}")
    if free_gib < GOOD_MEMORY_GIB:
        return warning(f"{free_gib:.1f} GiB are free", f"{GOOD_MEMORY_GIB:g} are comfortable")
    return good(f"{free_gib:.1f} GiB are free")


def disk(site: Site) -> Finding:
    """Where voices and finished speech are kept, and where Ray writes its logs."""
    places = {"Ray's logs": Path("/tmp")}  # noqa: S108 - Ray's own
    if site.settings is not None and (kept := local_directory(site.settings.cache.url)) is not None:
        places["the cache"] = kept
    free = {name: shutil.disk_usage(_existing(path)).free / GIB for name, path in places.items()}
    name, least_gib = min(free.items(), key=lambda one: one[1])
    if least_gib < LEAST_DISK_GIB:
        return fault(f"{least_gib:.1f} GiB are free for {name}", "free some, or keep it elsewhere")
    if least_gib < GOOD_DISK_GIB:
        return warning(f"{least_gib:.1f} GiB are free for {name}", f"{GOOD_DISK_GIB:g} are safe")
    return good(f"{least_gib:.0f} GiB are free for {name}")


def writable(site: Site) -> Finding:
    """Whether a directory of the cache takes what is kept in it."""
    if site.settings is None:
        return unknown("the config holds a mistake")
    if (kept := local_directory(site.settings.cache.url)) is None:
        return unknown(f"{site.settings.cache.url} is no directory of this machine")
    if not os.access(_existing(kept), os.W_OK | os.X_OK):
        return fault(f"{kept} cannot be written", "another cache.url, or chown")
    return good(f"{kept}")


def shared_memory(site: Site) -> Finding:
    """Ray's object store, which holds the second tier of both caches."""
    if not SHM.is_dir():
        return unknown(f"there is no {SHM} here")
    total_gib = shutil.disk_usage(SHM).total / GIB
    asked_gib = 0.25
    if site.settings is not None:
        l2_bytes = site.settings.cache.l2_bytes + site.settings.speech_cache.l2_bytes
        asked_gib += l2_bytes / GIB
    if total_gib < asked_gib:
        return warning(
            f"{SHM} has {total_gib:.1f} GiB, the caches may hold {asked_gib:.1f} there: Ray goes "
            "to the disk instead",
            f"a container needs --shm-size={asked_gib:.0f}g; or smaller cache.l2_bytes",
        )
    return good(f"{SHM} has {total_gib:.1f} GiB, the caches may hold {asked_gib:.1f}")


def open_files(site: Site) -> Finding:
    """How many connections the proxy can hold."""
    del site
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < GOOD_FILES and hard < GOOD_FILES:
        return warning(f"a process may open {hard} files", f"ulimit -n {GOOD_FILES} or more")
    return good(f"a process may open {max(soft, hard)} files")


def gpu(site: Site) -> Finding:
    """Whether there is one, where a stage or the caller asks for it."""
    on_gpu = site.wants_gpu or (
        site.settings is not None
        and any(
            one.resources and one.resources.device == "cuda" for one in Stages.of(site.settings)
        )
    )
    if not on_gpu:
        return good("none is asked for")
    if (program := shutil.which("nvidia-smi")) is None:
        return fault("a GPU is asked for, and there is no nvidia-smi here", "the NVIDIA driver")
    command = [program, "--query-gpu=name,memory.total,memory.used", "--format=csv,noheader"]
    asked = subprocess.run(  # noqa: S603 - our own command line
        command, capture_output=True, text=True, timeout=GPU_ASK_S, check=False
    )
    found = [line.strip() for line in asked.stdout.splitlines() if line.strip()]
    if asked.returncode or not found:
        why = (asked.stderr or asked.stdout).strip()[:80]
        return fault(f"nvidia-smi finds no GPU: {why}", "the driver; in a container --gpus all")
    return good("; ".join(found))


def local_directory(url: str) -> Path | None:
    """Where a cache's URL points, if to this machine."""
    if url == "none" or ("://" in url and not url.startswith("file://")):
        return None
    return Path(url.removeprefix("file://")).expanduser()


def _existing(path: Path) -> Path:
    """The nearest directory that is there."""
    return next(one for one in (path, *path.absolute().parents) if one.is_dir())
