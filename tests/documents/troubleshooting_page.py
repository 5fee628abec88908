"""docs/troubleshooting.md: what `timbre doctor` looks for, what it says, and the remedy it names.

Read from the source of the checks themselves, so that a new check or remedy is in the page.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deployments.doctor.examine import CHECKS
from deployments.doctor.findings import Level
from tests.documents.cells import cell, table

_LEVELS = {"fault": Level.FAULT, "warning": Level.WARNING}


@dataclass(frozen=True, slots=True)
class Said:
    """What a check may say. found and remedy: Markdown, what is only known then in italics."""

    level: Level
    found: str
    remedy: str


def part() -> str:
    """A heading and a table for each check."""
    parts: list[str] = []
    for name, check in CHECKS.items():
        asks = " ".join((check.__doc__ or "").split())
        parts.append(f"## {name}\n\n{asks}\n")
        if rows := [(str(one.level), one.found, one.remedy) for one in said_by(check)]:
            parts.append(table(("", "it says", "what to do"), rows))
    return "\n".join(parts)


def said_by(check: Callable[..., Any]) -> list[Said]:
    """Every fault and warning in the source of a check and of what it calls beside it, in order."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(check)))
    module = vars(inspect.getmodule(check))
    reader = _Reader(tree, module)
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    found: list[Said] = []
    for call in sorted(calls, key=lambda one: (one.lineno, one.col_offset)):
        name = call.func.id if isinstance(call.func, ast.Name) else ""
        if name in _LEVELS:
            found.append(Said(_LEVELS[name], *(reader.text(part) for part in call.args)))
        elif inspect.isfunction(near := module.get(name)) and near.__module__ == check.__module__:
            found += said_by(near)
    return found


class _Reader:
    """Expressions of a function as Markdown: names that are set once are looked up."""

    def __init__(self, tree: ast.AST, module: Mapping[str, Any]) -> None:
        self._known = dict(_assigned(tree))
        self._module = module

    def text(self, node: ast.expr) -> str:
        """As a cell of a table."""
        return cell(self._shown(node))

    def _shown(self, node: ast.expr) -> str:
        match node:
            case ast.Constant(value=value):
                return str(value)
            case ast.JoinedStr(values=parts):
                return "".join(self._shown(part) for part in parts)
            case ast.FormattedValue(value=value):
                return self._value(value)
            case ast.BinOp(left=left, right=right):
                return self._shown(left) + self._shown(right)
        return self._value(node)

    def _value(self, node: ast.expr) -> str:
        """What a placeholder is known to be, else its name."""
        if isinstance(node, ast.Name):
            if (known := self._known.get(node.id)) is not None:
                if isinstance(known, ast.Constant | ast.JoinedStr):
                    return self._shown(known)
            elif isinstance(constant := self._module.get(node.id), str | int | float | Path):
                return f"{constant:g}" if isinstance(constant, float) else str(constant)
        return f"*{_name(node)}*"


def _assigned(tree: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    """What a name is set to; of one that is changed later, that change."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign | ast.AugAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for target in targets:
                if isinstance(target, ast.Name):
                    yield target.id, node.value


def _name(node: ast.expr) -> str:
    """The word of an expression that a reader can do most with."""
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name.strip("_").replace("_", " ")
        case ast.Call(args=[*_, last]):
            return _name(last)
        case ast.Call(func=called) | ast.Subscript(value=called):
            return _name(called)
        case ast.BinOp(left=left):
            return _name(left)
        case ast.GeneratorExp(elt=inner) | ast.IfExp(body=inner):
            return _name(inner)
    return "…"
