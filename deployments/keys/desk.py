"""Where keys are made, rotated and revoked: a journal each, in the cache's store, beside voices."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

from cache_store.keys import check_namespace
from deployments.access.caller import Scope
from deployments.keys.documents import KeyState, SecretState
from deployments.keys.secrets import digest_of, is_id, new_id, new_key
from deployments.voices.journal import Journals, last_numbers
from deployments.voices.shelf import Shelf
from pipeline.errors import (
    MAX_FOUND,
    CapacityError,
    InputError,
    StageError,
    StageUnavailableError,
    UnknownKeyError,
    UnsupportedError,
)

logger = logging.getLogger(__name__)

ROOT = "access/v1/keys"
KEEP_OLD_S = 86_400  # of a secret after a rotation, unless another time is asked for
MAX_LABEL_CHARS = 100
MAX_LIFE_S = 10 * 366 * 86_400
_TRIES = 20  # of a change that others keep overtaking
_AT_ONCE = 64
_KEPT_ENTRIES = 3  # of a journal, for those who read it meanwhile


@dataclass(frozen=True, slots=True)
class KeyOrder:
    """A key to be made. expires_s: from now, None for never."""

    tenant: str
    scopes: Collection[Scope]
    label: str = ""
    expires_s: int | None = None

    def check(self) -> None:
        """Raises InputError."""
        try:
            check_namespace(self.tenant)
        except ValueError as error:
            raise InputError(str(error).replace("namespace", "tenant"), param="tenant") from error
        if not self.scopes:
            raise InputError("a key needs a scope", param="scopes")
        if len(self.label) > MAX_LABEL_CHARS or not self.label.isprintable():
            raise InputError(
                f"the label must be {MAX_LABEL_CHARS} printable characters at most", param="label"
            )
        check_span(self.expires_s, "expires_in_s", least_s=1)


@dataclass(frozen=True, slots=True)
class Key:
    """A key as operators see it. secret: the whole key, only where it was just made."""

    id: str
    state: KeyState
    secret: str | None = field(default=None, repr=False)

    def shown(self, now_unix_s: float) -> dict[str, Any]:
        """As operators read it; without the digests of its secrets."""
        state = self.state
        status = "active"
        if state.is_over(now_unix_s):
            status = "expired" if state.revoked_unix_s is None else "revoked"
        ends = [one.ends_unix_s for one in state.secrets[1:] if one.ends_unix_s is not None]
        shown = {
            "id": self.id,
            "object": "api_key",
            "tenant": state.tenant,
            "scopes": list(state.scopes),
            "label": state.label,
            "status": status,
            "created_at": state.created_unix_s,
            "expires_at": state.expires_unix_s,
            "revoked_at": state.revoked_unix_s,
            "old_secret_ends_at": next((at for at in ends if at > now_unix_s), None),
        }
        return shown if self.secret is None else {**shown, "key": self.secret}


class KeyDesk:
    """Keys of every tenant. Use it from one event loop.

    Raises as Shelf does, and UnknownKeyError for an id that no key has.
    """

    def __init__(self, shelf: Shelf, max_keys: int) -> None:
        self._shelf = shelf
        self._journals = Journals(shelf)
        self._max_keys = max_keys
        self._damaged = set[tuple[str, int]]()  # entries that the log has told of

    async def create(self, order: KeyOrder) -> Key:
        """A new key, which works at every router at once."""
        order.check()
        if len(await self.numbers()) >= self._max_keys:
            raise CapacityError(f"{self._max_keys} keys are kept, as many as may (access.max_keys)")
        key_id, now_s = new_id(), _now_unix_s()
        key = new_key(key_id)
        state = KeyState(
            tenant=order.tenant,
            scopes=tuple(sorted(order.scopes)),
            label=order.label,
            secrets=(SecretState(digest=digest_of(key), created_unix_s=now_s),),
            created_unix_s=now_s,
            expires_unix_s=None if order.expires_s is None else now_s + order.expires_s,
        )
        if not await self._journals.append(directory_of(key_id), 0, state.written()):
            raise StageUnavailableError("the key could not be kept", detail="its id is taken")
        logger.info("key %s of %s was made: %s", key_id, order.tenant, ", ".join(state.scopes))
        return Key(key_id, state, key)

    async def rotate(self, key_id: str, keep_old_s: int = KEEP_OLD_S) -> Key:
        """Another secret; that of before is refused after so many seconds, 0 for at once."""
        check_span(keep_old_s, "keep_old_s", least_s=0)
        key = new_key(key_id)

        def rotated(state: KeyState) -> KeyState:
            now_s = _now_unix_s()
            if state.is_over(now_s):
                raise UnsupportedError("the key is revoked or expired: make another", param="id")
            return state.rotated(key, now_s, keep_old_s)

        state = await self._change(key_id, rotated)
        logger.info("key %s was rotated; its old secret ends in %d s", key_id, keep_old_s)
        return Key(key_id, state, key)

    async def end_old(self, key_id: str) -> Key:
        """Refuse the secrets of before the last rotation from now on."""

        def ended(state: KeyState) -> KeyState:
            return state.model_copy(update={"secrets": state.secrets[:1]})

        state = await self._change(key_id, ended)
        logger.info("old secrets of key %s were ended", key_id)
        return Key(key_id, state)

    async def revoke(self, key_id: str) -> Key:
        """Refuse the key for good."""

        def revoked(state: KeyState) -> KeyState:
            at_s = state.revoked_unix_s
            return state.model_copy(update={"revoked_unix_s": at_s or _now_unix_s()})

        state = await self._change(key_id, revoked)
        logger.info("key %s was revoked", key_id)
        return Key(key_id, state)

    async def get(self, key_id: str) -> Key:
        """One key."""
        entry = await self._journals.last(directory_of(key_id)) if is_id(key_id) else None
        if entry is None:
            raise _unknown(key_id)
        return Key(key_id, KeyState.read(entry.document))

    async def all(self, tenant: str | None = None) -> list[Key]:
        """Every key, or a tenant's, the oldest first; those that are damaged are left out."""
        numbers = await self.numbers()
        found = await self.states(numbers)
        keys = [Key(key_id, state) for key_id, state in found.items()]
        wanted = [key for key in keys if tenant in {None, key.state.tenant}]
        return sorted(wanted, key=lambda key: (key.state.created_unix_s, key.id))

    async def numbers(self) -> dict[str, int]:
        """Id → number of the newest entry of its journal: one listing."""
        last = last_numbers(await self._shelf.paths(ROOT))
        found = {directory.rpartition("/")[2]: number for directory, number in last.items()}
        return {key_id: number for key_id, number in found.items() if is_id(key_id)}

    async def states(self, numbers: dict[str, int]) -> dict[str, KeyState]:
        """These entries; without what is gone by now, or damaged, which the log tells."""
        wanted, found = list(numbers.items()), dict[str, KeyState]()
        for start in range(0, len(wanted), _AT_ONCE):
            some = wanted[start : start + _AT_ONCE]
            states = await asyncio.gather(*(self._state(*one) for one in some))
            found |= {
                key_id: state
                for (key_id, _), state in zip(some, states, strict=True)
                if state is not None
            }
        return found

    async def _state(self, key_id: str, number: int) -> KeyState | None:
        try:
            entry = await self._journals.at(directory_of(key_id), number)
            return None if entry is None else KeyState.read(entry.document)
        except StageUnavailableError:
            raise
        except (StageError, ValueError) as error:  # its digest is wrong, or its fields
            if (key_id, number) not in self._damaged:
                self._damaged.add((key_id, number))
                logger.warning("key %s is refused: its document is damaged: %s", key_id, error)
            return None

    async def _change(self, key_id: str, change: Callable[[KeyState], KeyState]) -> KeyState:
        for _ in range(_TRIES):
            if not is_id(key_id):
                raise _unknown(key_id)
            directory = directory_of(key_id)
            entry = await self._journals.last(directory)
            if entry is None:
                raise _unknown(key_id)
            state = change(KeyState.read(entry.document))
            if await self._journals.append(directory, entry.number + 1, state.written()):
                await self._journals.shorten(directory, entry.number + 1 - _KEPT_ENTRIES)
                return state
        raise CapacityError("the key is being changed by others; retry in a moment")


def directory_of(key_id: str) -> str:
    """Where a key's journal lies."""
    return f"{ROOT}/{key_id}"


def check_span(span_s: int | None, param: str, least_s: int) -> None:
    """Raises InputError for a span of time that is none."""
    if span_s is not None and not least_s <= span_s <= MAX_LIFE_S:
        raise InputError(f"{param} must be {least_s} to {MAX_LIFE_S} seconds", param=param)


def _now_unix_s() -> int:
    return int(time.time())


def _unknown(asked: str) -> UnknownKeyError:
    return UnknownKeyError(f"no key has the id {asked[:MAX_FOUND]!a}", param="id")
