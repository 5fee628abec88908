"""What `say` and `edit` share: in this process unless a service is named, and what that takes."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from deployments.commands.options import CPU_CONFIG, watching
from pipeline.errors import UnsupportedError

if TYPE_CHECKING:
    from deployments.client.outlets import Outlet
    from deployments.config.settings import Settings
    from pipeline.local import LocalPipeline

Made = TypeVar("Made")

OfService = Annotated[
    str | None,
    typer.Option("--url", envvar="TIMBRE_URL", help="A service; else in this process."),
]
InProcess = Annotated[
    bool, typer.Option("--here", help="In this process, whatever TIMBRE_URL says.")
]
Model = Annotated[
    str | None, typer.Option(help="In this process: tiny, a downloaded name, a directory.")
]
Device = Annotated[str | None, typer.Option(help="In this process: cpu or cuda.")]
OwnConfig = Annotated[
    Path | None,
    typer.Option(help="In this process: the serve config that says where voices are kept."),
]


@dataclass(frozen=True, slots=True)
class Here:
    """What may be told of work in this process; None: as usual."""

    model: str | None
    device: str | None
    config: Path | None

    def service(self, url: str | None, *, here: bool) -> str | None:
        """The service to ask; None for this process.

        Raises UnsupportedError for what a service cannot be told.
        """
        if here or not url:
            return None
        stray = next(
            (one.name for one in fields(self) if getattr(self, one.name) is not None), None
        )
        if stray is not None:
            raise UnsupportedError(
                f"--{stray} is of speech in this process: leave it out, or say --here"
            )
        return url

    def settings(self, to: Outlet) -> Settings:
        """Of the service whose stores are used. Raises UnsupportedError for where audio goes."""
        from deployments.client.outlets import HEADLESS
        from deployments.config.serve_config import given_or_shipped, read_settings

        if to.audio_format in HEADLESS:
            raise UnsupportedError(f"{to.audio_format} is what services send; take wav")
        return read_settings(given_or_shipped(self.config or CPU_CONFIG))

    def made(
        self,
        settings: Settings,
        to: Outlet,
        doing: str,
        make: Callable[[LocalPipeline, Path], Made],
    ) -> tuple[Made, int]:
        """What `make` returns, with the bytes of the file that it made, poured where it is to go.

        doing: what a person reads meanwhile.
        """
        from pipeline.local import LocalPipeline

        with tempfile.TemporaryDirectory() as directory, watching().status("loading") as status:
            file = Path(directory) / f"speech.{to.audio_format}"
            marks = settings.marks.enabled
            with LocalPipeline(self.model or "tiny", self.device or "cpu", marks=marks) as pipeline:
                status.update(doing)
                made = make(pipeline, file)
            status.stop()
            with to.opened() as poured:
                poured.write(file.read_bytes())
        return made, poured.n_bytes
