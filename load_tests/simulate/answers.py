"""What the page tells of: plans, cells under load, caches by size. Written to capacity.json once.

Everything is simulated with fixed seeds: the same code and profiles give the same numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from deployments.capacity import plan as planning
from deployments.capacity.arrivals import Ask, Pattern
from deployments.capacity.cell import Cell, Layout
from deployments.capacity.known import (
    SPEECH_BYTES_S,
    VOICE_BYTES_S,
    Budgets,
    GivenRates,
    KeptByTiers,
    hit_rates,
    popularity,
)
from deployments.capacity.plan import CELLS, SCHEDULES, Question, Seen
from deployments.capacity.profile import Profile, load_profile, profile_of
from deployments.capacity.told import document
from load_tests.simulate.chain import chain_beside
from load_tests.simulate.profiles import gpu_profile
from pipeline.errors import ConfigError
from pipeline.stepaudio.vocoder.schedule import CHUNK_ROWS

RATES = (1.0, 10.0, 100.0, 1_000.0, 10_000.0)
TARGET_S, TARGETS_S = 1.5, (1.0, 1.2, 1.5, 2.0)
HITS = ((0.7, 0.0), (0.9, 0.5))  # of voices and of speech
SPEECH_HITS = (0.0, 0.25, 0.5, 0.75, 0.9)
PATTERNS: tuple[Pattern, ...] = ("steady", "bursts", "day")
LOADS = (
    0.2,
    0.4,
    0.6,
    0.8,
    1.0,
    1.2,
    1.4,
    1.7,
    2.0,
)  # calls a second of a cell of two vocoders and an LLM
SIZES_MIB = (16, 64, 256, 1024, 4096)
ASKED, VOICES = 60_000, 20_000
MIB = 2**20
QUIET_ROWS = 10  # vocoder.quiet_first_rows, by default


def everything() -> dict[str, Any]:
    """All of it; minutes."""
    l40s, measured = load_profile("l40s"), profile_of(gpu_profile(is_target=False))
    return {
        "card": measured.name,
        "table": [_planned(l40s, rps, *hits) for hits in HITS for rps in RATES],
        "targets": [
            _planned(l40s, 100.0, *hits, first_audio_s=target)
            for hits in HITS
            for target in TARGETS_S
        ],
        "speech_hits": [_planned(l40s, 100.0, 0.7, share) for share in SPEECH_HITS],
        "patterns": [_planned(l40s, 100.0, 0.7, 0.0, pattern=one) for one in PATTERNS],
        "other_cards": [
            _planned(load_profile("h100"), 100.0, 0.7, 0.0),
            _planned(l40s, 100.0, 0.7, 0.0, overlap=2.0),
        ],
        "loads": _loads(l40s),
        "schedules": _schedules(l40s),
        "caches": _caches(),
        "chain": _chain(measured),
    }


def _chain(measured: Profile) -> list[dict[str, Any]]:
    return [
        asdict(one) | {"overlap": overlap, "off": one.off}
        for overlap in (1.0, 2.0)
        for one in chain_beside(replace(measured, device_capacity=overlap))
    ]


def _planned(
    profile: Profile, rps: float, voice: float, speech: float, **more: Any
) -> dict[str, Any]:
    """The answer, or why there is none."""
    question = replace(Question(rps, voice, speech, TARGET_S), **more)
    try:
        return document(profile, question, planning.plan(profile, question))
    except ConfigError as error:
        return {"question": asdict(question), "error": error.message}


def _loads(profile: Profile) -> list[dict[str, Any]]:
    """A cell under more and more, as the service admits, and with admission off."""
    cell = CELLS[2]
    return [
        {"rps": rps, "admission": enabled, **asdict(_seen(profile, cell, rps, enabled=enabled))}
        for enabled in (True, False)
        for rps in LOADS
    ]


def _seen(profile: Profile, cell: Layout, rps: float, *, enabled: bool) -> Seen:
    vocoder = replace(profile.vocoder, chunk_rows=SCHEDULES[-1], quiet_first_rows=SCHEDULES[-1][0])
    scheduled = replace(profile, vocoder=vocoder)
    question = Question(rps, 0.7, 0.0, float("inf"))
    return planning.seen(scheduled, question, cell, rps, admits=enabled)


def _schedules(profile: Profile) -> list[dict[str, Any]]:
    """Somebody alone, by the vocoder's schedule: first audio, and how long the player runs dry."""
    found: list[dict[str, Any]] = []
    for rows, first in ((CHUNK_ROWS, QUIET_ROWS), *((one, one[0]) for one in SCHEDULES)):
        vocoder = replace(profile.vocoder, chunk_rows=rows, quiet_first_rows=first)
        for is_apart in (False, True):
            cell = Cell(
                replace(profile, vocoder=vocoder), Layout(is_apart=is_apart), GivenRates(1.0, 0.0)
            )
            (one,) = cell.run_open([Ask(0.0, 9.6, 9.6, 0, 6.0)])
            found.append(
                {
                    "chunk_rows": list(rows),
                    "quiet_first_rows": first,
                    "is_apart": is_apart,
                    "first_audio_s": one.first_audio_s,
                    "stall_s": one.stall_s,
                }
            )
    return found


def _caches() -> list[dict[str, Any]]:
    """Hits by tier, of voices and of speech, by the memory of a router."""
    shares, dice = popularity(VOICES, 0.9), np.random.default_rng(6)
    names: Sequence[int] = dice.choice(VOICES, ASKED, p=shares).tolist()
    found: list[dict[str, Any]] = []
    for what, size_bytes in (("voice", 6 * VOICE_BYTES_S), ("speech", int(9.6 * SPEECH_BYTES_S))):
        for size_mib in SIZES_MIB:
            budgets = Budgets(size_mib * MIB, 1024 * MIB, 20_000 * MIB)
            tiers = KeptByTiers(budgets, budgets, routers=4)
            rates = hit_rates(tiers, "voice", names, size_bytes, 4)
            found.append({"what": what, "l1_mib": size_mib, **rates})
    return found
