"""Writes docs/gpu.md, or says whether it is what the results give.

    python -m load_tests.gpu.table [--results load_tests/results] [--check]

Results are gpu_*.json of --results; those of the card that it projects to, in l40s/ below it.
"""

from __future__ import annotations

import argparse
import difflib
import sys
from pathlib import Path

from load_tests.gpu.report.lines import Service
from load_tests.gpu.report.outlook import Outlook
from load_tests.gpu.report.page import COMMAND, page
from load_tests.gpu.report.peers import Peers
from load_tests.gpu.report.projection import Hardware
from load_tests.gpu.report.results import Results

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "load_tests/results"
PAGE = ROOT / "docs/gpu.md"


def generate(results: Path) -> str:
    """The page that a directory of results gives."""
    hardware = Hardware.load()
    on_target = Results.load(results / hardware.target.name.lower())
    outlook = Outlook(Results.load(results), on_target, hardware, Service.load())
    return page(outlook, Peers.load())


def differences(results: Path, written: Path) -> list[str]:
    """Lines of a diff from the page on disk to the one that the results give; none when equal."""
    there = written.read_text(encoding="utf-8") if written.exists() else ""
    lines = difflib.unified_diff(
        there.splitlines(),
        generate(results).splitlines(),
        str(written.name),
        "generated",
        "",
        "",
        0,
    )
    return [line.rstrip() for line in lines]


def main() -> int:
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--results", type=Path, default=RESULTS, help="directory of the JSON files")
    parser.add_argument("--page", type=Path, default=PAGE, help="the page; docs/gpu.md")
    parser.add_argument("--check", action="store_true", help="write nothing; 1 when it differs")
    options = parser.parse_args()
    if not options.check:
        options.page.write_text(generate(options.results), encoding="utf-8")
        return 0
    if changed := differences(options.results, options.page):
        print("\n".join(changed))
        print(f"{options.page} is not what the results give; run {COMMAND}")
    return int(bool(changed))


if __name__ == "__main__":
    sys.exit(main())
