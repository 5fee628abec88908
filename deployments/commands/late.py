"""Groups of commands whose libraries take longer to load than all else: loaded in their use."""

from __future__ import annotations

from functools import cache
from typing import Any

from typer.core import TyperGroup

from pipeline.cli import told_in_a_sentence


@cache
def _cache_group() -> TyperGroup:
    import typer.main

    from cache_store.cli import app

    group = typer.main.get_command(app)
    if not isinstance(group, TyperGroup):
        raise TypeError("timbre cache is no group of commands")
    return group


class CacheGroup(TyperGroup):
    """`timbre cache …`; all but its name and help are in cache_store.cli."""

    @property
    def commands(self) -> Any:  # pyright: ignore[reportIncompatibleVariableOverride]
        """By name."""
        return _cache_group().commands

    @commands.setter
    def commands(self, _: Any) -> None:
        """The base sets none."""

    def invoke(self, ctx: Any) -> Any:
        """With the group's own telling of a store's errors."""
        with told_in_a_sentence():
            return _cache_group().invoke(ctx)
