"""Every target in turn, each in its own process: `python -m tests.fuzz.run [SECONDS] [NAME …]`.

What is found new goes to out/fuzz, never into the kept corpus: that stays small. An input that
broke something is left there, and how to keep it as a test is said.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

from tests.fuzz import corpus
from tests.fuzz.targets import TARGETS

OUT = Path("out/fuzz")
ONE_INPUT_S = 10
RESIDENT_MIB = 2_048
_SPARE_S = 300  # to load libraries and to end, on a machine that has other things to do
_CALM = {
    "OMP_NUM_THREADS": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
    "ARROW_DEFAULT_MEMORY_POOL": "system",
}


def main(seconds: str = "600", *names: str) -> int:
    """The number of targets that something was found in."""
    found = [name for name in names or TARGETS if not _passes(name, int(seconds))]
    say = f"found something: {', '.join(found)}" if found else "nothing found"
    sys.stdout.write(f"{len(names or TARGETS)} targets, {seconds} s each: {say}\n")
    return len(found)


def _passes(name: str, seconds: int) -> bool:
    fresh = OUT / name
    fresh.mkdir(parents=True, exist_ok=True)
    log = OUT / f"{name}.log"
    started_s = time.monotonic()
    with log.open("wb") as file:
        command = [
            *(sys.executable, "-m", "tests.fuzz.one", name),
            f"-max_total_time={seconds}",
            f"-timeout={ONE_INPUT_S}",
            f"-rss_limit_mb={RESIDENT_MIB}",
            f"-artifact_prefix={OUT / name}-",
            *("-print_final_stats=1", str(fresh), str(corpus.ROOT / name)),
        ]
        try:
            done = subprocess.run(
                command,
                stdout=file,
                stderr=subprocess.STDOUT,
                env={**os.environ, **_CALM},
                check=False,
                timeout=seconds + _SPARE_S + ONE_INPUT_S,
            )
            code: int | str = done.returncode
        except subprocess.TimeoutExpired:
            code = "hung"
    text = log.read_text(encoding="utf-8", errors="replace")
    runs = next(iter(re.findall(r"(?:Done |executed_units: )(\d+)", text)), "?")
    took_s = time.monotonic() - started_s
    sys.stdout.write(
        f"{name:12} {runs:>10} inputs {took_s:6.0f} s  {'ok' if code == 0 else code}\n"
    )
    sys.stdout.flush()
    if code != 0:
        sys.stdout.write(
            f"  {log} has the fault; copy {OUT / name}-* to {corpus.ROOT / name}/fault-WHAT\n"
        )
    return code == 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
