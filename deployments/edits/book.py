"""Where edits are written down, by id: beside the voices, with the clip that each was made from."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass

from cache_store.keys import ClipKey
from deployments.edits.documents import Edit
from deployments.voices.documents import new_id
from deployments.voices.shelf import MAX_JSON_BYTES, Shelf
from pipeline.errors import MAX_FOUND, InputError, UnknownEditError

ROOT = "edits/v1"
MOST_BYTES = MAX_JSON_BYTES - 16 * 2**10  # of an edit before all is known of its clips and models
_OWNER_DIGITS = 24  # of the clip's owner: an edit's id says where it lies
_AGE_DIGITS = 32  # of when it was made, and chance
_ID = re.compile(rf"edit_([0-9a-f]{{{_OWNER_DIGITS}}})([0-9a-f]{{12}})[0-9a-f]{{20}}")
_SUFFIX = ".json"


@dataclass(frozen=True, slots=True)
class EditPage:
    """Some edits by id, the newest first. has_more: others follow the last one."""

    edits: Sequence[tuple[str, Edit]]
    has_more: bool


class EditBook:
    """Every edit of a shelf. Raises as Shelf does.

    An edit lies with the first of its clips; with the others lies a note that only names it, so
    that a removal of any of them finds it. keep_s: how long an edit is found.
    """

    def __init__(self, shelf: Shelf, keep_s: float) -> None:
        self._shelf = shelf
        self._keep_s = keep_s

    async def add(self, namespace: str, edit_id: str, edit: Edit) -> None:
        """Write it down."""
        home = _home(namespace, edit_id)
        notes = {_path(namespace, owner, edit_id) for owner in _owners(namespace, edit)} - {home}
        for path in notes:
            await self._shelf.publish(path, {})
        await self._shelf.publish(home, edit.written())

    async def find(self, namespace: str, edit_id: str) -> Edit:
        """Raises UnknownEditError."""
        document = None
        if self._is_kept(edit_id):
            document = await self._shelf.read(_home(namespace, edit_id), is_remembered=False)
        if document is None:
            raise UnknownEditError(
                f"no edit {edit_id[:MAX_FOUND]!a} is kept: it never was, is older than "
                f"{self._keep_s / 3_600:g} hours, or its voice was deleted; make it again with "
                "POST /v1/audio/edits"
            )
        return Edit.read(document)

    async def page(self, namespace: str, limit: int, after: str | None = None) -> EditPage:
        """The newest first. after: an id, of which the page holds what is older.

        Raises InputError for one that is no edit's.
        """
        if after is not None and not _ID.fullmatch(after):
            raise InputError(
                f"after: {after[:MAX_FOUND]!a} is no edit's id; send last_id of the page before",
                param="after",
            )
        paths = await self._shelf.paths(f"{ROOT}/{namespace}")
        homes = {_id_in(path): path for path in paths if _is_home(path)}
        older = [one for one in homes if after is None or _age(one) < _age(after)]
        kept = sorted(filter(self._is_kept, older), key=_age, reverse=True)
        found: list[tuple[str, Edit]] = []
        for start in range(0, len(kept), limit + 1):  # one removed meanwhile makes another round
            some = kept[start : start + limit + 1]
            read = (self._shelf.read(homes[one], is_remembered=False) for one in some)
            documents = zip(some, await asyncio.gather(*read), strict=True)
            found += [(one, Edit.read(document)) for one, document in documents if document]
            if len(found) > limit:
                break
        return EditPage(found[:limit], len(found) > limit)

    async def remove(self, namespace: str, edit_id: str, edit: Edit) -> None:
        """Remove it, then its notes: from the first moment on nothing finds it."""
        home = _home(namespace, edit_id)
        notes = {_path(namespace, owner, edit_id) for owner in _owners(namespace, edit)} - {home}
        for path in (home, *sorted(notes)):
            await self._shelf.delete(path)

    async def forget(self, namespace: str, clip_digest: str) -> None:
        """Remove every edit that was made from a clip."""
        owner = _owner(namespace, clip_digest)
        for name in await self._shelf.names(f"{ROOT}/{namespace}/{owner}"):
            edit_id = name.removesuffix(_SUFFIX)
            if _ID.fullmatch(edit_id):
                await self._shelf.delete(_home(namespace, edit_id))
            await self._shelf.delete(_path(namespace, owner, edit_id))

    async def sweep(self) -> int:
        """Remove what is too old; how many."""
        old = [path for path in await self._shelf.paths(ROOT) if not self._is_kept(_id_in(path))]
        for path in old:
            await self._shelf.delete(path)
        return len(old)

    def _is_kept(self, edit_id: str) -> bool:
        found = _ID.fullmatch(edit_id)
        return found is not None and time.time() - int(found[2], 16) / 1_000 <= self._keep_s


def new_edit_id(namespace: str, clip_digest: str) -> str:
    """`edit_…`: says with which clip it lies, and when it was made; cannot be guessed."""
    kind, _, rest = new_id("edit").partition("_")
    return f"{kind}_{_owner(namespace, clip_digest)}{rest}"


def _home(namespace: str, edit_id: str) -> str:
    found = _ID.fullmatch(edit_id)
    if found is None:
        raise ValueError(f"{edit_id!r} is no edit's id")
    return _path(namespace, found[1], edit_id)


def _path(namespace: str, owner: str, edit_id: str) -> str:
    return f"{ROOT}/{namespace}/{owner}/{edit_id}{_SUFFIX}"


def _is_home(path: str) -> bool:
    """Whether an edit lies there, not a note of one."""
    found = _ID.fullmatch(_id_in(path))
    return found is not None and path.split("/")[-2] == found[1]


def _age(edit_id: str) -> str:
    """Later ones sort later, whatever their clips."""
    return edit_id[-_AGE_DIGITS:]


def _id_in(path: str) -> str:
    return path.rpartition("/")[2].removesuffix(_SUFFIX)


def _owners(namespace: str, edit: Edit) -> set[str]:
    return {_owner(namespace, source.clip_digest) for source in edit.sources}


def _owner(namespace: str, clip_digest: str) -> str:
    return ClipKey(namespace, clip_digest).owner[:_OWNER_DIGITS]
