"""From a measured card to another: floors in seconds, factors, what a shared card makes, prices.

A projection assumes that a stage comes as near to its floor on the other card as on the measured
one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import yaml

from load_tests.gpu.report.floors import Work

HARDWARE = Path(__file__).parents[1] / "hardware.yaml"
# rows of the section "device" → rates that they measure, and the unit in which they do
MEASURED_RATES = {
    "copy, read and written": ("bandwidth", 1e9),
    "product, bfloat16": ("bfloat16", 1e12),
    "product, float32 as TF32": ("tf32", 1e12),
    "product, float32": ("float32", 1e12),
}


@dataclass(frozen=True, slots=True)
class Rates:
    """What a card does a second: bytes moved, and operations of each kind."""

    bandwidth: float
    bfloat16: float
    tf32: float
    float32: float

    def times(self, shares: Mapping[str, float]) -> Rates:
        """These rates, each times its share; those not named stay."""
        return replace(self, **{name: getattr(self, name) * shares[name] for name in shares})

    def shares_of(self, whole: Rates) -> dict[str, float]:
        """How much of `whole` each rate is."""
        return {f.name: getattr(self, f.name) / getattr(whole, f.name) for f in fields(self)}


@dataclass(frozen=True, slots=True)
class Card:
    """A card's data sheet, and what it is assumed to cost."""

    name: str
    matches: str
    """A part of the driver's name for the card."""
    memory_gb: float
    sheet: Rates
    source: Mapping[str, str]
    price_usd_h: float | None
    """Assumed price; None without one."""
    price_source: Mapping[str, str] | None


@dataclass(frozen=True, slots=True)
class Use:
    """The assumed use of the service."""

    stated_on: str
    spoken_s: float
    """Seconds of a request's speech."""
    clip_s: float
    """Seconds of a request's reference."""
    cache_hits: float
    """Share of references that need no tokenizer."""


@dataclass(frozen=True, slots=True)
class Hardware:
    """hardware.yaml."""

    cards: Sequence[Card]
    target: Card
    use: Use

    @classmethod
    def load(cls, path: Path = HARDWARE) -> Hardware:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
        cards = {name: _card(name, entry) for name, entry in document["cards"].items()}
        use = document["use"]
        use = Use(**{**use, "stated_on": str(use["stated_on"])})
        return cls(tuple(cards.values()), cards[document["projected_to"]], use)

    def card_of(self, device: str) -> Card | None:
        """The card with this driver name, None when hardware.yaml has none."""
        return next((card for card in self.cards if card.matches in device), None)


def _card(name: str, entry: Mapping[str, Any]) -> Card:
    sheet = Rates(
        bandwidth=entry["bandwidth_gb_s"] * 1e9,
        bfloat16=entry["bfloat16_tflop_s"] * 1e12,
        tf32=entry["tf32_tflop_s"] * 1e12,
        float32=entry["float32_tflop_s"] * 1e12,
    )
    kept = ("matches", "memory_gb", "source", "price_usd_h", "price_source")
    return Card(name, sheet=sheet, **{field: entry[field] for field in kept})


def measured_rates(sheet: Rates, device_rows: Mapping[str, float]) -> Rates:
    """The sheet's rates, replaced where the section "device" has a row. Rows: what → value."""
    found = {
        rate: device_rows[what] * unit
        for what, (rate, unit) in MEASURED_RATES.items()
        if what in device_rows
    }
    return replace(sheet, **found)


def floor_s(works: Sequence[Work], rates: Rates) -> float:
    """Seconds that the passes take at least, one after another, each by what binds it."""
    return sum(max(read_s(work, rates), compute_s(work, rates)) for work in works)


def read_s(work: Work, rates: Rates) -> float:
    return work.n_bytes / rates.bandwidth


def compute_s(work: Work, rates: Rates) -> float:
    return work.flops / getattr(rates, work.kind)


def binding(works: Sequence[Work], rates: Rates) -> str:
    """What most of the floor's time goes to: "bandwidth" or "FLOP"."""
    by_bytes_s = sum(
        read_s(work, rates) for work in works if read_s(work, rates) >= compute_s(work, rates)
    )
    return "bandwidth" if 2 * by_bytes_s >= floor_s(works, rates) else "FLOP"


def slowdown(works: Sequence[Work], measured: Rates, target: Rates) -> float:
    """How many times longer the target takes."""
    return floor_s(works, target) / floor_s(works, measured)


def together(rates: Sequence[float]) -> float:
    """What stages in a row make a second when each may use the whole card while it works.

    rates: of each stage alone on the card. The seconds that a unit of output takes add up.
    """
    return 1 / sum(1 / rate for rate in rates)


def kept_to_shares(rates: Sequence[float], shares: Sequence[float]) -> float:
    """What stages in a row make a second when each has its share of the card and no more."""
    return min(rate * share for rate, share in zip(rates, shares, strict=True))


def cost_usd_per_spoken_h(price_usd_h: float, audio_s_per_s: float) -> float:
    """Price of an hour of speech, by a card's seconds of audio a second."""
    return price_usd_h / audio_s_per_s
