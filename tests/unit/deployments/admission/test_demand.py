"""How long an answer will be is told by its text, its voice and its limit; old routers say less."""

from __future__ import annotations

import pickle
import time
from dataclasses import fields, replace

import numpy as np
import pytest

from deployments.admission.demand import LEAST_S, arrived, demand_of
from pipeline.contracts import Drawn, Mode, Sampling, SpeechRequest
from pipeline.serving.terms import USUAL, Service, Terms
from tests.fakes import voice_prompt

pytestmark = [pytest.mark.unit, pytest.mark.usefixtures("virtual_time")]

VOICE = voice_prompt(n_groups=50)  # six seconds
SAID = "One two three four five six seven eight nine ten and so on until the clip is over."


def audio_s(request: SpeechRequest) -> float:
    return demand_of(request, VOICE, 1, (15, 24)).audio_s


async def test_a_text_takes_as_long_as_in_the_reference() -> None:
    request = SpeechRequest(SAID, SAID)
    assert audio_s(request) == pytest.approx(6.0, rel=0.05)
    assert audio_s(replace(request, text=SAID * 3)) == pytest.approx(18.0, rel=0.05)
    assert audio_s(replace(request, text="No.")) == LEAST_S
    limited = replace(request, sampling=Sampling(max_tokens=50))
    assert audio_s(limited) == pytest.approx(1.2)
    assert demand_of(replace(request, speed=2.0), VOICE, 7, (15,)).speed == 2.0


async def test_an_edit_takes_as_long_as_what_is_edited() -> None:
    edit = SpeechRequest("", SAID, mode=Mode.EMOTION, info="happy")
    assert audio_s(edit) == VOICE.duration_s
    source = Drawn(np.zeros(500, np.int16), frozenset())
    assert audio_s(replace(edit, source=source)) == 12.0


async def test_a_request_arrives_with_the_time_that_is_left() -> None:
    sent = SpeechRequest("a", "b", terms=Terms(Service.WHOLE, "acme", due_s=2.0))
    there = arrived(pickle.loads(pickle.dumps(sent)))  # noqa: S301 - our own
    assert there.terms == Terms(Service.WHOLE, "acme", due_s=time.monotonic() + 2.0)


async def test_a_router_before_an_update_says_nothing_of_terms() -> None:
    old = object.__new__(SpeechRequest)
    for one in fields(SpeechRequest):
        if one.name != "terms":
            object.__setattr__(old, one.name, getattr(SpeechRequest("a", "b"), one.name))
    there = arrived(old)
    assert there == SpeechRequest("a", "b")
    assert there.terms is USUAL


async def test_terms_of_a_router_before_an_update_are_completed() -> None:
    """It knew of no marks: what it asks for is marked."""
    told = Terms(Service.WHOLE, "acme", is_begun=True)
    old = object.__new__(Terms)
    for one in fields(Terms):
        if one.name != "is_marked":
            object.__setattr__(old, one.name, getattr(told, one.name))
    assert arrived(SpeechRequest("a", "b", terms=old)).terms == told
