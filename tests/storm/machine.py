"""Machines of the storm tier: namespaces of this one, with addresses, processes and disks apart.

A machine has a network, a process table, a /dev/shm and a session directory of its own. Killing the
first process of its table is pulling its plug: everything on it is gone at once.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.waiting import wait_until

BRIDGE = "storm"
NETWORK = "10.77.0"
SESSION = Path("/tmp/storm-ray")  # noqa: S108 - paths of Unix sockets below it must stay short
CLOCK = "clock"  # in a session: seconds that its machine's wall clock is ahead (clock.c)
SHM_BYTES = 512 * 2**20
TOOLS = ("ip", "tc", "bridge", "unshare", "nsenter", "mount")
COMMAND_TIMEOUT_S = 60.0


def missing() -> str:
    """What keeps this system from having such machines; empty where nothing does."""
    if not sys.platform.startswith("linux"):
        return "network namespaces are Linux's"
    if os.geteuid() != 0:
        return "network namespaces need root"
    without = [tool for tool in TOOLS if shutil.which(tool) is None]
    if without:
        return f"not installed: {', '.join(without)} (iproute2, util-linux)"
    probe = subprocess.run(
        ["unshare", "--net", "--mount", "--pid", "--fork", "true"], capture_output=True, check=False
    )
    return "" if probe.returncode == 0 else f"unshare: {probe.stderr.decode().strip()}"


def run(*words: str) -> str:
    """A command's output. Raises RuntimeError with what it said."""
    done = subprocess.run(
        words, capture_output=True, text=True, check=False, timeout=COMMAND_TIMEOUT_S
    )
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(words)}: {done.stdout}{done.stderr}")
    return done.stdout


@contextlib.contextmanager
def network() -> Iterator[str]:
    """A bridge that machines are attached to; yields this side's own address on it.

    Raises BlockingIOError while another run has one: all have the same names and addresses.
    """
    with SESSION.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        clear_network()
        gateway = f"{NETWORK}.254"
        run("ip", "link", "add", BRIDGE, "type", "bridge")
        run("ip", "addr", "add", f"{gateway}/24", "dev", BRIDGE)
        run("ip", "link", "set", BRIDGE, "up")
        try:
            yield gateway
        finally:
            clear_network()


def clear_network() -> None:
    """Also of what a killed run left: its processes go on, and with them its cables."""
    for line in run("ip", "netns", "list").splitlines():
        if line.startswith(f"{BRIDGE}-"):
            name = line.split()[0]
            for pid in run("ip", "netns", "pids", name).split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            run("ip", "netns", "del", name)
    for link in Path("/sys/class/net").glob(f"{BRIDGE}-*"):
        with contextlib.suppress(RuntimeError):  # gone with its namespace meanwhile
            run("ip", "link", "del", link.name)
    if Path(f"/sys/class/net/{BRIDGE}").exists():
        run("ip", "link", "del", BRIDGE)
    wait_until(lambda: not list(Path("/sys/class/net").glob(f"{BRIDGE}-*")))  # gone a moment later


