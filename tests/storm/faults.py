"""What can go wrong in a cluster, each as two small acts: how it comes, and how it goes."""

from __future__ import annotations

import contextlib
import copy
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from tests.cache_helpers import ministack
from tests.fault_proxy import FaultProxy
from tests.storm import disk
from tests.storm.cluster import HEAD, START_S, StormCluster
from tests.storm.machine import CLOCK, SESSION, Machine, run
from tests.storm.sick_device import sicken
from tests.waiting import eventually, wait_until

STAGES = ("Router", "Tokenizer", "LLM", "Vocoder", "Jobs")
JUMP_S = 3600
LOSS = 0.2
GIVEN_UP_S = 5.0  # after it can be reached again, a machine knows whether it still belongs
# Classic BPF: a random word below the bound drops the packet (2), others pass on (-1).
LOSSY = f"4,32 0 0 4294963256,53 0 1 {int(LOSS * 2**32)},6 0 0 4294967295,6 0 0 2"
STORE_HOG = """
import sys, time, numpy, ray
ray.init(address=sys.argv[1], log_to_driver=False)
held = [ray.put(numpy.ones(4 * 2**20, numpy.uint8)) for _ in range(int(sys.argv[2]))]
print("full", flush=True)
time.sleep(3600)
"""


@dataclass
class Bucket:
    """An S3 server behind a TCP proxy with faults, which machines reach."""

    directory: Path
    port: int
    proxy: FaultProxy
    server: subprocess.Popen[bytes]
    ends: contextlib.ExitStack

    def kill(self) -> None:
        self.server.kill()
        self.server.wait()

    def restart(self) -> None:
        _, self.server = self.ends.enter_context(ministack(self.directory, self.port))


@dataclass
class Scene:
    """Where faults happen.

    setting: its name in the table. bucket, disk: the store of voices is in one of them.
    """

    setting: str
    cluster: StormCluster
    bucket: Bucket | None = None
    disk: disk.Disk | None = None
    kept: dict[str, Any] = field(default_factory=dict)
    doomed: int | None = None
    """A process that is no good any more: nothing is well while it is there."""
    missed: dict[str, int] = field(default_factory=dict)
    """Titles of processes that were killed, and how many there must be again."""

    @property
    def victim(self) -> Machine:
        """The machine that worker faults are about: the one with more of the service on it."""
        workers = [one for name, one in self.cluster.machines.items() if name != HEAD]
        return max(workers, key=lambda one: len(one.processes("ray::ServeReplica")))


Act = Callable[[Scene], None]


def nothing(scene: Scene) -> None:
    """Some faults need no healing: what was killed is replaced."""
    del scene


