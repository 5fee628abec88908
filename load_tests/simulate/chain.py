"""The simulator beside the GPU kit's whole chain, to which nothing of it was fitted.

Profiles come from LLM and vocoder alone; the kit's section "chain" ran both on one card.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from simpy import Event

from deployments.capacity.arrivals import Ask
from deployments.capacity.cell import Cell, Layout, quantile
from deployments.capacity.known import GivenRates
from deployments.capacity.profile import FrontCosts, Profile
from deployments.config.admission_settings import AdmissionSettings
from load_tests.gpu.sections.chain import ARRIVING_S, FEW, LISTENED_S, PAUSE_S, QUIET_ROWS
from load_tests.gpu.sizes import FULL
from load_tests.simulate.profiles import read
from pipeline.contracts import GROUP_S
from pipeline.stepaudio.vocoder.schedule import CHUNK_ROWS

NO_FRONT = FrontCosts(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
EVERYBODY = AdmissionSettings(enabled=False)


@dataclass(frozen=True, slots=True)
class Beside:
    """A number that was measured, and what the simulator says."""

    what: str
    measured: float
    simulated: float

    @property
    def off(self) -> float:
        """By what share it is off."""
        return self.simulated / self.measured - 1


def chain_beside(profile: Profile) -> list[Beside]:
    """First audio and pace of as many streams as the kit measured."""
    measured = {row["what"]: row["value"] for row in read("gpu_chain.json")["rows"]}
    found: list[Beside] = []
    for n in FULL.chain_streams:
        if f"{n} streams: first audio p50" not in measured:
            continue
        first_s, rate = chain_of(profile, n)
        told = {"first audio p50": first_s, "audio seconds a second": rate}
        names = {what: f"{n} streams: {what}" for what in told}
        found += [Beside(name, measured[name], told[what]) for what, name in names.items()]
    return found


def chain_of(profile: Profile, n: int) -> tuple[float, float]:
    """n streams that ask again a little after they heard all: median first audio, pace."""
    vocoder = replace(
        profile.vocoder,
        max_streams=n,
        queue_size=n,
        chunk_rows=CHUNK_ROWS,
        quiet_first_rows=QUIET_ROWS if n <= FEW else CHUNK_ROWS[0],
    )
    llm = replace(profile.llm, slots=n)
    profile = replace(profile, llm=llm, vocoder=vocoder, front=NO_FRONT)
    cell = Cell(profile, Layout(), GivenRates(1.0, 0.0), EVERYBODY)
    audio_s, voices = FULL.groups * GROUP_S, FULL.known_voices
    gaps_s = np.random.default_rng(n).exponential(ARRIVING_S / n, n)

    def stream(index: int, wait_s: float) -> Generator[Event, Any, None]:
        yield cell.env.timeout(wait_s)
        turn, pauses = 0, np.random.default_rng(1000 + index)
        while cell.env.now < LISTENED_S or not turn:
            number = index + turn * n
            ask = Ask(cell.env.now, audio_s, audio_s, number % voices, 6.0, number=number)
            yield from cell.asked(ask)
            turn += 1
            yield cell.env.timeout(pauses.exponential(PAUSE_S))

    arrivals_s = np.cumsum(gaps_s) - gaps_s[0]
    for index, at_s in enumerate(arrivals_s):
        cell.env.process(stream(index, float(at_s)))
    cell.env.run()
    firsts = [one.first_audio_s for one in cell.answers if one.first_audio_s is not None]
    ended_s = max(one.ended_s for one in cell.answers)
    return quantile(firsts, 0.5), sum(one.audio_s for one in cell.answers) / ended_s
