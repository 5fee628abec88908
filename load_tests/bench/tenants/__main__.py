"""Whether a clock tells a tenant what another one has: paired requests, compared by their ranks.

    python -m load_tests.bench.tenants [--service] [--rounds N] [--pairs N] [--json FILE]

A tenant asks for what another has made (voices, consents, dictionaries, edits, jobs, outcomes, by
their ids; a clip that was encoded, speech that is kept) and, as often and in an order of chance,
the same of what nobody has. Where the two kinds of requests differ in time beyond what chance does,
the tenant is told. So that this can be seen to find something, the same is done once more by two
keys of one tenant. Without --service the application runs in this process, with fakes of the
stages: no work hides a difference there, and processor time is compared besides. With it, a service
on Ray is started.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import math
import random
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from load_tests.bench.provenance import provenance
from load_tests.bench.report import Row, publish
from load_tests.bench.tenants.asks import (
    ENCODED,
    SPOKEN,
    Ask,
    Timed,
    by_content,
    by_id,
    settled,
)
from load_tests.bench.tenants.places import Place, in_process, on_service
from load_tests.bench.tenants.ranks import Apart, compare
from tests.two_tenants import Tenant

WARM_UP = 200  # requests that nobody times
SEED = 18  # of the order; times are never the same


async def timed(place: Place, asker: Tenant, asks: Sequence[Ask]) -> dict[str, Timed]:
    """One request after another, by kind."""
    kinds = dict[str, Timed]()
    for ask in asks:
        began_s = {name: now() for name, now in place.clocks.items()}
        reply = await asker.ask(ask.method, ask.path, **ask.sent)
        took_s = {name: now() - began_s[name] for name, now in place.clocks.items()}
        kinds.setdefault(ask.kind, Timed()).add(ask, reply, took_s)
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
            await timed(place, asker, chance.choices(asks, k=WARM_UP))
        asks += await by_content(owner, pairs, chance)
        chance.shuffle(asks)
        gc.collect()
        return await timed(place, asker, asks)


Compared = dict[str, dict[str, Apart]]  # by clock and kind


def compared(kinds: Mapping[str, Timed]) -> Compared:
    """By every clock that was read."""
    clocks = dict.fromkeys(clock for one in kinds.values() for clock, _ in one.took_s)
    n = len(kinds) * len(clocks)
    return {
        clock: {
            kind: compare(one.took_s[clock, True], one.took_s[clock, False], n)
            for kind, one in kinds.items()
        }
        for clock in clocks
    }


def told_in(times: Compared) -> set[str]:
    """Kinds that some clock tells."""
    return {kind for by_kind in times.values() for kind, one in by_kind.items() if one.is_told}


def rows_of(apart: Mapping[str, Timed], shared: Mapping[str, Timed]) -> list[Row]:
    """The bars: nothing told between two tenants, everything within one."""
    times, rows = compared(apart), list[Row]()
    for clock, by_kind in times.items():
        found = by_kind.values()
        least_us = statistics.median(1e6 * one.found_from_s for one in found)
        rows += [
            Row(f"kinds told by {clock}", sum(one.is_told for one in found), "", 0),
            Row("largest effect (rank-biserial)", max(abs(one.effect) for one in found), ""),
            Row("a delay that would have been told, median of kinds", least_us, "µs"),
        ]
    by_answers = sum(one.is_told_by_answers for one in apart.values())
    n_found = len(told_in(compared(shared)) & {ENCODED, SPOKEN})
    share = len(told_in(compared(shared))) / len(shared)
    return [
        Row("requests timed", sum(2 * one.n for one in next(iter(times.values())).values()), ""),
        Row("kinds of requests", len(apart), ""),
        *rows,
        Row("kinds told by answers", by_answers, "", 0),
        Row("planted: two keys of one tenant: of encoded and kept, told", n_found, "", 2, "higher"),
        Row("planted: share of all kinds that are told", share, ""),
    ]


def details(kinds: Mapping[str, Timed]) -> list[dict[str, Any]]:
    """Of each kind by each clock, the most telling first."""
    found = [
        {
            "kind": kind,
            "by": clock,
            **asdict(one),
            "found_from_s": one.found_from_s if math.isfinite(one.found_from_s) else None,
            "is_told_by_answers": kinds[kind].is_told_by_answers,
            "statuses": sorted({told.partition(" ")[0] for told in kinds[kind].answers[False]}),
        }
        for clock, by_kind in compared(kinds).items()
        for kind, one in by_kind.items()
    ]
    return sorted(found, key=lambda row: row["p"])


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
    code = publish(rows_of(apart, shared), provenance("cpu"), asked_for.json)
    if asked_for.json is not None:
        document = json.loads(asked_for.json.read_text())
        document |= {"kinds": details(apart), "planted": details(shared)}
        asked_for.json.write_text(json.dumps(document, indent=1) + "\n")
    return code


if __name__ == "__main__":
    raise SystemExit(main())
