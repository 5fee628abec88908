# pyright: basic
"""The cache over three nodes as the tree on the path has it; the child of `beside_services`.

    PYTHONPATH=TREE python -P load_tests/bench/beside_services/cluster_rows.py

Run by its path with another commit's tree first on the module path, so it imports nothing of its
own tree. Prints one line of JSON: a value and its unit by what was measured.
"""

from __future__ import annotations

import importlib
import json

BENCHES = ("load_tests.bench.cache", "load_tests.bench_cache")  # where it is, and where it was


def main() -> None:
    for name in BENCHES:
        try:
            bench = importlib.import_module(name)
        except ModuleNotFoundError:
            continue
        rows = bench.measure_cluster()
        print(json.dumps({row.what: (row.value, row.unit) for row in rows}))
        return
    raise SystemExit("no bench of the cache")


if __name__ == "__main__":
    main()
