"""The shelf of uploaded voices on a store that does not answer."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from cache_store.keyring import Keyring
from cache_store.settings import CacheSettings
from deployments.voices import shelf
from deployments.voices.shelf import Shelf
from pipeline.errors import StageUnavailableError

pytestmark = pytest.mark.unit
DEADLINE_S, GIVE_UP_S = 0.2, 0.3


class SilentStore:
    """Every call lasts until the test ends."""

    def __init__(self) -> None:
        self.end = threading.Event()
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        def call(*_: object) -> None:
            self.calls += 1
            self.end.wait()

        return call


@pytest.fixture
def silent() -> Iterator[SilentStore]:
    store = SilentStore()
    yield store
    store.end.set()


async def test_a_silent_store_is_given_up_in_time_however_often_it_is_asked(
    monkeypatch: pytest.MonkeyPatch, silent: SilentStore
) -> None:
    monkeypatch.setattr(shelf, "GIVE_UP_S", GIVE_UP_S)
    settings = CacheSettings(url="none", l3_write_deadline_s=DEADLINE_S)
    one = Shelf(silent, Keyring(), settings)  # type: ignore[arg-type]
    began_s = time.monotonic()
    with pytest.raises(StageUnavailableError, match="does not answer"):
        await one.publish("a", {})
    assert time.monotonic() - began_s < shelf.TRIES * DEADLINE_S - 0.1
    assert silent.calls == 2


def test_nobody_waits_ten_seconds_for_the_store() -> None:
    assert shelf.GIVE_UP_S < 10
