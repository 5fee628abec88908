"""What is written down of a key: one entry of its journal."""

from __future__ import annotations

from deployments.access.caller import Caller, Scope
from deployments.keys.secrets import digest_of, is_key
from deployments.voices.documents import Written


class SecretState(Written):
    """One of a key's secrets."""

    digest: str
    """See deployments.keys.secrets; the secret itself is nowhere."""
    created_unix_s: int
    ends_unix_s: int | None = None
    """When it is refused, of one that a rotation left beside the new one."""


class KeyState(Written):
    """How a key stands."""

    tenant: str
    """The namespace of all that its holder has."""
    scopes: tuple[str, ...]
    label: str = ""
    """What an operator calls it."""
    secrets: tuple[SecretState, ...]
    """The newest first."""
    created_unix_s: int
    expires_unix_s: int | None = None
    revoked_unix_s: int | None = None

    def is_over(self, now_unix_s: float) -> bool:
        """Whether it is revoked or expired: for good."""
        expires_s = self.expires_unix_s
        return self.revoked_unix_s is not None or (
            expires_s is not None and now_unix_s >= expires_s
        )

    def opens(self, key: str, now_unix_s: float) -> bool:
        """Whether this is the key, with a secret that counts now."""
        return not self.is_over(now_unix_s) and any(
            is_key(key, one.digest)
            for one in self.secrets
            if one.ends_unix_s is None or now_unix_s < one.ends_unix_s
        )

    def caller(self, key_id: str) -> Caller:
        """Its holder. Scopes of later versions are passed over."""
        known = {scope.value for scope in Scope}
        scopes = frozenset(Scope(one) for one in self.scopes if one in known)
        return Caller(self.tenant, key_id, scopes)

    def rotated(self, key: str, now_unix_s: int, keep_old_s: int) -> KeyState:
        """With a new secret; the one of before counts for so long yet, older ones no more."""
        new = SecretState(digest=digest_of(key), created_unix_s=now_unix_s)
        ends_s = now_unix_s + keep_old_s
        old = [
            one.model_copy(update={"ends_unix_s": min(ends_s, one.ends_unix_s or ends_s)})
            for one in self.secrets[:1]
            if keep_old_s
        ]
        return self.model_copy(update={"secrets": (new, *old)})
