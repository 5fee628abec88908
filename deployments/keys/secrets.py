"""A key as its holder has it, and what is kept of it: a digest.

`tk_{id}_{secret}`. The secret is 256 random bits, which nobody can try out: a fast digest is as
good as a slow one here, and every request is checked with it.
"""

from __future__ import annotations

import hmac
import re
import secrets
from hashlib import blake2b

ID_DIGITS, _SECRET_DIGITS = 16, 64
_ID = re.compile(f"[0-9a-f]{{{ID_DIGITS}}}")
_KEY = re.compile(f"tk_([0-9a-f]{{{ID_DIGITS}}})_[0-9a-f]{{{_SECRET_DIGITS}}}")
_PURPOSE = b"timbre-api-key"


def new_id() -> str:
    """Of a key; public."""
    return secrets.token_hex(ID_DIGITS // 2)


def new_key(key_id: str) -> str:
    """A key with this id and a secret of its own."""
    return f"tk_{key_id}_{secrets.token_hex(_SECRET_DIGITS // 2)}"


def id_of(key: str) -> str | None:
    """The id that a key tells; None for what is none of ours."""
    found = _KEY.fullmatch(key)
    return None if found is None else found[1]


def is_id(text: str) -> bool:
    """Whether it can be an id; only such a text gets into a path."""
    return _ID.fullmatch(text) is not None


def digest_of(key: str) -> str:
    """What is kept of a key: hex."""
    return blake2b(key.encode(), digest_size=32, person=_PURPOSE).hexdigest()


def is_key(key: str, digest: str) -> bool:
    """Whether the digest is the key's, in a time that tells nothing of it."""
    return hmac.compare_digest(digest_of(key), digest)
