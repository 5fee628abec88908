"""Which tests a file holds, by its text alone: documents and tables name them."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

from tests.conftest import ROOT


@cache
def names_in(path: str) -> frozenset[str]:
    """`function` and `Class::function`, of a file below the repository; none where it is not."""
    file: Path = ROOT / path
    if not file.is_file():
        return frozenset()
    tree = ast.parse(file.read_text(encoding="utf-8"))
    found = set(_functions(tree))
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}::{name}" for name in _functions(node)}
            for base in node.bases:  # a contract's tests run in every class that inherits it
                if isinstance(base, ast.Name):
                    inherited = {name for name in found if name.startswith(f"{base.id}::")}
                    found |= {name.replace(base.id, node.name, 1) for name in inherited}
    return frozenset(found)


def _functions(node: ast.Module | ast.ClassDef) -> list[str]:
    return [
        one.name
        for one in node.body
        if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef) and one.name.startswith("test_")
    ]
