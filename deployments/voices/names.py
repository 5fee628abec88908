"""Names of uploaded voices: which are allowed, which are the same. A name is never a path.

In the store a name is a digest. Two spellings that readers cannot tell apart must not be two
voices, least of all beside a built-in one.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

from pipeline.errors import MAX_FOUND, InputError

MAX_NAME_CHARS = 100
_SPACES = re.compile(r"\s+")
_ID_LIKE = re.compile(r"(?:voice|cons)_", re.IGNORECASE)
_SEPARATORS = frozenset("/\\\u2044\u2215\u29f8\u2571\u2216\u29f5")
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_SCRIPTS = (
    "LATIN", "CYRILLIC", "GREEK", "ARMENIAN", "HEBREW", "ARABIC", "CHEROKEE", "COPTIC", "LISU",
)  # fmt: skip
# Letters and digits that look like Latin ones, after case folding; what NFKC folds is not here.
_LOOKS_LIKE = str.maketrans(
    "01|авегкмнорстухіјѕһԁӏԛԝьԍпѵαβγεηικμνορτυχωցհոսօզքıɑɡłøđƅſɩ",
    "ollaberkmhopctyxijshdlqwbgnvabyenikmvoptuxwghnuoqpiaglodbsi",
)


@dataclass(frozen=True, slots=True)
class VoiceName:
    """A name that may be given to a voice. shown: as it was written. key: what makes it equal."""

    shown: str
    key: str


def name_key(name: str) -> str:
    """What makes names equal: one Unicode form, no case, single spaces."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    return _SPACES.sub(" ", folded).strip()


def checked_name(name: str, reserved: Iterable[str], *, param: str = "name") -> VoiceName:
    """The name as a voice may carry it. Raises InputError saying what is wrong with it.

    reserved: names that are taken by voices of the service, whatever they look like.
    """
    shown = _SPACES.sub(" ", unicodedata.normalize("NFC", name)).strip()
    found = ascii(shown[:MAX_FOUND])
    if not shown:
        raise InputError("a voice needs a name", param=param)
    if len(shown) > MAX_NAME_CHARS:
        raise InputError(
            f"the name has {len(shown)} characters, {MAX_NAME_CHARS} are allowed", param=param
        )
    key = name_key(name)
    for char in {*name.strip(), *key}:
        if char in _SEPARATORS or unicodedata.category(char) in _UNSEEN:
            raise InputError(
                f"the name {found} holds {char!a}: separators of paths and characters that "
                "cannot be seen are not allowed",
                param=param,
            )
    if not any(char.isalnum() for char in key):
        raise InputError(f"the name {found} needs a letter or a digit", param=param)
    if _ID_LIKE.match(key):
        raise InputError(
            f"the name {found} looks like an id: it must not begin with voice_ or cons_",
            param=param,
        )
    scripts = {script for char in key for script in _SCRIPTS if _is_of(char, script)}
    if len(scripts) > 1:
        raise InputError(
            f"the name {found} mixes letters of several scripts ({', '.join(sorted(scripts))})",
            param=param,
        )
    look = _look(key)
    for taken in reserved:
        if look == _look(name_key(taken)):
            raise InputError(
                f"the name {found} is, or looks like, {taken!r}, a voice of this service",
                param=param,
            )
    return VoiceName(shown, key)


def _look(key: str) -> str:
    """What a reader sees: without marks on letters, spaces and signs, in Latin letters."""
    plain = unicodedata.normalize("NFKD", key)
    return "".join(char for char in plain.translate(_LOOKS_LIKE) if char.isalnum())


def _is_of(char: str, script: str) -> bool:
    return char.isalpha() and unicodedata.name(char, "").startswith(script)
