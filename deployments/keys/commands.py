"""`timbre keys …`: makes, lists, rotates and revokes keys, in the store of a serve config.

No service is needed; one that runs finds out within seconds. A key is printed once, by the command
that makes it, and alone on standard output, so that it can be piped.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from deployments.access.caller import Scope
from pipeline.cli import one_line_errors
from pipeline.errors import ConfigError, UnsupportedError

if TYPE_CHECKING:
    from deployments.keys.desk import Key, KeyDesk

app = typer.Typer(no_args_is_help=True)
T = TypeVar("T")

Config = Annotated[
    Path,
    typer.Option(envvar="TIMBRE_CONFIG", help="The serve config that says where keys are kept."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document")]
KeyId = Annotated[str, typer.Argument(help="The key's id, as `list` shows it")]
Span = Annotated[str, typer.Option(help="Such as 90d, 12h, 30m, 20s; never")]

CPU_CONFIG = Path("serve_config.cpu.yaml")
NEVER = "never"
_UNIT_S = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_SPAN = re.compile(r"(\d{1,6})([smhd])")


@app.command()
@one_line_errors
def create(
    tenant: Annotated[str, typer.Option(help="Whose it is: the namespace of all that they have")],
    scope: Annotated[list[Scope], typer.Option(help="What it is for; may be given again")],
    label: Annotated[str, typer.Option(help="What you call it")] = "",
    expires: Span = "90d",
    config: Config = CPU_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Make a key and print it: it is kept as a digest, and cannot be shown again."""
    from deployments.keys.desk import KeyOrder

    expires_s = None if expires == NEVER else _seconds(expires, "--expires")
    order = KeyOrder(tenant, frozenset(scope), label, expires_s)
    _show_new(_with_desk(config, lambda desk: desk.create(order)), as_json)


@app.command("list")
@one_line_errors
def list_keys(
    tenant: Annotated[str | None, typer.Option(help="Only this tenant's")] = None,
    config: Config = CPU_CONFIG,
    as_json: AsJson = False,
) -> None:
    """List keys, the oldest first; never their secrets."""
    keys = _with_desk(config, lambda desk: desk.all(tenant))
    if as_json:
        typer.echo(json.dumps([_row(key) for key in keys]))
        return
    for key in keys:
        row = _row(key)
        until = row["expires_at"]
        ends = (
            ""
            if until is None
            else f", until {datetime.fromtimestamp(until, UTC):%Y-%m-%d %H:%M} UTC"
        )
        typer.echo(
            f"{key.id}  {row['status']:<7}  {row['tenant']}  {','.join(row['scopes'])}{ends}"
            + (f"  {row['label']}" if row["label"] else "")
        )


@app.command()
@one_line_errors
def rotate(
    key_id: KeyId,
    keep_old: Annotated[
        str, typer.Option(help="How long the old secret counts yet; 0s: no more")
    ] = "1d",
    config: Config = CPU_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Give a key another secret and print it; the old one counts beside it for a while."""
    keep_s = _seconds(keep_old, "--keep-old")
    _show_new(_with_desk(config, lambda desk: desk.rotate(key_id, keep_s)), as_json)


@app.command()
@one_line_errors
def revoke(
    key_id: KeyId,
    old_secret: Annotated[
        bool, typer.Option("--old-secret", help="Only what a rotation left beside the new one")
    ] = False,
    config: Config = CPU_CONFIG,
    as_json: AsJson = False,
) -> None:
    """Refuse a key for good; routers do within 5 seconds."""
    key = _with_desk(
        config, lambda desk: desk.end_old(key_id) if old_secret else desk.revoke(key_id)
    )
    if as_json:
        typer.echo(json.dumps(_row(key)))
    else:
        typer.echo(f"{'the old secret of ' if old_secret else ''}{key_id} is refused from now on")


def _with_desk(config: Path, work: Callable[[KeyDesk], Awaitable[T]]) -> T:
    import asyncio

    from deployments.config.serve_config import given_or_shipped, read_settings
    from deployments.keys.desk import KeyDesk
    from deployments.voices.shelf import Shelf

    settings = read_settings(given_or_shipped(config))

    async def run() -> T:
        shelf = Shelf.open(settings.cache)
        if shelf is None:
            raise ConfigError(f"{config.name} keeps nothing: its cache.url is none")
        try:
            return await work(KeyDesk(shelf, settings.access.max_keys))
        finally:
            shelf.close()

    return asyncio.run(run())


def _row(key: Key) -> dict[str, Any]:
    return key.shown(time.time())


def _show_new(key: Key, as_json: bool) -> None:
    """The key alone on standard output; what else is to be known, on standard error."""
    if as_json:
        typer.echo(json.dumps(_row(key)))
        return
    typer.echo(f"key {key.id} of {key.state.tenant}; it is not shown again:", err=True)
    typer.echo(key.secret)


def _seconds(span: str, option: str) -> int:
    found = _SPAN.fullmatch(span.strip().lower())
    if found is None:
        raise UnsupportedError(f"{option} must be as 90d, 12h, 30m or 20s, found {span[:20]!r}")
    return int(found[1]) * _UNIT_S[found[2]]
