"""The `timbre` commands that need no service, and how every command ends."""

from __future__ import annotations

import functools
import json
import math
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from enum import IntEnum
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ParamSpec, TypeVar

import typer

from pipeline.errors import (
    CapacityError,
    ForbiddenError,
    StageError,
    TimbreError,
    UnauthenticatedError,
)

if TYPE_CHECKING:
    from pipeline.stepaudio.checkpoint.verify import Report
    from pipeline.stepaudio.parity.golden import Check

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


class Exit(IntEnum):
    """How a command ended, as the shell sees it; MEANS says it in words."""

    DONE = 0
    NO = 1
    WRONG = 2
    KEY = 3
    FULL = 4
    AWAY = 5
    DEFECT = 70
    INTERRUPTED = 130


MEANS: Mapping[Exit, str] = {
    Exit.DONE: "it is done, or the answer is yes",
    Exit.NO: "it ran, and the answer is no: no mark found, a fault found, a job that failed, "
    "nothing that runs",
    Exit.WRONG: "it cannot be done as it was asked: an option, a file, a config, a field, a name "
    "that nobody has; the sentence says what is allowed",
    Exit.KEY: "the service wants an API key, or one that may do this",
    Exit.FULL: "the service is full, or a quota is used: later",
    Exit.AWAY: "the service, or a store, does not answer, or failed at work: the same may succeed",
    Exit.DEFECT: "a defect of timbre's own: report it",
    Exit.INTERRUPTED: "it was interrupted (Ctrl-C)",
}
# The first entry that an error is an instance of decides.
_ENDS: Mapping[type[TimbreError], Exit] = {
    UnauthenticatedError: Exit.KEY,
    ForbiddenError: Exit.KEY,
    CapacityError: Exit.FULL,
    StageError: Exit.AWAY,
    TimbreError: Exit.WRONG,
}

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
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


@contextmanager
def told_in_a_sentence() -> Iterator[None]:
    """Whatever goes wrong within becomes one line on standard error and an exit code of `Exit`."""
    try:
        yield
    except TimbreError as error:
        raise _ended(exit_of(error), error.message) from error
    except BrokenPipeError:  # whoever read standard output has left: typer ends quietly
        raise
    except OSError as error:
        of = f"{error.filename}: " if error.filename else ""
        raise _ended(Exit.WRONG, f"{of}{error.strerror or error}") from error
    except Exception as error:
        if isinstance(error, typer.Abort) or hasattr(error, "exit_code"):  # typer's own
            raise
        at = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(at.filename).name}:{at.lineno}"
        said = f"a defect of its own, {type(error).__name__} at {where}: {error}"
        raise _ended(Exit.DEFECT, " ".join(said.split())) from error


def one_line_errors(command: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Errors of the command are told in a sentence, without a traceback."""

    @functools.wraps(command)
    def guarded(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        with told_in_a_sentence():
            return command(*args, **kwargs)

    return guarded


def exit_of(error: TimbreError) -> Exit:
    """The code that a command ends with for it."""
    return next(code for kind, code in _ENDS.items() if isinstance(error, kind))


def _ended(code: Exit, sentence: str) -> typer.Exit:
    typer.echo(f"timbre: {sentence}", err=True)
    return typer.Exit(code)


@app.command()
@one_line_errors
def parity(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Where the golden files are.")],
    device: Annotated[str, typer.Option(help="cpu or cuda")] = "cpu",
    as_json: AsJson = False,
) -> None:
    """Compare this build with golden data of the reference; exit code 1 if it differs."""
    from rich.console import Console

    from pipeline.stepaudio.parity.run import run_parity

    with Console(stderr=True).status(f"comparing on {device}"):
        results = run_parity(directory, device)
    failed = sum(not check.ok for _, check in results)
    if as_json:
        rows = [{"file": file, **asdict(check), "ok": check.ok} for file, check in results]
        for row in rows:  # JSON has no infinity
            row["error"] = row["error"] if math.isfinite(row["error"]) else None
        typer.echo(json.dumps({"checks": rows, "failed": failed}))
    else:
        _show_parity(results, failed)
    if failed:
        raise typer.Exit(Exit.NO)


def _show_parity(results: Sequence[tuple[str, Check]], failed: int) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    table = Table("file", "check", "largest error", "tolerance", "")
    for file, check in results:
        error = check.message or ("differs" if math.isinf(check.error) else f"{check.error:.3g}")
        verdict = "[green]ok[/]" if check.ok else "[red]FAILED[/]"
        tolerance = f"{check.tolerance:g}" if check.tolerance else "exact"
        table.add_row(escape(file), escape(check.name), escape(error), tolerance, verdict)
    console.print(table)
    n_files = len({file for file, _ in results})
    console.print(f"{len(results)} checks of {n_files} files, {failed} failed")


@checkpoint.command()
@one_line_errors
def init(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="An empty or new directory.")],
    size: Annotated[str, typer.Option(help="Which sizes to use.")] = "tiny",
    seed: Annotated[int, typer.Option(help="The same seed writes the same bytes.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Write a complete checkpoint with random weights in the official layout."""
    from pipeline.stepaudio.checkpoint.random_init import init_checkpoint

    layout = init_checkpoint(directory, size=size, seed=seed)
    if as_json:
        typer.echo(json.dumps({"directory": str(layout.root), "size": size, "seed": seed}))
    else:
        typer.echo(f"wrote the {size} checkpoint (seed {seed}) to {layout.root}")


@checkpoint.command()
@one_line_errors
def verify(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A checkpoint directory.")],
    digests: Annotated[bool, typer.Option(help="Also hash the files.")] = True,
    as_json: AsJson = False,
) -> None:
    """Verify a checkpoint; exit code 1 if it has problems."""
    from pipeline.stepaudio.checkpoint.progress import BarProgress
    from pipeline.stepaudio.checkpoint.verify import verify_checkpoint

    with BarProgress() as progress:
        report = verify_checkpoint(directory, digests=digests, progress=progress)
    if as_json:
        typer.echo(json.dumps({**asdict(report), "root": str(report.root), "ok": report.ok}))
    else:
        _show_report(directory, report)
    if not report.ok:
        raise typer.Exit(Exit.NO)


def _show_report(directory: Path, report: Report) -> None:
    for note in report.notes:
        typer.echo(f"note: {note}")
    for problem in report.problems:
        typer.echo(f"problem: {problem}")
    if not report.ok:
        plural = "s" if len(report.problems) > 1 else ""
        typer.echo(f"{directory}: {len(report.problems)} problem{plural}")
        return
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
    as_json: AsJson = False,
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
    typer.echo(
        json.dumps({"name": name, "directory": str(root)}) if as_json else f"{name} is in {root}"
    )
