"""A player that starts at the first piece: when it runs dry, for how long, and when it does not."""

from __future__ import annotations

import pytest

from pipeline.continuity import Continuity, PlaybackMeter

pytestmark = pytest.mark.unit


def continuity_of(*pieces: tuple[float, float]) -> Continuity:
    """pieces: (at_s, audio_s); accepted at 100."""
    meter = PlaybackMeter(100.0)
    for at_s, audio_s in pieces:
        meter.sent(audio_s, at_s)
    return meter.continuity()


def test_a_stream_ahead_of_its_player_has_no_underrun() -> None:
    got = continuity_of((100.5, 1.0), (101.0, 1.0), (102.4, 1.0))
    assert got == Continuity(pytest.approx(0.5), pytest.approx(1.4), 0.0, 0, 3.0, 3)
    assert got.is_ok


def test_a_late_piece_is_an_underrun_from_when_the_player_ran_dry() -> None:
    got = continuity_of((100.5, 1.0), (102.0, 1.0), (102.5, 1.0), (106.0, 0.2))
    assert got.underruns == 2
    assert got.underrun_s == pytest.approx(0.5 + 2.0)  # dry at 101.5, then at 104
    assert not got.is_ok


def test_a_pause_delays_the_rest() -> None:
    """After a pause the player is behind, so the next piece may come later without harm."""
    got = continuity_of((100.0, 1.0), (103.0, 1.0), (103.9, 1.0), (104.9, 1.0))
    assert (got.underruns, got.underrun_s) == (1, pytest.approx(2.0))


def test_a_player_tells_when_it_runs_dry() -> None:
    meter = PlaybackMeter(100.0)
    assert meter.dry_at_s is None
    meter.sent(1.0, 100.5)
    assert meter.dry_at_s == pytest.approx(101.5)
    meter.sent(0.5, 101.0)
    assert meter.dry_at_s == pytest.approx(102.0)
    meter.sent(0.5, 103.0)
    assert meter.dry_at_s == pytest.approx(103.5)


def test_jitter_is_no_underrun() -> None:
    assert continuity_of((100.0, 1.0), (101.005, 1.0)).is_ok


def test_empty_pieces_do_not_count() -> None:
    assert continuity_of((100.2, 0.0), (100.7, 1.0), (109.0, 0.0)) == continuity_of((100.7, 1.0))
    silent = continuity_of()
    assert (silent.ttfa_s, silent.is_ok) == (None, False)
