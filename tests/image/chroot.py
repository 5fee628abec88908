"""Builds a target of the Dockerfile in chroots, and runs it there, where no image can be pulled.

`debootstrap` makes what the base image is made of; every step is executed as `docker build` would.
Needs root on Linux, and a mount namespace of its own: `apart` makes one.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.image.dockerfile import (
    Dockerfile,
    Stage,
    Step,
    assignments,
    copied_from,
    exec_form,
    substituted,
)

TOOLS = ("debootstrap", "chroot", "mount", "umount", "unshare", "setpriv")
PLAIN = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
STEP_TIMEOUT_S = 1800.0
# Of the machine that builds: how it reaches package indexes.
OF_BUILDS = ("PIP_", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy")
OF_NETWORK = ("/etc/resolv.conf", "/etc/hosts")
AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")  # here, of whoever answers for the index
SEEN_AS = "/run/authorities.crt"  # there: its own file is the package's


def apart(words: Sequence[str], *, network: bool) -> list[str]:
    """The command of `words` where its mounts are its own, and its processes end with it.

    network: else it has a network of its own, with nobody in it.
    """
    return [
        "unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child=SIGKILL",
        "--mount-proc", *([] if network else ["--net"]), *words,
    ]  # fmt: skip


def missing() -> str:
    """What keeps this system from it; empty where nothing does."""
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        return "chroots need root on Linux"
    without = [tool for tool in TOOLS if shutil.which(tool) is None]
    return f"not installed: {', '.join(without)}" if without else ""


@dataclass
class Image:
    """A built stage: a directory, and what its last ENV, WORKDIR, USER, … say."""

    root: Path
    environment: dict[str, str] = field(default_factory=lambda: dict(PLAIN))
    directory: str = "/"
    user: str = "root"
    command: list[str] = field(default_factory=list)
    health: list[str] = field(default_factory=list)

    def inside(self, path: str) -> Path:
        """Where this side finds a path of the image."""
        return self.root / self.absolute(path).lstrip("/")

    def absolute(self, path: str) -> str:
        return str(Path(self.directory) / path)

    def uid(self) -> int:
        """Of its user, from its own /etc/passwd."""
        lines = (self.root / "etc" / "passwd").read_text().splitlines()
        return next(int(line.split(":")[2]) for line in lines if line.split(":")[0] == self.user)


class Builder:
    """Builds stages below a directory, each once. context: what COPY takes from."""

    def __init__(
        self,
        context: Path,
        directory: Path,
        dockerfile: Dockerfile,
        arguments: Mapping[str, str],
        shown: Sequence[Path] = (),
    ) -> None:
        self._context = context
        self._directory = directory
        self._dockerfile = dockerfile
        self._arguments = arguments
        self._shown = shown
        self._built: dict[str, Image] = {}

    def build(self, target: str) -> Image:
        """The image of a target. Raises CalledProcessError with a failed step's command."""
        for stage in self._dockerfile.needed(target):
            if stage.name not in self._built:
                self._built[stage.name] = self._stage(stage)
        return self._built[target]

    def _stage(self, stage: Stage) -> Image:
        root = self._directory / stage.name
        before = self._built.get(stage.base)
        if before is None:
            _debootstrap(stage.base, root)
            image = Image(root)
        else:
            shutil.rmtree(root, ignore_errors=True)  # of a build that failed
            _run("cp", "--archive", "--reflink=auto", str(before.root), str(root))
            image = Image(
                root, dict(before.environment), before.directory, before.user,
                list(before.command), list(before.health),
            )  # fmt: skip
        arguments = dict(self._dockerfile.defaults)
        for step in stage.steps:
            sys.stdout.write(f"{stage.name}: {step.word} {' '.join(step.text.split())[:100]}\n")
            sys.stdout.flush()
            self._execute(step, image, arguments)
        return image

    def _execute(self, step: Step, image: Image, arguments: dict[str, str]) -> None:
        text = step.text
        if step.word != "RUN":  # there the shell does it
            text = substituted(text, {**arguments, **image.environment})
        if step.word == "ARG":
            name, _, value = text.partition("=")
            arguments[name] = self._arguments.get(name, value.strip('"'))
        elif step.word == "ENV":
            image.environment |= assignments(text)
        elif step.word == "WORKDIR":
            image.directory = image.absolute(text)
            image.inside(".").mkdir(parents=True, exist_ok=True)
        elif step.word == "USER":
            image.user = text
        elif step.word == "CMD":
            image.command = exec_form(text)
        elif step.word == "HEALTHCHECK":
            image.health = exec_form(text)
        elif step.word == "COPY":
            self._copy(step, text, image)
        elif step.word == "RUN":
            with mounted(image.root, self._shown):
                run_in(image, ["sh", "-c", text], {**arguments, **image.environment})

    def _copy(self, step: Step, text: str, image: Image) -> None:
        source = copied_from(step)
        words = [word for word in text.split() if not word.startswith("--")]
        *what, where = words
        target = image.inside(where)
        is_folder = where.endswith("/") or len(what) > 1
        for one in what:
            path = self._built[source].root / one.lstrip("/") if source else self._context / one
            to = target / path.name if is_folder and path.is_file() else target
            to.parent.mkdir(parents=True, exist_ok=True)
            if path.is_dir():
                ignore = shutil.ignore_patterns("__pycache__") if not source else None
                shutil.copytree(path, to, symlinks=True, dirs_exist_ok=True, ignore=ignore)
            else:
                shutil.copy2(path, to)


