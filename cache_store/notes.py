"""Notes beside aliases: empty objects whose names say which aliases lead to a clip.

An alias is found by its upload alone: without notes the aliases of a removed clip would be unknown.
"""

from __future__ import annotations

import re

from cache_store.keys import LAYOUT, AliasKey, ClipKey, EntryKey, EntryPath, alias_path

NOTES = f"{LAYOUT}/clip"
CLIP = "cache.clip"  # metadata of an alias, so that an import can write its note again
_NAME = re.compile(r"([0-9a-f]{16,128})\.([0-9a-f]{16})\.([0-9a-f]{64})")
_PATH = re.compile(rf"{NOTES}/([a-z0-9][a-z0-9_-]*)/[0-9a-f]{{2}}/({_NAME.pattern})")


def note_path(key: EntryKey) -> str | None:
    """The note to write before the entry; None for anything but an alias whose clip is known."""
    if not isinstance(key, AliasKey) or not key.clip_digest:
        return None
    return _path(key.namespace, key.clip_digest, key.decode_fingerprint[:16], key.digest)


def note_of_path(alias: EntryPath, clip_digest: str) -> str | None:
    """The note of an alias that lies in a store; None for any other entry or without a clip."""
    if alias.kind != "alias" or not clip_digest:
        return None
    return _path(alias.namespace, clip_digest, alias.fingerprint, alias.digest)


def notes_directory(clip: ClipKey) -> str:
    """The directory of the clip's notes; it holds those of other clips too."""
    return f"{NOTES}/{clip.namespace}/{clip.clip_digest[:2]}"


def alias_in_note(name: str, clip: ClipKey) -> str | None:
    """Path of the alias that a note in the clip's directory names; None if it is another's."""
    found = _NAME.fullmatch(name)
    if found is None or found[1] != clip.clip_digest:
        return None
    return alias_path(found[2], clip.namespace, found[3])


def alias_of_note(path: str) -> str | None:
    """Path of the alias that the note at `path` names; None for any other object."""
    found = _PATH.fullmatch(path)
    return None if found is None else alias_path(found[4], found[1], found[5])


def _path(namespace: str, clip_digest: str, fingerprint: str, digest: str) -> str:
    return (
        f"{notes_directory(ClipKey(namespace, clip_digest))}/{clip_digest}.{fingerprint}.{digest}"
    )
