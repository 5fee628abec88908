"""Says whose a request is, by the key or token that came with it."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from deployments.access.caller import Caller, Scope
from deployments.config.access.access_settings import AccessSettings
from deployments.config.settings import Settings
from deployments.keys.admin_key import ADMIN_KEY_ID, AdminKey
from deployments.keys.book import POLL_S, REFUSAL, KeyBook
from deployments.keys.desk import KeyDesk
from deployments.voices.shelf import Shelf
from pipeline.errors import ConfigError, UnauthenticatedError

if TYPE_CHECKING:
    from deployments.keys.tokens import Tokens

logger = logging.getLogger(__name__)

_TOKEN_DOTS = 2  # of a JWT


class Authority:
    """The admin key, then tokens, then the book of keys. Use it from one event loop."""

    def __init__(
        self,
        admin: AdminKey,
        book: KeyBook,
        desk: KeyDesk,
        tokens: Tokens | None,
        namespace: str,
    ) -> None:
        """namespace: of who holds the admin key."""
        self._admin, self.book, self.desk = admin, book, desk
        self._tokens = tokens
        self._operator = Caller(namespace, ADMIN_KEY_ID, frozenset({Scope.ADMIN}))

    @classmethod
    def of(cls, settings: Settings, shelf: Shelf | None) -> Authority | None:
        """As the settings say; None where no keys are needed. Raises ConfigError."""
        access = settings.access
        if access.keys != "on":
            return None
        if shelf is None:  # without one nobody could be let in, and nobody kept out
            raise ConfigError("access.keys: on needs a store for the keys")
        desk = KeyDesk(shelf, access.max_keys)
        book = KeyBook(desk, access.outage_s)
        return cls(AdminKey(access), book, desk, _tokens(access), settings.cache.namespace)

    async def caller(self, credential: str) -> Caller:
        """Who holds it. Raises as KeyBook.caller and Tokens.caller do."""
        if self._admin.is_(credential):
            return self._operator
        if credential.count(".") != _TOKEN_DOTS:
            return await self.book.caller(credential)
        if self._tokens is None:
            raise UnauthenticatedError(REFUSAL)
        return await self._tokens.caller(credential)

    def known(self, credential: str) -> Caller | None:
        """Who holds it, of memory alone; for what needs no key, and tells one's holder more."""
        return self._operator if self._admin.is_(credential) else self.book.known(credential)

    async def follow(self) -> None:
        """Notice what others changed, until cancelled."""
        async with asyncio.TaskGroup() as loops:
            loops.create_task(self.book.follow())
            loops.create_task(self._follow_file())

    async def _follow_file(self) -> None:
        while True:
            await asyncio.sleep(POLL_S)
            await asyncio.to_thread(self._admin.follow)


def _tokens(access: AccessSettings) -> Tokens | None:
    """Raises ConfigError without the package that verifies them."""
    if access.oidc is None:
        return None
    try:
        from deployments.keys.tokens import Tokens
    except ImportError as error:
        raise ConfigError(
            f"access.oidc needs PyJWT with cryptography, pip install 'timbre[oidc]': {error}"
        ) from error
    return Tokens(access.oidc, access.outage_s)


def say_who_may(access: AccessSettings) -> None:
    """In the log of a router's start."""
    if access.keys == "on":
        beside = " and tokens of " + access.oidc.issuer if access.oidc is not None else ""
        logger.info("API keys are on%s", beside)
    elif access.keys == "off":
        logger.info("API keys are off: whoever is on this machine may do everything")
    else:
        logger.warning(
            "API keys are off on purpose: whoever reaches the port may do everything, as one tenant"
        )
