"""Options that several commands have, and what they stand for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from deployments.client.service import Service

STATE_DIR = Path("out")
CPU_CONFIG = Path("serve_config.cpu.yaml")
HOME_URL = "http://127.0.0.1:8000"

Config = Annotated[
    Path, typer.Argument(help="A serve config for this machine; a file, else one that timbre ships")
]
StateDir = Annotated[Path, typer.Option(help="Where logs and the state of the service go")]
Url = Annotated[
    str | None,
    typer.Option(
        "--url", envvar="TIMBRE_URL", help="The service; else the one `timbre up` started here."
    ),
]
ApiKey = Annotated[
    str | None,
    typer.Option(
        "--api-key",
        envvar="TIMBRE_API_KEY",
        help="Its key; better in the variable: other users see command lines.",
    ),
]
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="A file, by whose suffix the format goes; - is stdout."),
]
Play = Annotated[bool, typer.Option("--play", help="Play it with this machine's player.")]


def _formats(incomplete: str) -> list[str]:
    from deployments.client.outlets import FORMATS

    return [name for name in FORMATS if name.startswith(incomplete)]


def _voices(incomplete: str) -> list[str]:
    """The built-in ones: a shell asks no service."""
    from pipeline.voice_list import load_voices

    return [name for name in load_voices() if name.startswith(incomplete)]


Format = Annotated[
    str | None,
    typer.Option(
        "--format",
        autocompletion=_formats,
        help="mp3, opus, aac, flac, wav, pcm, pcmu or pcma.",
    ),
]


def voice_option(about: str) -> Any:
    """`--voice`, which shells complete."""
    return typer.Option("--voice", "-v", autocompletion=_voices, help=about)


def connected(url: str | None, api_key: str | None) -> Service:
    """The service that the options name; without a URL the one that was started from here."""
    from deployments.client.service import Service

    return Service(url or _home(), api_key or None)


def at(path: str, *names: str) -> str:
    """The address below a path of what callers call by a name, whatever it holds."""
    return "/".join([path, *(quote(name, safe="@") for name in names)])


def _home() -> str:
    from deployments.local.service import LocalService

    running = LocalService(STATE_DIR).running()
    return HOME_URL if running is None else running.url


def watching() -> Console:
    """Standard error: progress is shown there, where a person is watching, and messages."""
    from rich.console import Console

    return Console(stderr=True)


def say(line: str) -> None:
    """One line on standard output, never wrapped, so that it can be copied."""
    typer.echo(line)


def tell(document: Any, as_json: bool, line: str) -> None:
    """A JSON document for programs, or a line for people."""
    typer.echo(json.dumps(document, ensure_ascii=False) if as_json else line)