def possible() -> str:
    """Nothing is needed beyond the machines."""
    return ""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong. lasts_s: before it is healed.

    missing: why it cannot be made here, if so. is_planned: an operator's act, of which no request
    may fail.
    """

    name: str
    start: Act
    heal: Act = nothing
    lasts_s: float = 0.0
    missing: Callable[[], str] = possible
    is_planned: bool = False

    def __str__(self) -> str:
        return self.name


def killed(stage: str) -> Act:
    """kill -9 of one replica."""

    def act(scene: Scene) -> None:
        pid = next(iter(scene.cluster.replicas(stage)))
        psutil.Process(pid).kill()

    return act


def killed_all(title: str) -> Act:
    """kill -9 of every process with a title."""

    def act(scene: Scene) -> None:
        n_killed = sum(one.kill(title) for one in scene.cluster.machines.values())
        assert n_killed, f"no process {title}"
        scene.missed = {title: n_killed}

    return act


def proxy_killed(scene: Scene) -> None:
    assert scene.victim.kill("ray::ProxyActor")


def powered_off(scene: Scene) -> None:
    machine = scene.kept["off"] = scene.victim
    machine.pull_plug(silently=True)


def unplugged(scene: Scene) -> None:
    machine = scene.kept["off"] = scene.victim
    machine.pull_plug(silently=False)


def joined_again(scene: Scene) -> None:
    scene.cluster.add(scene.kept.pop("off"))


def head_lost(scene: Scene) -> None:
    scene.kept["off"] = scene.cluster.head
    scene.cluster.head.pull_plug(silently=False)


def gcs_killed(scene: Scene) -> None:
    """The process alone; its machine, the controller and all replicas stay."""
    head = scene.cluster.head
    (process,) = head.processes("gcs/gcs_server")
    scene.kept["gcs"] = (process.cmdline(), process.environ())
    process.kill()


def gcs_restarted(scene: Scene) -> None:
    words, environment = scene.kept.pop("gcs")
    scene.cluster.head.spawn(*words, environment=environment)


def s3_killed(scene: Scene) -> None:
    assert scene.bucket is not None
    scene.bucket.kill()


def s3_restarted(scene: Scene) -> None:
    assert scene.bucket is not None
    scene.bucket.restart()


def s3_silent(scene: Scene) -> None:
    assert scene.bucket is not None
    scene.bucket.proxy.set(black_hole=True)


def s3_heard(scene: Scene) -> None:
    assert scene.bucket is not None
    scene.bucket.proxy.set()


def parted(scene: Scene) -> None:
    """Machines a and b do not reach each other; both reach the head and the store."""
    for name in ("a", "b"):
        link = scene.cluster.machines[name].link
        run("bridge", "link", "set", "dev", link, "isolated", "on")


def joined(scene: Scene) -> None:
    for name in ("a", "b"):
        link = scene.cluster.machines[name].link
        run("bridge", "link", "set", "dev", link, "isolated", "off")


def cut_off(scene: Scene) -> None:
    """The victim reaches nobody; its processes go on."""
    machine = scene.kept["cut"] = scene.victim
    run("ip", "link", "set", machine.link, "down")


def reached(scene: Scene) -> None:
    """A machine that was given up for dead ends its own Ray: what minds machines starts it anew."""
    machine = scene.kept.pop("cut")
    run("ip", "link", "set", machine.link, "up")
    if eventually(lambda: not machine.processes("raylet/raylet"), GIVEN_UP_S, every_s=0.5):
        scene.cluster.replace_lost()


def lossy(scene: Scene) -> None:
    """A fifth of the packets to and from the victim is lost."""
    machine = scene.victim
    scene.kept["lossy"] = machine.link
    run("tc", "qdisc", "add", "dev", machine.link, "clsact")
    for way in ("ingress", "egress"):
        words = ("tc", "filter", "add", "dev", machine.link, way, "bpf", "da", "bytecode", LOSSY)
        run(*words)


def lossless(scene: Scene) -> None:
    run("tc", "qdisc", "del", "dev", scene.kept.pop("lossy"), "clsact")


def store_full(scene: Scene) -> None:
    """Objects that somebody holds fill the victim's object store beyond its bytes."""
    machine = scene.victim
    address = scene.cluster.gcs
    words = (sys.executable, "-c", STORE_HOG, address, "40")  # 160 MB into 120
    machine.spawn(*words, environment={**machine.environment, "RAY_ADDRESS": address})
    scene.kept["hog"] = machine
    log = machine.state / f"{machine.name}.commands"
    wait_until(lambda: log.read_bytes().rstrip().endswith(b"full"), 60.0)


def store_freed(scene: Scene) -> None:
    scene.kept.pop("hog").kill("held = [ray.put(")


def clock_moved(seconds: int) -> Act:
    """The wall clock of machine b jumps."""

    def act(scene: Scene) -> None:
        path = scene.cluster.machines["b"].session / CLOCK
        with path.open("r+b") as file:
            file.write(struct.pack("l", seconds))

    return act


def no_compiler() -> str:
    return (
        "" if shutil.which("gcc") else "no gcc to build the moved clock with (tests/storm/clock.c)"
    )


def device_lost(scene: Scene) -> None:
    """One vocoder's device fails for good, as after an illegal access."""
    pid, machine = next(iter(scene.cluster.replicas("Vocoder").items()))
    sicken(machine, pid)
    scene.doomed = pid


def drained(scene: Scene) -> None:
    """As the autoscaler, or a spot machine's notice, takes a machine out."""
    machine, head = scene.victim, scene.cluster.head
    scene.kept["off"] = machine
    words = ["-m", "ray.scripts.scripts", "drain-node"]
    words += [f"--address={scene.cluster.gcs}", f"--node-id={scene.cluster.node_id(machine)}"]
    words += ["--reason=DRAIN_NODE_REASON_PREEMPTION", "--reason-message=storm"]
    head.run(sys.executable, *words, "--deadline-remaining-seconds=60")


