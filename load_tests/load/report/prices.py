"""What an hour of speech costs, by the price of the machine that made it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from load_tests.gpu.report.projection import Hardware, cost_usd_per_spoken_h

PRICES = Path(__file__).parent / "prices.yaml"


@dataclass(frozen=True, slots=True)
class Price:
    """Of an hour of a whole machine. said_by: where it is from."""

    usd_h: float
    said_by: str


def price_of(result: Mapping[str, Any]) -> Price | None:
    """A card's as hardware.yaml has it, a processor's by its cores; None where none is stated."""
    hardware = Hardware.load()
    card = hardware.card_of(str(result["device"]))
    if card is not None:
        if card.price_usd_h is None or card.price_source is None:
            return None
        return Price(card.price_usd_h, card.price_source["title"])
    stated = yaml.safe_load(PRICES.read_text(encoding="utf-8"))["cpu"]
    return Price(stated["usd_core_h"] * int(result["cpus"]), stated["said_by"])


def usd_per_spoken_h(result: Mapping[str, Any]) -> float | None:
    """The machine's price over what it spoke in the run, busy or not; None where unknown."""
    price, audio_s_per_s = price_of(result), result["summary"]["audio_s_per_s"]
    return cost_usd_per_spoken_h(price.usd_h, audio_s_per_s) if price and audio_s_per_s else None
