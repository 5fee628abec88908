# pyright: basic
"""Everything that only a GPU can show, section by section.

    load_tests/gpu/run --out DIR [--sections device,llm] [--budget-s 480] [--train STAGE]
    load_tests/gpu/run --rehearse --out DIR

Each section is a process of its own with a time of its own. Its results, and its traceback where it
fails, are in DIR/gpu_NAME.json as soon as they are known; no section stops another.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from load_tests.gpu.kit import SECTIONS, Plan, run_sections


def main() -> int:
    parser = argparse.ArgumentParser(prog="load_tests/gpu/run", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--out", type=Path, required=True, help="directory of the JSON files")
    parser.add_argument("--sections", help=f"some of {','.join(SECTIONS)}; left out: all but train")
    parser.add_argument("--rehearse", action="store_true", help="on the CPU, at small sizes")
    parser.add_argument("--budget-s", type=float, default=480, help="of all sections together")
    parser.add_argument("--commit", default="", help="for the JSON, where there is no git")
    parser.add_argument("--golden", type=Path, help="directory of golden files; tests/golden")
    parser.add_argument("--train", metavar="STAGE", help="also run a stage of the recipe")
    parser.add_argument("--minutes", type=float, default=1.0, help="of --train")
    parser.add_argument("--plant", metavar="SECTION", help="make a section fail, to see the rest")
    options = parser.parse_args()
    names = options.sections.split(",") if options.sections else list(SECTIONS)
    if unknown := sorted({*names, *filter(None, [options.plant])} - {*SECTIONS, "train"}):
        parser.error(f"no section is called {', '.join(unknown)}; there are {', '.join(SECTIONS)}")
    plan = Plan(
        out=options.out,
        is_rehearsal=options.rehearse,
        budget_s=options.budget_s,
        commit=options.commit,
        golden=options.golden,
        train=options.train,
        train_minutes=options.minutes,
        planted=options.plant,
    )
    return run_sections(names + ["train"] * bool(options.train), plan)


if __name__ == "__main__":
    sys.exit(main())
