"""Reads TIMBRE_* variables: settings, misspelt settings, and variables of other programs.

The tree of settings is any pydantic model.
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
        "TIMBRE_URL",  # the service that commands ask
        "TIMBRE_API_KEY",  # with this key
        "TIMBRE_WEBHOOK_SECRET",  # what jobs.webhook_secret_env names unless it is told otherwise
        "TIMBRE_SHARED",  # golden data of the tests
    }
)
# Variables that Kubernetes sets in every pod for a Service whose name begins with "timbre".
SERVICE_LINK = re.compile(
    r"\w+_SERVICE_(HOST|PORT(_\w+)?)|\w+_PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?"
)
ALIKE = 0.75  # difflib ratio of a transposed or a missing letter; other words have less


def mistakes(tree: type[BaseModel], names: Iterable[str]) -> list[str]:
    """Variables that look like misspelt settings of `tree`, each with the likely name.

    A variable that merely shares our prefix is logged once per process; those of Kubernetes are
    ignored.
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
    """The setting that `path` resembles, if any."""
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
    """The valid keys where `path` leaves the tree; None when it leads to a setting."""
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
    """Whether any key is allowed below; pydantic then checks the value."""
    return getattr(annotation, "__origin__", None) is dict


def _keys(node: object) -> dict[str, Any]:
    if isinstance(node, type) and issubclass(node, BaseModel):
        return {key: field.annotation for key, field in node.model_fields.items()}
    return {}


def _paths(node: object) -> Iterator[tuple[str, ...]]:
    for key, below in _keys(node).items():
        yield (key,)
        yield from ((key, *path) for path in _paths(below))
