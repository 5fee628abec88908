"""The espeak-ng library: one instance a process, whoever asks first."""

from __future__ import annotations

import functools
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from pipeline.text import espeak
from pipeline.text.phonemes import espeak_phonemes

pytestmark = pytest.mark.unit


def test_first_callers_on_two_threads_share_one_instance(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second would take the first one's events."""
    made: list[object] = []

    def make() -> object:
        made.append(object())
        time.sleep(0.1)  # the other caller comes meanwhile
        return made[-1]

    monkeypatch.setattr(espeak, "_made_espeak", functools.cache(make))
    with ThreadPoolExecutor(2) as threads:
        first, second = (threads.submit(espeak.default_espeak) for _ in range(2))
        assert first.result() is second.result()
    assert len(made) == 1


def test_texts_at_the_same_time_do_not_mix() -> None:
    texts = [f"The number {n} train was late again." for n in range(8)]
    alone = [espeak_phonemes(text) for text in texts]
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(espeak_phonemes, texts)) == alone
