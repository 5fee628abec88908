"""Digests, keys and object paths: names derived from content.

Every digest is BLAKE3-256 in derive-key mode (one context per kind, so that kinds never collide)
over length-prefixed fields (so that no two field lists share an encoding).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from blake3 import blake3

CONTEXT = "timbre-cache/v1/"  # part of every digest: changing it abandons every stored record
SUFFIX = ".sva"
LAYOUT = "v1"  # first path component

_NAMESPACE = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_PATH = re.compile(
    r"v1/(alias/)?([0-9a-f]{16})/([a-z0-9][a-z0-9_-]*)/[0-9a-f]{2}/([0-9a-f]{64})\.sva"
)
_HEX = re.compile(r"[0-9a-f]{16,128}")


def digest(kind: str, *fields: bytes | memoryview) -> str:
    """Hex BLAKE3-256 of `fields` in order, separated from every other `kind`."""
    hasher = blake3(derive_key_context=CONTEXT + kind)
    for value in fields:
        view = memoryview(value).cast("B")
        hasher.update(view.nbytes.to_bytes(8, "little"))
        hasher.update(view)
    return hasher.hexdigest()


def raw_key(upload: bytes | memoryview) -> str:
    """Digest of the uploaded bytes, all of them."""
    return digest("upload", upload)


def fingerprint(kind: str, parts: Mapping[str, str]) -> str:
    """Digest of named parts (versions, parameters, weight digests), independent of their order."""
    flat = [value.encode() for item in sorted(parts.items()) for value in item]
    return digest("fingerprint/" + kind, *flat)


class EntryKey(Protocol):
    """What every tier needs to know of a key."""

    @property
    def namespace(self) -> str: ...
    @property
    def digest(self) -> str:
        """Hex, 64 characters; unique over kinds and namespaces."""
        ...

    @property
    def path(self) -> str:
        """Object path below the store's root, `/`-separated."""
        ...

    @property
    def owner(self) -> str:
        """The `owner` of the ClipKey that the entry is removed with; empty when not known."""
        ...


@dataclass(frozen=True, slots=True)
class ClipKey:
    """Names everything that is kept of one clip, under any encoder: what a removal deletes.

    Raises ValueError when a part is malformed.
    """

    namespace: str
    """See VoiceKey."""
    clip_digest: str
    """See VoiceKey."""

    def __post_init__(self) -> None:
        _check(self.namespace, clip_digest=self.clip_digest)

    @property
    def owner(self) -> str:
        """Hex, 64 characters; the same for every entry of the clip."""
        return _owner(self.namespace, self.clip_digest)


@dataclass(frozen=True, slots=True)
class VoiceKey:
    """Names one voice record. Raises ValueError when a part is malformed."""

    namespace: str
    """The tenant: chosen by the server, never by a request; lower-case letters, digits, `_`,
    `-`."""
    clip_digest: str
    """Hex digest of the decoded clip; covers all samples and their rate."""
    encoder_fingerprint: str
    """Hex digest of the encoder's weights, preprocessing and configs."""
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        _check(
            self.namespace,
            clip_digest=self.clip_digest,
            encoder_fingerprint=self.encoder_fingerprint,
        )
        fields = (self.namespace, self.clip_digest, self.encoder_fingerprint)
        object.__setattr__(self, "digest", digest("voice", *(f.encode() for f in fields)))

    @property
    def path(self) -> str:
        """`v1/{fingerprint}/{namespace}/{shard}/{digest}.sva`: a fingerprint is a prefix."""
        return _path(self.encoder_fingerprint[:16], self.namespace, self.digest)

    @property
    def owner(self) -> str:
        return _owner(self.namespace, self.clip_digest)


@dataclass(frozen=True, slots=True)
class AliasKey:
    """Names the note "this upload decodes to that clip".

    Raises ValueError when a part is malformed.
    """

    namespace: str
    """See VoiceKey."""
    raw: str
    """Hex digest of the upload, from `raw_key`."""
    decode_fingerprint: str
    """Hex digest of the decoder's version and parameters."""
    digest: str = field(init=False)
    clip_digest: str = field(default="", compare=False)
    """Of the clip that the upload decodes to; empty while unknown. No part of the identity."""

    def __post_init__(self) -> None:
        _check(self.namespace, raw=self.raw, decode_fingerprint=self.decode_fingerprint)
        if self.clip_digest:
            _check(self.namespace, clip_digest=self.clip_digest)
        fields = (self.namespace, self.raw, self.decode_fingerprint)
        object.__setattr__(self, "digest", digest("alias", *(f.encode() for f in fields)))

    @property
    def path(self) -> str:
        """`v1/alias/{decode fingerprint}/{namespace}/{shard}/{digest}.sva`."""
        return alias_path(self.decode_fingerprint[:16], self.namespace, self.digest)

    @property
    def owner(self) -> str:
        return _owner(self.namespace, self.clip_digest) if self.clip_digest else ""

    def leading_to(self, clip_digest: str) -> AliasKey:
        """The same key, with what the upload decodes to."""
        return replace(self, clip_digest=clip_digest)


@dataclass(frozen=True, slots=True)
class EntryPath:
    """The parts of an object's path."""

    kind: str
    """voice or alias."""
    fingerprint: str
    """The first 16 digits of the fingerprint."""
    namespace: str
    digest: str


def parse_path(path: str) -> EntryPath | None:
    """The parts of a path that VoiceKey or AliasKey made; None for any other object."""
    found = _PATH.fullmatch(path)
    if found is None:
        return None
    alias, print_, namespace, entry_digest = found.groups()
    return EntryPath("alias" if alias else "voice", print_, namespace, entry_digest)


def check_namespace(namespace: str) -> str:
    """The namespace itself. Raises ValueError when it could not stand in a path."""
    if not _NAMESPACE.fullmatch(namespace):
        raise ValueError(
            f"namespace {namespace!r} must be 1 to 63 of a-z, 0-9, '_' and '-', "
            "and start with a letter or digit"
        )
    return namespace


def alias_path(fingerprint: str, namespace: str, entry_digest: str) -> str:
    """Where an alias lies. fingerprint: the first 16 digits of the decoder's."""
    return _path(f"alias/{fingerprint}", namespace, entry_digest)


def _owner(namespace: str, clip_digest: str) -> str:
    return digest("clip", namespace.encode(), clip_digest.encode())


def _check(namespace: str, **digests: str) -> None:
    check_namespace(namespace)
    for name, value in digests.items():
        if not _HEX.fullmatch(value):
            raise ValueError(f"{name} {value!r} must be 16 to 128 lower-case hex digits")


def _path(prefix: str, namespace: str, entry_digest: str) -> str:
    return f"{LAYOUT}/{prefix}/{namespace}/{entry_digest[:2]}/{entry_digest}{SUFFIX}"
