"""The target card's figures: measured on it, or projected from another card."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from load_tests.gpu.report.floors import Vq06Shape, spoken_s, vq06_work
from load_tests.gpu.report.lines import CLIPS, Line, Service, released_lines
from load_tests.gpu.report.projection import (
    Card,
    Hardware,
    Rates,
    floor_s,
    kept_to_shares,
    measured_rates,
    slowdown,
    together,
)
from load_tests.gpu.report.results import Results
from pipeline.stepaudio.tokens import GROUP_ROWS, GROUP_TOKENS

TOKENS_PER_SPOKEN_S = GROUP_TOKENS / spoken_s(GROUP_ROWS)  # 41.67


@dataclass(frozen=True, slots=True)
class StageRate:
    """Seconds of speech a second that one stage makes alone on the target."""

    stage: str
    share: float
    audio_s_per_s: float
    of: str
    """The row behind it."""
    is_measured: bool
    """Measured on the target, not projected."""


@dataclass(frozen=True)
class Outlook:
    """The sources of the page's outlook."""

    measured: Results
    """Results of the card at hand."""
    on_target: Results
    """Results of the target card; may be empty."""
    hardware: Hardware
    service: Service

    @cached_property
    def lines(self) -> list[Line]:
        return released_lines(self.service)

    @cached_property
    def source(self) -> Card | None:
        """The measured card, None where nothing was measured or hardware.yaml lacks it."""
        return self.hardware.card_of(self.measured.device)

    @cached_property
    def source_rates(self) -> Rates | None:
        """As measured where the section "device" did, else of the data sheet."""
        if self.source is None:
            return None
        return measured_rates(self.source.sheet, self.measured.values("device"))

    @cached_property
    def target_rates(self) -> Rates | None:
        """As measured there, else its sheet times what share of its own the source reached."""
        if rows := self.target_results.values("device"):
            return measured_rates(self.hardware.target.sheet, rows)
        if self.source is None or self.source_rates is None:
            return None
        return self.hardware.target.sheet.times(self.source_rates.shares_of(self.source.sheet))

    @property
    def target_results(self) -> Results:
        """Results of the target, from either source."""
        is_source = self.source == self.hardware.target
        return self.measured if is_source and not self.on_target.sections else self.on_target

    def value(self, line: Line) -> float | None:
        """On the measured card."""
        return self.measured.value(line.section, line.what)

    def target_value(self, line: Line) -> float | None:
        """On the target, measured."""
        return self.target_results.value(line.section, line.what)

    def projected(self, line: Line) -> float | None:
        """On the target, from the measured card's value."""
        value, factor = self.value(line), self.factor(line)
        return None if value is None or factor is None else line.slower(value, factor)

    def factor(self, line: Line) -> float | None:
        """How many times longer the target takes for the line's work."""
        if self.source_rates is None or self.target_rates is None:
            return None
        return slowdown(line.works, self.source_rates, self.target_rates)

    def factors(self) -> tuple[float, float] | None:
        """The least and the largest factor of LLM and vocoder: the chain lies between."""
        found = [self.factor(line) for line in self.lines if line.section != "tokenizer"]
        known = [factor for factor in found if factor is not None]
        return (min(known), max(known)) if known else None

    def stage_rates(self) -> list[StageRate]:
        """Of each stage on the target; empty where a row is missing."""
        stages = [
            self._largest("llm", self.service.slots, TOKENS_PER_SPOKEN_S),
            self._largest("vocoder", self.service.max_streams, 1.0),
            self._tokenizer(),
        ]
        known = [stage for stage in stages if stage is not None]
        return known if len(known) == len(stages) else []

    def _on_target(self, line: Line) -> tuple[float | None, bool]:
        value = self.target_value(line)
        return (self.projected(line), False) if value is None else (value, True)

    def _largest(self, stage: str, most: int, per_spoken_s: float) -> StageRate | None:
        """From the row of most streams that a replica takes."""
        lines = [line for line in self.lines if line.section == stage and line.streams]
        for line in sorted(lines, key=lambda line: line.streams or 0, reverse=True):
            value, is_measured = self._on_target(line)
            if value is not None and (line.streams or 0) <= most:
                share = self.service.shares[stage]
                return StageRate(stage, share, value / per_spoken_s, line.what, is_measured)
        return None

    def _tokenizer(self) -> StageRate | None:
        """vq02 by its row and vq06 at its floor, for the references that are not cached."""
        use = self.hardware.use
        line = next(line for line in self.lines if line.section == "tokenizer")
        value, is_measured = self._on_target(line)
        if value is None or self.target_rates is None:
            return None
        n_clips, clip_s = CLIPS[0]
        vq02_s = value / line.amount / (n_clips * clip_s) * use.clip_s
        vq06_s = floor_s([vq06_work(Vq06Shape(), use.clip_s)], self.target_rates)
        rate = use.spoken_s / ((1 - use.cache_hits) * (vq02_s + vq06_s))
        of = f"{line.what}; vq06 at its floor"
        return StageRate("tokenizer", self.service.shares["tokenizer"], rate, of, is_measured)


def card_rates(stages: Sequence[StageRate]) -> tuple[float, float]:
    """Seconds of speech a second of one card: with fixed shares, and with shares as needed."""
    rates = [stage.audio_s_per_s for stage in stages]
    return kept_to_shares(rates, [stage.share for stage in stages]), together(rates)
