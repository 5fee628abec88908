"""One target under atheris, in this process: `python -m tests.fuzz.one NAME [libFuzzer's words]`.

Its memory may grow by a bound, and while it reads, the process may open nothing and reach nobody.
"""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import atheris

from tests.fuzz.corpus import entries

GROWTH_BYTES = 2**30  # of the address space: Arrow and libav reserve more than they use
_REACHES = ("socket.connect", "socket.getaddrinfo", "subprocess.Popen", "os.system", "os.exec")
_PROGRAM_FILES = tuple(
    str(Path(place).resolve()) for place in (*sys.path, sys.prefix, sys.base_prefix) if place
)


class Watch:
    """An audit hook: it cannot be taken out again, but looks only while a target runs."""

    def __init__(self) -> None:
        self.is_on = False
        sys.addaudithook(self._look)

    def _look(self, event: str, details: tuple[object, ...]) -> None:
        if not self.is_on:
            return
        if event in _REACHES:
            raise AssertionError(f"a target reached out: {event} {details}")
        if event == "open" and not str(details[0]).startswith(_PROGRAM_FILES):
            raise AssertionError(f"a target opened {details[0]}")


def main() -> None:
    name = sys.argv[1]
    with atheris.instrument_imports(include=["pipeline", "deployments", "cache_store"]):
        from tests.fuzz.targets import TARGETS
    target = TARGETS[name]
    for data in entries(name):  # loads what is loaded at first use
        target.run(data)
    watch = Watch()

    def test_one_input(data: bytes) -> None:
        watch.is_on = True
        try:
            target.run(data)
        finally:
            watch.is_on = False

    bound_bytes = _address_space_bytes() + GROWTH_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (bound_bytes, bound_bytes))
    atheris.Setup([sys.argv[0], *sys.argv[2:], f"-max_len={target.most_bytes}"], test_one_input)
    atheris.Fuzz()


def _address_space_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0])
    return pages * resource.getpagesize()


if __name__ == "__main__":
    main()
