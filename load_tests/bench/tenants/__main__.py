"""Whether a clock tells a tenant what another one has: paired requests, compared by their ranks.

    python -m load_tests.bench.tenants [--service] [--rounds N] [--pairs N] [--json FILE]

A tenant asks for what another has made (voices, consents, dictionaries, edits, jobs, outcomes, by
their ids; a clip that was encoded, speech that is kept) and, as often and in an order of chance,
the same of what nobody has. Where the two kinds of requests differ in time beyond what chance does,
the tenant is told. So that this can be seen to find something, the same is done once more by two
keys of one tenant. Without --service the application runs in this process, with fakes of the
stages: no work hides a difference there. With it, a service on Ray is started.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import random
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from load_tests.bench.provenance import provenance
from load_tests.bench.report import Row, publish
from load_tests.bench.tenants.asks import Ask, Timed, by_content, by_id, settled
from load_tests.bench.tenants.places import Place, in_process, on_service
from load_tests.bench.tenants.ranks import Apart, compare
from tests.two_tenants import Tenant

WARM_UP = 200  # requests that nobody times
SEED = 18  # of the order; times are never the same


async def timed(asker: Tenant, asks: Sequence[Ask]) -> dict[str, Timed]:
    """One request after another."""
    kinds = dict[str, Timed]()
    for ask in asks:
        began_s = time.perf_counter()
        reply = await asker.ask(ask.method, ask.path, **ask.sent)
        kinds.setdefault(ask.kind, Timed()).add(ask, reply, time.perf_counter() - began_s)
    return kinds


async def asked(
    place: Place, namespaces: tuple[str, str], rounds: int, pairs: int
) -> dict[str, Timed]:
    """All that the second one asks of what the first one has.

    Of two that share a namespace, the second one changes nothing. rounds: 0: nothing by its id.
    """
    chance = random.Random(SEED)  # noqa: S311 - an order
    owner = await place.tenant("owner", namespaces[0])
    asker = await place.tenant("asker", namespaces[1])
    async with owner.http, asker.http:
        is_apart = namespaces[0] != namespaces[1]
        asks = list[Ask]()
        if rounds:
            asks += by_id(await settled(owner), rounds, chance, is_changing=is_apart)
            await timed(asker, chance.choices(asks, k=WARM_UP))
        asks += await by_content(owner, pairs, chance)
        chance.shuffle(asks)
        gc.collect()
        return await timed(asker, asks)


def compared(kinds: Mapping[str, Timed]) -> dict[str, Apart]:
    """By kind."""
    return {
        kind: compare(one.took_s[True], one.took_s[False], len(kinds))
        for kind, one in kinds.items()
    }


def rows_of(
    apart: tuple[dict[str, Timed], dict[str, Apart]],
    shared: tuple[dict[str, Timed], dict[str, Apart]],
) -> list[Row]:
    """The bars: nothing told between two tenants, everything within one."""
    (kinds, times), (_, leaked) = apart, shared
    found = [one for one in leaked.values() if one.is_told]
    least_us = statistics.median(1e6 * one.found_from_s for one in times.values())
    strongest = max(abs(one.effect) for one in times.values())
    return [
        Row("requests timed", sum(2 * one.n for one in times.values()), ""),
        Row("kinds of requests", len(times), ""),
        Row("kinds that are told by time", sum(one.is_told for one in times.values()), "", 0),
        Row("kinds told by answers", sum(one.is_told_by_answers for one in kinds.values()), "", 0),
        Row("largest effect (rank-biserial)", strongest, ""),
        Row("a delay that would have been told, median of kinds", least_us, "µs"),
        Row("planted: two keys of one tenant: kinds that are told by time, share",
            len(found) / len(leaked), "", 0.95, "higher"),
    ]  # fmt: skip


def details(kinds: Mapping[str, Timed], times: Mapping[str, Apart]) -> list[dict[str, Any]]:
    """Of each kind, the most telling first."""
    order = sorted(times, key=lambda kind: times[kind].p)
    return [
        {
            "kind": kind,
            **asdict(times[kind]),
            "is_told_by_answers": kinds[kind].is_told_by_answers,
            "statuses": sorted({told.partition(" ")[0] for told in kinds[kind].answers[False]}),
        }
        for kind in order
    ]


async def measured(
    *, is_service: bool, rounds: int, pairs: int
) -> tuple[dict[str, Timed], dict[str, Timed]]:
    """Of two tenants, and of two keys of one tenant, with a fifth of the requests."""
    async with on_service() if is_service else in_process() as place:
        apart = await asked(place, ("one", "other"), rounds, pairs)
        few = max(rounds // 5, 20)
        return apart, await asked(place, ("both", "both"), few, max(pairs // 5, 20))


def main() -> int:
    """Exit code 1 when a bar is missed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--service", action="store_true")
    parser.add_argument("--rounds", type=int, default=400, help="of every call by id")
    parser.add_argument("--pairs", type=int, default=200, help="of clips, and of texts")
    parser.add_argument("--json", type=Path)
    asked_for = parser.parse_args()
    apart, shared = asyncio.run(
        measured(is_service=asked_for.service, rounds=asked_for.rounds, pairs=asked_for.pairs)
    )
    times, leaked = compared(apart), compared(shared)
    about = provenance("cpu")
    rows = rows_of((apart, times), (shared, leaked))
    code = publish(rows, about, asked_for.json)
    if asked_for.json is not None:
        document = json.loads(asked_for.json.read_text())
        document |= {"kinds": details(apart, times), "planted": details(shared, leaked)}
        asked_for.json.write_text(json.dumps(document, indent=1) + "\n")
    return code


if __name__ == "__main__":
    raise SystemExit(main())
