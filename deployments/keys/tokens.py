"""Tokens (JWT) of an identity provider: whom they name, and what they let them do."""

from __future__ import annotations

import asyncio
import logging
import time
from hashlib import blake2b
from typing import Any, Protocol

import jwt

from cache_store.keys import check_namespace
from deployments.access.caller import Caller, Scope
from deployments.config.access.access_settings import OidcSettings
from pipeline.errors import StageUnavailableError, UnauthenticatedError

logger = logging.getLogger(__name__)

FETCH_S = 5.0  # for the provider's keys
AGAIN_S = 10.0  # between looks for a key that the provider did not show
MAX_TOKEN_CHARS = 8_192
_MUST = ("exp", "iss", "aud", "sub")


class Fetches(Protocol):
    """Gets the provider's keys; blocks."""

    def fetch_data(self) -> Any:
        """A JSON Web Key Set. Raises jwt.PyJWKClientConnectionError."""
        ...


class KeySet:
    """The provider's public keys by their id, asked for again when they are old or one is new.

    fresh_s: how old they may be. stale_s: how old while the provider does not answer.
    """

    def __init__(self, source: Fetches, fresh_s: float, stale_s: float) -> None:
        self._source = source
        self._fresh_s, self._stale_s = fresh_s, stale_s
        self._keys: dict[str, jwt.PyJWK] = {}
        self._seen_s = self._asked_s = float("-inf")
        self._turn = asyncio.Lock()

    async def get(self, key_id: str) -> jwt.PyJWK | None:
        """Raises StageUnavailableError when it cannot be known."""
        came_s = time.monotonic()
        if not self._suffices(key_id, came_s):
            async with self._turn:  # others may have looked meanwhile
                if not self._suffices(key_id, came_s) and came_s - self._asked_s >= AGAIN_S:
                    await self._look()
        if time.monotonic() - self._seen_s > self._stale_s:
            raise StageUnavailableError("the identity provider does not show its keys")
        return self._keys.get(key_id)

    def _suffices(self, key_id: str, now_s: float) -> bool:
        is_fresh = now_s - self._seen_s <= self._fresh_s
        return is_fresh and key_id in self._keys

    async def _look(self) -> None:
        began_s = self._asked_s = time.monotonic()
        try:
            shown = await asyncio.to_thread(self._source.fetch_data)
            keys = jwt.PyJWKSet.from_dict(shown).keys
        except (jwt.PyJWTError, AttributeError, LookupError, TypeError, ValueError) as error:
            logger.warning("the identity provider does not show its keys: %s", error)
            return
        self._keys = {key.key_id: key for key in keys if key.key_id is not None}
        self._seen_s = began_s


class Tokens:
    """Verifies tokens. Use it from one event loop."""

    def __init__(
        self, settings: OidcSettings, stale_s: float, source: Fetches | None = None
    ) -> None:
        """stale_s: see KeySet. source: of keys; None for the provider itself."""
        self._settings = settings
        client = jwt.PyJWKClient(settings.jwks_url, cache_jwk_set=False, timeout=FETCH_S)
        stale_s = max(stale_s, settings.fresh_s)
        self._keys = KeySet(source or client, settings.fresh_s, stale_s)

    async def caller(self, token: str) -> Caller:
        """Who holds the token.

        Raises UnauthenticatedError for one that does not count, StageUnavailableError when that
        cannot be known.
        """
        claims = await self._claims(token)
        tenant = claims.get(self._settings.tenant_claim)
        try:
            namespace = check_namespace(tenant if isinstance(tenant, str) else "")
        except ValueError as error:
            raise UnauthenticatedError(
                f"the token names no tenant in {self._settings.tenant_claim}"
            ) from error
        subject = blake2b(f"{claims['iss']}\0{claims['sub']}".encode(), digest_size=8).hexdigest()
        return Caller(namespace, f"jwt_{subject}", self._scopes(claims))

    async def _claims(self, token: str) -> dict[str, Any]:
        try:
            if len(token) > MAX_TOKEN_CHARS:
                raise UnauthenticatedError("the token is too long")
            head = jwt.get_unverified_header(token)
            if head.get("alg") not in self._settings.algorithms:
                raise UnauthenticatedError("the token is signed in a way that is not taken")
            key = await self._keys.get(str(head.get("kid", "")))
            if key is None:
                raise UnauthenticatedError("the token is signed with an unknown key")
            return jwt.decode(
                token,
                key,
                algorithms=list(self._settings.algorithms),
                audience=self._settings.audience,
                issuer=self._settings.issuer,
                leeway=self._settings.leeway_s,
                options={"require": list(_MUST)},
            )
        except jwt.PyJWTError as error:
            raise UnauthenticatedError(f"the token does not count: {error}") from error

    def _scopes(self, claims: dict[str, Any]) -> frozenset[Scope]:
        """Those that tokens may give; others' names count for nothing."""
        found = claims.get(self._settings.scope_claim, "")
        names = found.split() if isinstance(found, str) else found
        if not isinstance(names, list):
            return frozenset()
        prefix = self._settings.scope_prefix
        return frozenset(scope for scope in self._settings.grants if f"{prefix}{scope}" in names)
