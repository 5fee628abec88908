"""The `timbre` commands that need no service."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, ParamSpec, TypeVar

import typer

from pipeline.errors import TimbreError

EXIT_FAILED = 1  # the command ran; its result is negative
EXIT_ERROR = 2  # the command could not do its work

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
checkpoint = typer.Typer(no_args_is_help=True, help="Make, check and fetch checkpoints.")
app.add_typer(checkpoint, name="checkpoint")


def _say_version(is_asked: bool) -> None:
    if is_asked:
        typer.echo(f"timbre {version('timbre')}")
        raise typer.Exit


@app.callback()
def timbre(
    is_asked: Annotated[
        bool,
        typer.Option(
            "--version", callback=_say_version, is_eager=True, help="Say which version this is."
        ),
    ] = False,
) -> None:
    """Clone and edit voices with Step-Audio-EditX, on Ray Serve or in this process."""
    del is_asked  # the callback printed the version


def one_line_errors(command: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """A TimbreError becomes one line on standard error and exit code 2, without a traceback."""

    @functools.wraps(command)
    def guarded(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        try:
            return command(*args, **kwargs)
        except TimbreError as error:
            typer.echo(f"timbre: {error}", err=True)
            raise typer.Exit(EXIT_ERROR) from error

    return guarded


@app.command()
@one_line_errors
def parity(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Where the golden files are.")],
    device: Annotated[str, typer.Option(help="cpu or cuda")] = "cpu",
) -> None:
    """Compare this build with golden data of the reference; exit code 1 if it differs."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from pipeline.stepaudio.parity.run import run_parity

    console = Console()
    table = Table("file", "check", "largest error", "tolerance", "")
    with Console(stderr=True).status(f"comparing on {device}"):
        results = run_parity(directory, device)
    for file, check in results:
        error = check.message or ("differs" if math.isinf(check.error) else f"{check.error:.3g}")
        verdict = "[green]ok[/]" if check.ok else "[red]FAILED[/]"
        tolerance = f"{check.tolerance:g}" if check.tolerance else "exact"
        table.add_row(escape(file), escape(check.name), escape(error), tolerance, verdict)
    console.print(table)
    failed = sum(not check.ok for _, check in results)
    n_files = len({file for file, _ in results})
    console.print(f"{len(results)} checks of {n_files} files, {failed} failed")
    if failed:
        raise typer.Exit(EXIT_FAILED)


@checkpoint.command()
@one_line_errors
def init(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="An empty or new directory.")],
    size: Annotated[str, typer.Option(help="Which sizes to use.")] = "tiny",
    seed: Annotated[int, typer.Option(help="The same seed writes the same bytes.")] = 0,
) -> None:
    """Write a complete checkpoint with random weights in the official layout."""
    from pipeline.stepaudio.checkpoint.random_init import init_checkpoint

    layout = init_checkpoint(directory, size=size, seed=seed)
    typer.echo(f"wrote the {size} checkpoint (seed {seed}) to {layout.root}")


@checkpoint.command()
@one_line_errors
def verify(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A checkpoint directory.")],
    digests: Annotated[bool, typer.Option(help="Also hash the files.")] = True,
) -> None:
    """Verify a checkpoint; exit code 1 if it has problems."""
    from pipeline.stepaudio.checkpoint.progress import BarProgress
    from pipeline.stepaudio.checkpoint.verify import verify_checkpoint

    with BarProgress() as progress:
        report = verify_checkpoint(directory, digests=digests, progress=progress)
    for note in report.notes:
        typer.echo(f"note: {note}")
    for problem in report.problems:
        typer.echo(f"problem: {problem}")
    if not report.ok:
        plural = "s" if len(report.problems) > 1 else ""
        typer.echo(f"{directory}: {len(report.problems)} problem{plural}")
        raise typer.Exit(EXIT_FAILED)
    typer.echo(f"{directory} is sound (files, shapes; sizes and digests by {report.known_by})")


@checkpoint.command()
@one_line_errors
def download(
    name: Annotated[str, typer.Argument(help="step-audio-editx or step-audio-editx-awq")],
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit.")] = None,
    source: Annotated[str, typer.Option(help="huggingface or modelscope")] = "huggingface",
    directory: Annotated[
        Path | None, typer.Option("--dir", help="Where to put it; default: the user's cache.")
    ] = None,
    endpoint: Annotated[str | None, typer.Option(help="A mirror's address.")] = None,
) -> None:
    """Fetch a published checkpoint; run it again to go on after a cut connection."""
    from pipeline.errors import DownloadError
    from pipeline.stepaudio.checkpoint.download import download_checkpoint
    from pipeline.stepaudio.checkpoint.progress import BarProgress
    from pipeline.stepaudio.checkpoint.verify import verify_checkpoint

    with BarProgress() as progress:
        root = download_checkpoint(
            name,
            revision=revision,
            source=source,
            directory=directory,
            endpoint=endpoint,
            progress=progress,
        )
    report = verify_checkpoint(root, digests=False)  # digests were checked during the download
    if not report.ok:
        raise DownloadError(f"{root} is not sound: {'; '.join(report.problems)}")
    typer.echo(f"{name} is in {root}")
