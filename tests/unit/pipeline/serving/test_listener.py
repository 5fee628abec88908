"""When more of an answer is wanted, by how it is taken."""

from __future__ import annotations

import pytest

from pipeline.serving.listener import BEGIN_S, BEHIND_S, WHOLE_S, Listener
from pipeline.serving.terms import Service, Terms

pytestmark = pytest.mark.unit


def test_a_stream_is_wanted_soon_and_then_as_its_sound_ends() -> None:
    listener = Listener(0.0)
    assert listener.wanted_s(5.0) == 5.0 + BEGIN_S
    assert listener.dry_at_s is None
    listener.heard(2.0, 6.0)
    assert listener.wanted_s(7.0) == listener.dry_at_s == 8.0
    listener.heard(1.0, 9.0)
    assert listener.wanted_s(9.0) == 10.0
    assert (listener.underruns, listener.pieces, listener.audio_s) == (1, 2, 3.0)


def test_a_player_at_another_speed_is_done_sooner_or_later() -> None:
    listener = Listener(0.0, speed=2.0)
    listener.heard(3.0, 1.0)
    assert listener.wanted_s(1.0) == 2.5
    assert listener.audio_s == 3.0


def test_the_rest_of_a_reply_is_wanted_as_what_came_before_ends() -> None:
    listener = Listener(0.0, Terms(is_begun=True, due_s=10.0))
    assert listener.wanted_s(1.0) == 10.0
    listener.heard(2.0, 4.0)
    assert listener.wanted_s(4.0) == 12.0
    listener.heard(2.0, 11.0)
    assert listener.wanted_s(11.0) == 14.0
    assert listener.underruns == 0


def test_a_whole_answer_is_wanted_when_it_is_due() -> None:
    listener = Listener(1.0, Terms(Service.WHOLE, due_s=20.0))
    listener.heard(2.0, 2.0)
    listener.heard(2.0, 19.0)
    assert listener.wanted_s(9.0) == 20.0
    assert listener.underruns == 0
    assert WHOLE_S > BEHIND_S


def test_what_is_due_much_later_gets_a_chunk_now_and_then() -> None:
    for terms in (Terms(Service.WHOLE, due_s=300.0), Terms(Service.WHOLE)):
        assert Listener(1.0, terms).wanted_s(9.0) == 1.0 + BEHIND_S


def test_a_batch_goes_behind_all_others_but_not_for_ever() -> None:
    listener = Listener(1.0, Terms(Service.BATCH))
    assert listener.wanted_s(9.0) == 1.0 + BEHIND_S
    listener.heard(2.0, 15.0)
    assert listener.wanted_s(16.0) == 15.0 + BEHIND_S


def test_between_processes_seconds_are_left() -> None:
    terms = Terms(tenant="a", due_s=12.5)
    assert terms.sent(10.0).due_s == 2.5
    assert terms.sent(10.0).arrived(100.0) == Terms(tenant="a", due_s=102.5)
    assert Terms().sent(5.0).arrived(7.0) == Terms()
