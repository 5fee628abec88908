"""Deletes everything that a store holds of one clip."""

from __future__ import annotations

import itertools
import logging
import re
from collections.abc import Iterator

from cache_store.codec import describe
from cache_store.errors import CorruptEntry, EntryError, StoreError
from cache_store.keyring import Keyring
from cache_store.keys import LAYOUT, ClipKey, EntryKey, VoiceKey
from cache_store.notes import alias_in_note, notes_directory
from cache_store.store import QUARANTINE, TMP, BlobStore, is_aside

logger = logging.getLogger(__name__)

FINGERPRINT = "cache.encoder_fingerprint"  # metadata of every voice record
_TRIES = 20  # records read to learn an encoder's fingerprint
_ENCODER = re.compile(r"[0-9a-f]{16}")


class ClipEraser:
    """Finds a clip's records under every encoder that ever wrote to the store, and its aliases.

    A record's name is derived from the encoder's whole fingerprint; its path shows 16 digits of it.
    The rest is read once from any record of that encoder. Blocks: use it from threads.
    """

    def __init__(self, store: BlobStore, keyring: Keyring, max_bytes: int) -> None:
        self._store = store
        self._keyring = keyring
        self._max_bytes = max_bytes
        self._encoders: dict[str, str] = {}  # whole fingerprints by their first 16 digits

    def see(self, key: EntryKey) -> None:
        """Note the encoder of a key used in this process."""
        if isinstance(key, VoiceKey):
            self._encoders.setdefault(key.encoder_fingerprint[:16], key.encoder_fingerprint)

    def erase(self, clip: ClipKey) -> None:
        """Delete records, aliases, and their temporary and quarantined copies.

        Raises StoreError when something may be left.
        """
        paths = [VoiceKey(clip.namespace, clip.clip_digest, one).path for one in self._prints(clip)]
        directory = notes_directory(clip)
        notes: list[str] = []
        for name in self._store.names(directory):
            alias = alias_in_note(name, clip)
            if alias is not None:
                paths.append(alias)
                notes.append(f"{directory}/{name}")
        for path in paths:
            self._store.delete(path)
        for aside in (TMP, QUARANTINE):
            for name in self._store.names(aside):
                if any(is_aside(name, path) for path in paths):
                    self._store.delete(f"{aside}/{name}")
        for path in notes:  # last: a retry then still finds the aliases
            self._store.delete(path)

    def _prints(self, clip: ClipKey) -> list[str]:
        """Fingerprints of the encoders that may have a record of the clip."""
        for name in self._store.names(LAYOUT):
            if name not in self._encoders and _ENCODER.fullmatch(name):
                self._learn(name, clip.namespace)
        return list(self._encoders.values())

    def _learn(self, encoder: str, namespace: str) -> None:
        """Raises StoreError when this process has no key for any record of an encoder."""
        is_sealed = False
        for path in itertools.islice(self._records(f"{LAYOUT}/{encoder}/{namespace}"), _TRIES):
            data = self._store.get(path, self._max_bytes)
            if data is None:
                continue
            try:
                whole = describe(data, self._keyring, self._max_bytes).metadata[FINGERPRINT]
            except (CorruptEntry, KeyError):
                continue  # no replica serves it
            except EntryError as error:
                logger.warning("cannot read %s: %s", path, error)
                is_sealed = True
                continue
            if whole.startswith(encoder):
                self._encoders[encoder] = whole
                return
        if is_sealed:
            raise StoreError(
                f"records of encoder {encoder} are sealed under keys that are not known here: "
                "whether this clip's is among them cannot be told"
            )

    def _records(self, directory: str) -> Iterator[str]:
        for shard in self._store.names(directory):
            for name in self._store.names(f"{directory}/{shard}"):
                yield f"{directory}/{shard}/{name}"
