"""Floors in seconds, factors between cards, shares and prices, by hand."""

from __future__ import annotations

import pytest

from load_tests.gpu.report.floors import LlmShape, Work, llm_step
from load_tests.gpu.report.lines import Line, Service, released_lines
from load_tests.gpu.report.projection import (
    Hardware,
    Rates,
    binding,
    cost_usd_per_spoken_h,
    floor_s,
    kept_to_shares,
    measured_rates,
    slowdown,
    together,
)

pytestmark = pytest.mark.unit

FAST = Rates(bandwidth=100, bfloat16=1000, tf32=500, float32=50)
SLOW = Rates(bandwidth=25, bfloat16=500, tf32=100, float32=100)
READING = Work(n_bytes=200, flops=1000, kind="bfloat16")  # 2 s against 1 s
MULTIPLYING = Work(n_bytes=100, flops=1000, kind="tf32")  # 1 s against 2 s


def test_each_pass_takes_what_binds_it() -> None:
    assert floor_s([READING], FAST) == 2
    assert floor_s([READING, MULTIPLYING], FAST) == 4
    assert binding([READING], FAST) == "bandwidth"
    assert binding([MULTIPLYING], FAST) == "FLOP"
    assert binding([READING, READING, MULTIPLYING], FAST) == "bandwidth"


def test_a_factor_is_the_ratio_of_what_binds_on_each_card() -> None:
    assert slowdown([READING], FAST, SLOW) == 4  # bandwidth on both
    assert slowdown([MULTIPLYING], FAST, SLOW) == 5  # FLOP on both
    mixed = Work(n_bytes=100, flops=1500, kind="bfloat16")  # FLOP here 1.5 s, bandwidth there 4 s
    assert slowdown([mixed], FAST, SLOW) == pytest.approx(4 / 1.5)
    assert slowdown([Work(0, 100, "float32")], FAST, SLOW) == 0.5


def test_measured_rates_stand_in_for_the_sheet() -> None:
    rows = {"copy, read and written": 80e-9, "product, bfloat16": 600e-12, "other": 1.0}
    rates = measured_rates(FAST, rows)
    assert rates == Rates(bandwidth=80, bfloat16=600, tf32=500, float32=50)
    assert rates.shares_of(FAST) == pytest.approx(
        {"bandwidth": 0.8, "bfloat16": 0.6, "tf32": 1, "float32": 1}
    )
    assert SLOW.times(rates.shares_of(FAST)) == Rates(20, 300, 100, 100)


def test_a_line_turns_seconds_into_its_row() -> None:
    rate = Line("llm", "batch 8: rate", "tok/s", [READING], 8, is_rate=True)
    assert rate.floor(FAST) == 4  # 8 tokens in 2 s
    assert rate.slower(3.0, 4.0) == 0.75
    assert rate.share_of_floor(3.0, FAST) == 0.75
    time = Line("llm", "first token", "ms", [READING], 1e3)
    assert time.floor(FAST) == 2000
    assert time.slower(3.0, 4.0) == 12
    assert time.share_of_floor(4000, FAST) == 0.5


def test_a_card_is_shared_by_share_or_by_need() -> None:
    assert kept_to_shares([100, 400, 90], [0.5, 0.25, 0.15]) == pytest.approx(13.5)
    assert together([100, 100, 50]) == pytest.approx(25)
    assert cost_usd_per_spoken_h(2.0, 25) == 0.08


def test_the_cards_are_known_by_their_drivers_names() -> None:
    hardware = Hardware.load()
    names = {
        "NVIDIA H100 80GB HBM3": "H100 SXM",
        "NVIDIA H200": "H200 SXM",
        "NVIDIA L40S": "L40S",
        "NVIDIA H100 PCIe": None,
        "NVIDIA L40": None,
        "": None,
    }
    for device, name in names.items():
        card = hardware.card_of(device)
        assert (card.name if card else None) == name
    assert hardware.target.name == "L40S"
    assert hardware.target.sheet.bandwidth == 864e9
    by_name = {card.name: card for card in hardware.cards}
    step = [llm_step(LlmShape(), 1, 0)]
    # one stream is bound by bandwidth on both: 3,350 / 864
    assert slowdown(step, by_name["H100 SXM"].sheet, by_name["L40S"].sheet) == pytest.approx(
        3350 / 864
    )


def test_the_service_is_the_production_config() -> None:
    service = Service.load()
    assert service.shares == {"llm": 0.5, "vocoder": 0.25, "tokenizer": 0.15}
    assert (service.slots, service.max_streams, service.prefill_chunk_tokens) == (24, 16, 128)


def test_no_line_asks_for_more_than_a_card_could() -> None:
    lines = released_lines(Service.load())
    assert len({(line.section, line.what) for line in lines}) == len(lines)
    for card in Hardware.load().cards:
        for line in lines:
            assert line.floor(card.sheet) > 0
            assert line.share_of_floor(line.floor(card.sheet), card.sheet) == pytest.approx(1)
