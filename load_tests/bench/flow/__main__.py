"""Compares ways of control between LLM and vocoder: a cluster in virtual time, and Ray itself.

    python -m load_tests.bench.flow [--json FILE]
    python -m load_tests.bench.flow --ray [--json FILE]

The first runs 64 LLM replicas and 1,000 listeners for 40 s of virtual time under each way of
`ways.WAYS` in each of `ways.CLUSTERS`, on one core. `ways.COSTS` says what its messages cost, and
what of that was measured. The second measures messages. What is modelled and what not: see `model`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from load_tests.bench.flow.model import Model
from load_tests.bench.flow.ray_costs import measure
from load_tests.bench.flow.ways import CLUSTERS, COSTS, WAYS, Cluster, Way
from load_tests.bench.provenance import provenance
from load_tests.bench.report import Row, percentile, publish


def rows_of(way: Way, cluster: Cluster) -> list[Row]:
    """One run, as the report has it."""
    found = Model(way, cluster, COSTS[way.transport]).run()
    asked = max(len(found.first_audio_s), 1)
    values = [
        ("first audio p50", percentile(found.first_audio_s, 0.5), "s"),
        ("first audio p95", percentile(found.first_audio_s, 0.95), "s"),
        ("underruns an answer", found.underruns / asked, ""),
        ("engine time a token", found.engine_s / found.drawn_tokens * 1e3, "ms"),
        ("control calls", found.control_calls / cluster.ends_s, "/s"),
        ("CPU of control calls", found.control_cpu_s / cluster.ends_s, "cores"),
        ("CPU of chunks", found.chunk_cpu_s / cluster.ends_s, "cores"),
        ("busiest LLM loop, messages", found.llm_loop_share * 100, "%"),
        ("busiest vocoder loop, messages", found.vocoder_loop_share * 100, "%"),
        ("drawn in vain for one who left", found.wasted_tokens / max(found.abandoned, 1), "tokens"),
        ("10 vocoders killed: slots held", len(found.freed_s) + found.held, ""),
        ("10 vocoders killed: last slot free after", max(found.freed_s, default=0.0), "s"),
        ("10 vocoders killed: drawn in vain", found.orphan_tokens, "tokens"),
    ]
    return [Row(f"{cluster.name}; {way.name}: {what}", v, unit) for what, v, unit in values]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m load_tests.bench.flow")
    parser.add_argument("--ray", action="store_true", help="measure messages with Ray Serve")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    if options.ray:
        rows = [Row(*row) for row in measure()]
    else:
        rows = [row for cluster in CLUSTERS for way in WAYS for row in rows_of(way, cluster)]
    return publish(rows, provenance("cpu"), options.json)


if __name__ == "__main__":
    sys.exit(main())