@contextlib.contextmanager
def mounted(root: Path, shown: Sequence[Path] = (), *, read_only: bool = False) -> Iterator[None]:
    """/proc, /dev and how the network is reached, in the chroot. shown: further paths of here.

    read_only: nothing but /tmp, /dev/shm and home can be written, and those are empty at first.
    """
    done: list[Path] = []

    def mount(*words: str, at: str) -> None:
        place = root / at.lstrip("/")
        _run("mount", *words, str(place))
        done.append(place)

    try:
        if read_only:
            _run("mount", "--bind", str(root), str(root))
            done.append(root)
            _run("mount", "-o", "remount,bind,ro", str(root))
            mount("-t", "tmpfs", "-o", "mode=1777", "tmpfs", at="/tmp")  # noqa: S108
            mount("-t", "tmpfs", "-o", "mode=0777", "tmpfs", at="/var/lib/timbre")
        mount("-t", "proc", "proc", at="/proc")
        mount("-t", "tmpfs", "-o", "mode=0755", "tmpfs", at="/dev")
        (root / "dev" / "shm").mkdir()
        mount("-t", "tmpfs", "-o", "mode=1777", "tmpfs", at="/dev/shm")  # noqa: S108
        for name in DEVICES:
            (root / "dev" / name).touch()
            mount("--bind", f"/dev/{name}", at=f"/dev/{name}")
        for path in (*map(Path, OF_NETWORK), *shown):
            place = root / str(path).lstrip("/")
            if not path.exists() or (read_only and not place.exists()):
                continue
            if not place.exists():
                (place if path.is_dir() else place.parent).mkdir(parents=True, exist_ok=True)
                if path.is_file():
                    place.touch()
            mount("--bind", str(path), at=str(path))
        if AUTHORITIES.exists() and not read_only:
            (root / SEEN_AS.lstrip("/")).touch()
            mount("--bind", str(AUTHORITIES), at=SEEN_AS)
        yield
    finally:
        for place in reversed(done):
            subprocess.run(["umount", "--lazy", str(place)], check=False)


def command_in(image: Image, words: Sequence[str]) -> list[str]:
    """Runs `words` in the image as its user, where it stands, without any privilege."""
    uid = str(image.uid())
    drop = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--no-new-privs"]
    inside = ["sh", "-c", f'cd {image.directory} && exec "$@"', "sh", *words]
    bare = [f"{name}={value}" for name, value in image.environment.items()]
    return ["chroot", str(image.root), *drop, "env", "--ignore-environment", *bare, *inside]


def run_in(image: Image, words: Sequence[str], environment: Mapping[str, str]) -> None:
    """A command in the image, as root and as builds run. Raises CalledProcessError."""
    inside = ["sh", "-c", f'cd {image.directory} && exec "$@"', "sh", *words]
    subprocess.run(
        ["chroot", str(image.root), *inside],
        env={**_of_builds(), **environment},
        check=True,
        timeout=STEP_TIMEOUT_S,
    )


def _debootstrap(image: str, root: Path) -> None:
    """What `debian:SUITE-slim` holds, about."""
    name, _, tag = image.partition(":")
    if name != "debian":
        raise ValueError(f"{image}: only images of Debian can be made here")
    if not root.exists():
        _run("debootstrap", "--variant=minbase", tag.removesuffix("-slim"), str(root))


def _of_builds() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name.startswith(OF_BUILDS)}
    return {**kept, "PIP_CERT": SEEN_AS} if AUTHORITIES.exists() else kept


def _run(*words: str) -> None:
    subprocess.run(words, check=True, timeout=STEP_TIMEOUT_S, stdout=subprocess.DEVNULL)