def drained_off(scene: Scene) -> None:
    """Once nothing of the service is on it, it goes; an empty one comes."""
    machine = scene.kept["off"]
    wait_until(lambda: not machine.processes("ray::ServeReplica"), 60.0)
    machine.pull_plug(silently=False)
    joined_again(scene)


def upgraded(scene: Scene) -> None:
    """`serve deploy` of a config that every replica restarts for, to its end."""
    scene.kept["config"] = scene.cluster.config
    changed = copy.deepcopy(scene.cluster.config)
    variables = changed["applications"][0]["runtime_env"]["env_vars"]
    changed["applications"][0]["runtime_env"]["env_vars"] = {**variables, "STORM_REVISION": "2"}
    _rolled_out(scene, changed)


def rolled_back(scene: Scene) -> None:
    _rolled_out(scene, scene.kept.pop("config"))


def _rolled_out(scene: Scene, config: dict) -> None:
    before = {pid for stage in STAGES for pid in scene.cluster.replicas(stage)}
    scene.cluster.deploy(config)

    def is_done() -> bool:
        now = {pid for stage in STAGES for pid in scene.cluster.replicas(stage)}
        return not before & now and scene.cluster.is_whole()

    wait_until(is_done, START_S, every_s=0.5)


def disk_slow(scene: Scene) -> None:
    assert scene.disk is not None
    scene.disk.slow()


def disk_full(scene: Scene) -> None:
    assert scene.disk is not None
    scene.disk.full()


def disk_well(scene: Scene) -> None:
    assert scene.disk is not None
    scene.disk.heal()


REPLICAS = [Fault(f"kill -9 of a replica: {stage}", killed(stage)) for stage in STAGES]
CONTROL = [
    Fault("kill -9 of the indexes of both caches", killed_all("IndexActor")),
    Fault("kill -9 of a proxy", proxy_killed),
    Fault("kill -9 of Serve's controller", killed_all("ServeController")),
]
STORE = [
    Fault("kill -9 of the S3 server", s3_killed, s3_restarted, 10.0),
    Fault("S3 server silent", s3_silent, s3_heard, 10.0),
]
MACHINES = [
    Fault("kill -9 of a node with its object store", unplugged, joined_again, 10.0),
    Fault("node without power: nobody is told", powered_off, joined_again, 15.0),
    Fault("drain of a node", drained, drained_off, 1.0, is_planned=True),
]
NETWORK = [
    Fault("partition between two nodes", parted, joined, 20.0),
    Fault("node cut off for 8 s", cut_off, reached, 8.0),
    Fault("a fifth of a node's packets lost", lossy, lossless, 15.0),
]
INSIDE = [
    Fault("full object store", store_full, store_freed, 15.0),
    Fault(
        "clock of a node jumps an hour ahead",
        clock_moved(JUMP_S),
        clock_moved(0),
        15.0,
        no_compiler,
    ),
    Fault(
        "clock of a node jumps an hour back",
        clock_moved(-JUMP_S),
        clock_moved(0),
        15.0,
        no_compiler,
    ),
    Fault("sticky device error of a vocoder", device_lost),
]
UPDATES = [
    Fault("rolling upgrade, then rollback", upgraded, rolled_back, is_planned=True),
]
GCS = [
    Fault("kill -9 of the GCS", gcs_killed, gcs_restarted, 5.0),
    Fault("head lost and restarted", head_lost, joined_again, 5.0),
]
DISK = [
    Fault("slow disk", disk_slow, disk_well, 15.0),
    Fault("full disk", disk_full, disk_well, 15.0),
]


def built_clock(directory: Path) -> dict[str, str]:
    """Variables for a machine whose wall clock can be moved; none without a compiler."""
    if no_compiler():
        return {}
    library = directory / "clock.so"
    source = Path(__file__).with_name("clock.c")
    run("gcc", "-shared", "-fPIC", "-O2", "-o", str(library), str(source), "-ldl")
    return {"LD_PRELOAD": str(library), "STORM_CLOCK": str(SESSION / CLOCK)}
