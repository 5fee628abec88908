"""Tells settings in the environment from mistakes, and both from what other programs put there.

Knows the tree of settings as a pydantic model, not what they do.
"""

from __future__ import annotations

import difflib
import functools
import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from pydantic import BaseModel

logger = logging.getLogger(__name__)

PREFIX = "TIMBRE_"
DELIMITER = "__"
OF_COMMANDS = frozenset(
    {
        "TIMBRE_HOME",  # where checkpoints are
        "TIMBRE_CONFIG",  # timbre cache
        "TIMBRE_CACHE_URL",  # timbre cache
        "TIMBRE_API_KEY",  # timbre cache warm
        "TIMBRE_SHARED",  # golden data of the tests
    }
)
# What Kubernetes tells every pod about a Service whose name begins with "timbre".
SERVICE_LINK = re.compile(
    r"\w+_SERVICE_(HOST|PORT(_\w+)?)|\w+_PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?"
)
ALIKE = 0.75  # of difflib: a transposed or a missing letter, not another word


def mistakes(tree: type[BaseModel], names: Iterable[str]) -> list[str]:
    """Variables that look like settings of `tree` and are none, each with what was meant.

    Of a variable that only shares our prefix there is one warning in a process, and none when
    Kubernetes has put it there.
    """
    found: list[str] = []
    for name in sorted(names):
        upper = name.upper()  # the case of a variable does not matter
        if not upper.startswith(PREFIX) or upper in OF_COMMANDS:
            continue
        path = upper.removeprefix(PREFIX).lower().split(DELIMITER)
        if (valid := _valid_instead(tree, path)) is None:
            continue
        if (mistake := _mistake(tree, path, valid)) is not None:
            found.append(f"{name}: {mistake}")
        elif not SERVICE_LINK.fullmatch(upper):
            _warn_of(name)
    return found


def _mistake(tree: type[BaseModel], path: Sequence[str], valid: Sequence[str]) -> str | None:
    """What `path` was to be, where it resembles a setting."""
    words = [word for part in path for word in part.split("_") if word]
    for known in _paths(tree):
        if words == "_".join(known).split("_"):
            return f"did you mean {PREFIX}{DELIMITER.join(known).upper()}?"
    section = path[0]
    if len(path) == 1:
        return None
    if section in tree.model_fields:
        return f"no such setting; valid here: {', '.join(valid)}" if valid else "no such setting"
    alike = difflib.get_close_matches(section, tree.model_fields, n=1, cutoff=ALIKE)
    return f"did you mean the section {alike[0]}?" if alike else None


@functools.cache
def _warn_of(name: str) -> None:
    logger.warning("%s in the environment is no setting of timbre's: ignored", name)


def _valid_instead(tree: type[BaseModel], path: Sequence[str]) -> list[str] | None:
    """The keys there are where `path` goes astray; None when it leads to a setting."""
    keys = _keys(tree)
    for depth, key in enumerate(path):
        if key not in keys:
            return sorted(keys)
        section, is_last = keys[key], depth == len(path) - 1
        if not is_last and _is_open(section):
            return None
        keys = _keys(section)
    return None


def _is_open(annotation: object) -> bool:
    """Whether any key goes below: pydantic then checks what it leads to."""
    return getattr(annotation, "__origin__", None) is dict


def _keys(node: object) -> dict[str, Any]:
    if isinstance(node, type) and issubclass(node, BaseModel):
        return {key: field.annotation for key, field in node.model_fields.items()}
    return {}


def _paths(node: object) -> Iterator[tuple[str, ...]]:
    for key, below in _keys(node).items():
        yield (key,)
        yield from ((key, *path) for path in _paths(below))
