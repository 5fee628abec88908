"""A cache and an encoder of records, as the tests of tiers use them."""

from __future__ import annotations

import asyncio

from cache_store.cache import VoiceCache
from cache_store.codec import Record
from cache_store.keys import AliasKey
from cache_store.settings import CacheSettings
from tests.cache_helpers import SCHEMA, make_record

PATIENT_S = 60.0  # where a test is not about the deadline


class Encoder:
    """Counts its calls. The record depends on nothing but the seed."""

    def __init__(self, delay_s: float = 0.0, seed: int = 0) -> None:
        self.calls = 0
        self.delay_s = delay_s
        self.seed = seed

    async def __call__(self) -> Record:
        self.calls += 1
        await asyncio.sleep(self.delay_s)
        return make_record(self.seed)


def make_cache(*tiers, **settings) -> VoiceCache:
    return VoiceCache(SCHEMA, tiers, CacheSettings(**settings))


ALIAS_KEY = AliasKey("shared", "ef" * 32, "01" * 32)
