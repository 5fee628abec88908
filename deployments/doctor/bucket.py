"""The check of the store that replicas share: every operation of a replica, tried on it."""

from __future__ import annotations

from cache_store.errors import CacheError
from cache_store.keyring import Keyring
from cache_store.maintenance import examine
from cache_store.opening import open_store
from deployments.doctor.findings import Finding, fault, good, unknown, warning
from deployments.doctor.machine import local_directory
from deployments.doctor.site import Site

SEALING = "sealing key"
_REMEDIES = {
    "reach it": "the address (AWS_ENDPOINT_URL, storage_options), its network, its credentials",
    "clock": "NTP (chrony, timesyncd)",
}
_ALLOW = "let the bucket's policy allow get, put, list and delete below cache.url"


def bucket(site: Site) -> Finding:
    """What it tries is removed afterwards."""
    if site.settings is None:
        return unknown("the config holds a mistake")
    cache = site.settings.cache
    if cache.url == "none" or local_directory(cache.url) is not None:
        return unknown("the cache is in no bucket")
    try:
        keyring = Keyring.load(file=cache.mac_keys_file, env=cache.mac_keys_env)
        store = open_store(cache)
    except (CacheError, ValueError, OSError) as error:
        return fault(f"{cache.url} cannot be opened: {error}", "mend cache in the config")
    tried = () if store is None else examine(store, keyring)
    bad = next((one for one in tried if not one.is_good), None)
    if bad is None:
        return good(f"{cache.url} takes all that a replica does")
    if bad.step == SEALING:
        return warning(
            "who may write into the bucket can forge voices and keys",
            "cache.mac_keys_file or mac_keys_env, the same on every machine",
        )
    remedy = _REMEDIES.get(bad.step, _ALLOW)
    return fault(f"{bad.step}: {bad.says}", f"{remedy}; then timbre cache doctor")
