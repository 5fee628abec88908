"""Writes the performance report from results, or two commits beside each other.

    python -m load_tests.load.report load_tests/results/load --out docs/load_report.md
    python -m load_tests.load.report --compare BEFORE AFTER [--out FILE]

Results are JSON files or directories of them. Refused are those that do not say on what hardware
they were made, or that count some of their calls nowhere.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from load_tests.load.report.comparison import comparison
from load_tests.load.report.page import COMMAND, page
from load_tests.load.results import RefusedResultError, load_results


def report(paths: Sequence[Path], out: Path) -> None:
    """Write `out`, and its plots into the directory of its name. Raises RefusedResultError."""
    results = load_results(paths)
    from load_tests.load.report.plots import draw_all  # seconds' worth of imports

    plots = draw_all(results, out.with_suffix(""))
    out.write_text(page(results, plots, out), encoding="utf-8")


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog=COMMAND, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", nargs="*", type=Path)
    parser.add_argument("--out", type=Path, help="the page; its plots lie in a folder beside it")
    parser.add_argument("--compare", nargs=2, type=Path, metavar=("BEFORE", "AFTER"))
    options = parser.parse_args(words)
    try:
        if options.compare is not None:
            before, after = (load_results([path]) for path in options.compare)
            text = "\n".join(comparison(before, after)).rstrip() + "\n"
            if options.out is None:
                print(text)
            else:
                options.out.write_text(text, encoding="utf-8")
        elif options.results and options.out is not None:
            report(options.results, options.out)
        else:
            parser.error("name results and --out, or --compare two")
    except RefusedResultError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
