"""Opens the cache that settings describe, with its tiers and store. Contacts nothing yet."""

from __future__ import annotations

from cache_store.cache import VoiceCache
from cache_store.codec import RecordSchema
from cache_store.failures import FailureCodec
from cache_store.housekeeping import Housekeeper
from cache_store.keyring import Keyring
from cache_store.local_store import LocalStore
from cache_store.maintenance import GcPolicy
from cache_store.persistent_tier import PersistentTier
from cache_store.settings import CacheSettings
from cache_store.store import BlobStore
from cache_store.tier import Tier


def open_cache(
    settings: CacheSettings, schema: RecordSchema, failures: FailureCodec | None = None
) -> VoiceCache:
    """The cache that the settings describe. Contacts nothing before `start`.

    Raises ValueError or OSError when the keys of the entry digest cannot be read.
    """
    from cache_store.cluster import ClusterTier, is_connected

    keyring = Keyring.load(file=settings.mac_keys_file, env=settings.mac_keys_env)
    tiers = open_tiers(settings, keyring)
    in_cluster = settings.l2 == "on" or (settings.l2 == "auto" and is_connected())
    shared = ClusterTier(settings) if in_cluster else None
    return VoiceCache(schema, tiers, settings, keyring, shared=shared, failures=failures)


def open_tiers(settings: CacheSettings, keyring: Keyring) -> list[Tier]:
    """The tier of the store that the settings name; none for `url: none`."""
    store = open_store(settings)
    if store is None:
        return []
    housekeeper = None
    if isinstance(store, LocalStore) and settings.l3_max_bytes is not None:
        policy = GcPolicy(max_bytes=settings.l3_max_bytes)
        housekeeper = Housekeeper(store, policy, settings.gc_interval_s)
    return [PersistentTier(store, settings, housekeeper=housekeeper, keyring=keyring)]


def open_store(settings: CacheSettings) -> BlobStore | None:
    """The store that `settings.url` names, or None for `none`. Contacts nothing yet."""
    url = settings.url
    if url == "none":
        return None
    scheme, separator, rest = url.partition("://")
    if not separator:
        return LocalStore(url, fsync=settings.fsync)
    if scheme == "file":
        return LocalStore(rest, fsync=settings.fsync)
    from cache_store.fsspec_store import FsspecStore

    return FsspecStore(url, settings)
