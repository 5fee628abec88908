"""hyperpyyaml files as plain data.

Such a file is written for a loader that instantiates classes from tags (`!new:`, `!name:`,
`!apply:`) and follows `!ref`. Here a tag names its class and nothing more.
"""

from __future__ import annotations

import re
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pipeline.errors import CheckpointError

CLASS_KEY = "!class"  # key of the class that a mapping's tag named


class _TaggedLoader(yaml.SafeLoader):
    """SafeLoader that turns tagged nodes into plain data and instantiates nothing."""


def _construct_tagged(loader: _TaggedLoader, suffix: str, node: yaml.Node) -> Any:
    kind, _, named = suffix.partition(":")
    if isinstance(node, yaml.MappingNode):
        mapping = loader.construct_mapping(node, deep=True)
        return {**mapping, CLASS_KEY: named} if kind in ("new", "name") else mapping
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    scalar = loader.construct_scalar(typing.cast("yaml.ScalarNode", node))
    if kind == "ref":
        return _Reference(str(scalar))
    return {CLASS_KEY: named} if kind in ("new", "name") else scalar


_TaggedLoader.add_multi_constructor("!", _construct_tagged)


@dataclass(frozen=True, slots=True)
class _Reference:
    """`!ref <section[key]>`, not resolved yet."""

    text: str

    def resolve(self, tree: Any) -> Any:
        """The value referred to.

        The text itself when it is more than a plain reference, such as arithmetic.
        """
        match = re.fullmatch(r"\s*<([^<>]+)>\s*", self.text)
        if match is None:
            return self.text
        value = tree
        for key in re.findall(r"[^\[\]]+", match.group(1)):
            if not isinstance(value, Mapping) or key not in value:
                raise CheckpointError(f"reference {self.text} points at nothing")
            value = value[key]
        return value


_MAX_REFERENCE_DEPTH = 16  # a chain longer than this is a loop


def read_tagged_yaml(file: Path) -> dict[str, Any]:
    """Read a hyperpyyaml file as plain dicts, lists and scalars.

    A tag's class name is kept under CLASS_KEY.
    Raises CheckpointError when the file is missing, is no YAML mapping, or has a bad reference.
    """
    try:
        text = file.read_text(encoding="utf-8")
        tree = yaml.load(text, Loader=_TaggedLoader)  # noqa: S506 — derived from SafeLoader
    except OSError as error:
        raise CheckpointError(f"{file} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{file} is not valid YAML: {error}") from error
    if not isinstance(tree, dict):
        raise CheckpointError(f"{file} is not a mapping of sections")
    try:
        return _resolve(tree, tree, 0)
    except CheckpointError as error:
        raise CheckpointError(f"{file}: {error.message}") from error


def _resolve(value: Any, tree: Any, depth: int) -> Any:
    if isinstance(value, _Reference):
        if depth > _MAX_REFERENCE_DEPTH:
            raise CheckpointError(f"reference {value.text} refers to itself")
        return _resolve(value.resolve(tree), tree, depth + 1)
    if isinstance(value, dict):
        return {key: _resolve(item, tree, depth) for key, item in value.items()}
    if isinstance(value, list):
        return [_resolve(item, tree, depth) for item in value]
    return value