@dataclass
class Machine:
    """One of them. number: the last part of its address. state: where its session's files stay."""

    name: str
    number: int
    state: Path
    environment: Mapping[str, str]
    starts: int = 0
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    _init: psutil.Process | None = field(default=None, repr=False)
    _background: list[subprocess.Popen[bytes]] = field(default_factory=list, repr=False)

    @property
    def address(self) -> str:
        return f"{NETWORK}.{self.number}"

    @property
    def link(self) -> str:
        """Its cable's end at the bridge."""
        return f"{BRIDGE}-{self.name}"

    @property
    def session(self) -> Path:
        """Where this side finds what lies in SESSION there."""
        return self.state / f"{self.name}-{self.starts}"

    @property
    def is_on(self) -> bool:
        return self._process is not None

    def start(self) -> None:
        """Plug it in: an empty machine, in which nothing but its first process runs."""
        self.starts += 1
        run("ip", "netns", "add", self.link)
        run("ip", "link", "add", self.link, "type", "veth", "peer", "eth0", "netns", self.link)
        run("ip", "link", "set", self.link, "master", BRIDGE, "up")
        inside = ("ip", "-n", self.link)
        run(*inside, "addr", "add", f"{self.address}/24", "dev", "eth0")
        run(*inside, "link", "set", "lo", "up")
        run(*inside, "link", "set", "eth0", "up")
        run(*inside, "route", "add", "default", "via", f"{NETWORK}.254")
        self.session.mkdir(parents=True)
        (self.session / CLOCK).write_bytes(bytes(8))
        SESSION.mkdir(exist_ok=True)
        first = (
            f"mount --bind {self.session} {SESSION}; "
            f"mount -t tmpfs -o size={SHM_BYTES} tmpfs /dev/shm; "
            "echo on; while :; do sleep 3600 & wait $!; done"
        )
        words = ["ip", "netns", "exec", self.link, "unshare", "--mount", "--pid", "--fork"]
        words += ["--mount-proc", "--kill-child=SIGKILL", "bash", "-c", first]
        self._process = subprocess.Popen(
            words, stdout=subprocess.PIPE, env=dict(self.environment), start_new_session=True
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"on\n", f"machine {self.name} did not start"
        (self._init,) = psutil.Process(self._process.pid).children()

    def run(self, *words: str, timeout_s: float = COMMAND_TIMEOUT_S, **variables: str) -> str:
        """A command on the machine, to its end; what it leaves in the background stays."""
        log = self.state / f"{self.name}.commands"
        with log.open("ab") as kept:
            begin = kept.tell()
            # a file: a pipe would be held open by what stays in the background
            done = subprocess.run(
                self._entered(words),
                env={**self.environment, **variables},
                stdout=kept,
                stderr=kept,
                check=False,
                timeout=timeout_s,
                start_new_session=True,
            )
        said = log.read_bytes()[begin:].decode(errors="replace")
        if done.returncode != 0:
            raise RuntimeError(f"{self.name}: {' '.join(words)}: {said}")
        return said

    def spawn(self, *words: str, environment: Mapping[str, str]) -> None:
        """A command that goes on in the background."""
        with (self.state / f"{self.name}.commands").open("ab") as kept:
            going = subprocess.Popen(
                self._entered(words),
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=kept,
                stderr=kept,
                start_new_session=True,
            )
        self._background.append(going)

    def processes(self, title: str) -> list[psutil.Process]:
        """Those on it whose command line has `title`."""
        return [one for one in self._all() if title in " ".join(_cmdline(one))]

    def kill(self, title: str) -> int:
        """SIGKILL to every such process; how many there were."""
        found = self.processes(title)
        for one in found:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        return len(found)

    def pull_plug(self, *, silently: bool) -> None:
        """Everything on it ends at once; its memory is gone.

        silently: nobody hears of its connections' ends, as when its power fails.
        """
        if self._process is None or self._init is None:
            return
        if silently:
            run("ip", "link", "set", self.link, "down")
        with contextlib.suppress(psutil.NoSuchProcess):
            self._init.send_signal(signal.SIGKILL)
        for one in (self._process, *self._background):
            one.wait(COMMAND_TIMEOUT_S)
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._process = self._init = None
        self._background.clear()
        wait_until(lambda: not run("ip", "netns", "pids", self.link).split())
        run("ip", "netns", "del", self.link)
        wait_until(lambda: not Path(f"/sys/class/net/{self.link}").exists())

    def _all(self) -> list[psutil.Process]:
        found: list[psutil.Process] = []
        for pid in run("ip", "netns", "pids", self.link).split() if self.is_on else []:
            with contextlib.suppress(psutil.NoSuchProcess):
                found.append(psutil.Process(int(pid)))
        return found

    def _entered(self, words: tuple[str, ...]) -> list[str]:
        assert self._init is not None, f"machine {self.name} is off"
        return ["nsenter", "-t", str(self._init.pid), "-n", "-m", "-p", *words]


def _cmdline(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return []
