"""Pydantic's errors about settings, as sentences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo


def explain(tree: type[BaseModel], error: ValidationError) -> str:
    """Location, mistake and meaning of the setting; for an unknown key, the valid ones."""
    lines: list[str] = []
    for problem in error.errors():
        location = problem["loc"]
        where = ".".join(str(part) for part in location) or "settings"
        if problem["type"] == "extra_forbidden":
            valid = ", ".join(sorted(_fields(_node(tree, location[:-1]))))
            lines.append(f"{where}: unknown key; valid here: {valid}")
        else:
            meaning = _meaning(tree, location)
            lines.append(f"{where}: {problem['msg']}" + (f" ({meaning})" if meaning else ""))
    return "invalid settings: " + "; ".join(lines)


def _meaning(tree: type[BaseModel], location: Sequence[int | str]) -> str:
    """The first sentence of a setting's description; empty without one."""
    if not location:
        return ""
    field = _fields(_node(tree, location[:-1])).get(str(location[-1]))
    described = (field.description or "") if field is not None else ""
    return " ".join(described.partition(".")[0].split())


def _node(tree: type[BaseModel], location: Sequence[int | str]) -> Any:
    """The annotation that a location leads to; None where it leaves the tree."""
    node: Any = tree
    for part in location:
        if get_origin(node) is dict:
            node = get_args(node)[1]
        elif get_origin(node) is tuple:
            node = get_args(node)[0]  # a list: every item is of one kind
        else:
            field = _fields(node).get(str(part))
            node = None if field is None else field.annotation
    return node


def _fields(node: Any) -> dict[str, FieldInfo]:
    is_section = isinstance(node, type) and issubclass(node, BaseModel)
    return node.model_fields if is_section else {}
