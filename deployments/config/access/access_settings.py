"""Who may use the service: keys, the first of them, and tokens of an identity provider."""

from __future__ import annotations

from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from deployments.access.caller import Scope
from deployments.config.section import Positive, Seconds, Strict

KeysWord = Literal["on", "off", "off-on-purpose"]
# Signatures that a public key proves: with a shared secret whoever verifies could also sign.
Algorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"
]
_TENANTS_WORK = (Scope.SPEAK, Scope.VOICES, Scope.EDITS, Scope.JOBS, Scope.CACHE)


class OidcSettings(Strict):
    """Tokens (JWT) of an identity provider, taken beside keys."""

    issuer: str
    """Whose tokens are taken: their `iss`, to the letter."""
    audience: Annotated[str, Field(min_length=1)]
    """For whom they must be made: one of their `aud`."""
    jwks_url: str
    """Where the provider shows its public keys, over https, or http on this machine."""
    algorithms: Annotated[tuple[Algorithm, ...], Field(min_length=1)] = ("RS256", "ES256")
    """Signatures that are taken."""
    leeway_s: Annotated[float, Field(ge=0, le=300)] = 30.0
    """How far the provider's clock and this machine's may be apart."""
    fresh_s: Seconds = 300.0
    """How old its public keys may be before they are asked for again."""
    tenant_claim: str = "timbre_tenant"
    """The claim that names the tenant."""
    scope_claim: str = "scope"
    """The claim with the scopes, in one text with spaces or a list."""
    scope_prefix: str = "timbre:"
    """What the names of our scopes begin with in it."""
    grants: tuple[Scope, ...] = _TENANTS_WORK
    """Scopes that a token may give; what else it names counts for nothing."""

    @field_validator("jwks_url")
    @classmethod
    def _nobody_between(cls, url: str) -> str:
        parts = urlsplit(url)
        is_here = parts.hostname in {"localhost", "127.0.0.1", "::1"}
        if not parts.hostname or parts.scheme not in ({"http", "https"} if is_here else {"https"}):
            raise ValueError("it must be an https address, or http on this machine")
        return url


class AccessSettings(Strict):
    """Who may use the service; docs/keys.md."""

    keys: KeysWord = "off"
    """Whether requests need a key; off only where the service listens on loopback, off-on-purpose
    where something in front of it lets in whom it should."""
    admin_key_file: str | None = None
    """File of a key with the scope `admin`, 32 characters or more; read again when it changes."""
    admin_key_env: str | None = None
    """The same in an environment variable of the routers, by its name."""
    outage_s: Seconds = 600.0
    """How long keys that are known count while the store does not answer; then they get 503."""
    max_keys: Positive = 10_000
    """Keys that are kept, those that were revoked included."""
    oidc: OidcSettings | None = None
    """An identity provider, if any."""

    @field_validator("keys", mode="before")
    @classmethod
    def _yaml_reads_words_as_truth(cls, value: object) -> object:
        if isinstance(value, bool):
            return "on" if value else "off"
        return value

    @model_validator(mode="after")
    def _nothing_is_set_in_vain(self) -> Self:
        if self.keys != "on":
            for name in ("admin_key_file", "admin_key_env", "oidc"):
                if getattr(self, name) is not None:
                    raise ValueError(f"access.{name} counts only with access.keys: on")
        if self.admin_key_file is not None and self.admin_key_env is not None:
            raise ValueError("access.admin_key_file and access.admin_key_env are one too many")
        return self
