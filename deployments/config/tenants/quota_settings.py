"""The section of the settings about how much a tenant, or one key of it, may use."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from deployments.config.section import Positive, Seconds, Strict

Amount = Annotated[int, Field(ge=0)]


class Quota(Strict):
    """What one tenant, or one key, may use on the whole cluster. None: as much as there is."""

    requests_per_minute: Positive | None = None
    """In any minute: requests that change or make something, items of a batch and utterances of a
    session each."""
    audio_s_per_minute: Seconds | None = None
    """Seconds of audio sent in any minute. A reply that has begun is finished; what it is over is
    waited for before the next."""
    audio_s_per_day: Seconds | None = None
    """The same in any 24 hours, what jobs speak included."""
    streams: Positive | None = None
    """Replies that are spoken at a time, whole ones included."""
    voices: Amount | None = None
    """Uploaded voices of the tenant; more are not taken."""
    stored_bytes: Amount | None = None
    """Bytes of the tenant's uploaded voices, consents and jobs; nothing is taken beyond them."""

    @property
    def is_set(self) -> bool:
        """Whether it limits anything."""
        return any(value is not None for _, value in self)


class QuotaSettings(Strict):
    """How much tenants and keys may use. A request needs room under its tenant's and its key's."""

    tenant: Quota = Quota()
    """Of each tenant that `tenants` does not name."""
    tenants: dict[str, Quota] = Field(default_factory=dict[str, Quota])
    """Of tenants by namespace, instead of `tenant`."""
    key: Quota = Quota()
    """Of each key that `keys` does not name."""
    keys: dict[str, Quota] = Field(default_factory=dict[str, Quota])
    """Of keys by their public id, instead of `key`."""
    alone_s: Seconds = 600.0
    """How long a router goes on with its own share while the book of quotas does not answer; then
    those who have a quota get 503."""

    @property
    def is_set(self) -> bool:
        """Whether anybody is limited by it."""
        return any(
            quota.is_set
            for quota in (self.tenant, self.key, *self.tenants.values(), *self.keys.values())
        )

    def of_tenant(self, namespace: str) -> Quota:
        """Of a tenant."""
        return self.tenants.get(namespace, self.tenant)

    def of_key(self, key_id: str) -> Quota:
        """Of a key; of requests without one, none."""
        return self.keys.get(key_id, self.key) if key_id else NO_QUOTA


NO_QUOTA = Quota()
