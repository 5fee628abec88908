"""`timbre jobs …`: long texts, dialogues, subtitles and tables, spoken behind other requests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deployments.commands.options import ApiKey, Url, at, connected, say, tell, voice_option
from pipeline.cli import AsJson, Exit, one_line_errors
from pipeline.errors import InputError

if TYPE_CHECKING:
    from deployments.client.service import Service

app = typer.Typer(
    no_args_is_help=True, help="Submit long work to a service, watch it, fetch what came of it."
)
PATH = "/v1/audio/jobs"
FAILED = frozenset({"failed", "cancelled"})

JobId = Annotated[str, typer.Argument(metavar="JOB", help="As job_…")]
Audio = Annotated[
    Path | None, typer.Option("--output", "-o", help="The audio's file; - is standard output.")
]


@app.command()
@one_line_errors
def submit(
    file: Annotated[
        Path,
        typer.Argument(help="Text, SRT, VTT, CSV, or a JSON body; - is standard input."),
    ],
    voice: Annotated[str | None, voice_option("Who speaks.")] = None,
    audio_format: Annotated[str | None, typer.Option("--format", help="Of the audio.")] = None,
    seed: Annotated[int | None, typer.Option(help="Same seed, same audio.")] = None,
    label: Annotated[str | None, typer.Option(help="Your own name for it.")] = None,
    webhook: Annotated[str | None, typer.Option(help="An address that is told of the end.")] = None,
    watch_it: Annotated[bool, typer.Option("--watch", help="Wait until it has ended.")] = False,
    output: Audio = None,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Have a file spoken; the id of the job is told. -o waits, and fetches the audio."""
    from deployments.client.clips import read_file

    fields = {
        "voice": voice,
        "response_format": audio_format,
        "seed": seed,
        "label": label,
        "webhook": webhook,
    }
    body = _body(read_file(file, "the file"), {k: v for k, v in fields.items() if v is not None})
    _check_output(output, as_json)
    with connected(url, api_key) as service:
        job = service.post(PATH, **body)
        if watch_it or output is not None:
            job = _watched(service, job)
            if output is not None and job["status"] not in FAILED:
                _fetched(service, at(PATH, job["id"], "audio"), output)
    _tell(job, as_json, is_aside=str(output) == "-")
    _end(job)


@app.command("list")
@one_line_errors
def list_jobs(
    limit: Annotated[int, typer.Option(min=1, max=100, help="Most to list.")] = 20,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """List jobs, the newest first."""
    with connected(url, api_key) as service:
        document = service.get(PATH, {"limit": limit})
    if as_json:
        say(json.dumps(document, ensure_ascii=False))
        return
    for job in document["data"]:
        say(_line(job))


@app.command()
@one_line_errors
def show(job: JobId, url: Url = None, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """Show how far a job is."""
    with connected(url, api_key) as service:
        found = service.get(at(PATH, job))
    _tell(found, as_json)


@app.command()
@one_line_errors
def watch(job: JobId, url: Url = None, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """Follow a job to its end; exit code 1 when it failed or was cancelled."""
    with connected(url, api_key) as service:
        ended = _watched(service, service.get(at(PATH, job)))
    _tell(ended, as_json)
    _end(ended)


@app.command()
@one_line_errors
def fetch(
    job: JobId,
    output: Audio = None,
    subtitles: Annotated[
        Path | None, typer.Option(help="A .srt or .vtt file: what is said when.")
    ] = None,
    manifest: Annotated[
        Path | None,
        typer.Option(help="A .json file, - is stdout: times, seeds, verdicts, digests."),
    ] = None,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Fetch what came of a job: its audio, its subtitles, its manifest."""
    if output is None and subtitles is None and manifest is None:
        raise InputError("say what to fetch: -o FILE, --subtitles FILE or --manifest FILE")
    for file in (output, manifest):
        _check_output(file, as_json)
    suffix = None if subtitles is None else subtitles.suffix.lower().removeprefix(".")
    if suffix not in {None, "srt", "vtt"}:
        raise InputError(f"--subtitles {subtitles}: its suffix is .srt or .vtt")
    wanted = {
        at(PATH, job, "audio"): output,
        f"{at(PATH, job, 'subtitles')}?format={suffix}": subtitles,
        at(PATH, job, "manifest"): manifest,
    }
    files: dict[str, int] = {}
    with connected(url, api_key) as service:
        for path, file in wanted.items():
            if file is not None:
                files[str(file)] = _fetched(service, path, file)
    if "-" not in files:
        told = ", ".join(f"{file} ({size:,} bytes)" for file, size in files.items())
        tell({"job": job, "files": files}, as_json, told)


@app.command()
@one_line_errors
def pause(job: JobId, url: Url = None, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """Begin no further segment."""
    _changed(job, "pause", url, api_key, as_json=as_json)


@app.command()
@one_line_errors
def resume(job: JobId, url: Url = None, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """Go on with a paused job, or with the failed segments of an ended one."""
    _changed(job, "resume", url, api_key, as_json=as_json)


@app.command()
@one_line_errors
def cancel(job: JobId, url: Url = None, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """Stop a job for good; what it has made stays until it expires."""
    _changed(job, "cancel", url, api_key, as_json=as_json)


@app.command("rm")
@one_line_errors
def remove(job: JobId, url: Url = None, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """Remove a job and all that it made."""
    with connected(url, api_key) as service:
        gone = service.delete(at(PATH, job))
    tell(gone, as_json, f"{job} is gone")


def _changed(job: str, verb: str, url: str | None, api_key: str | None, *, as_json: bool) -> None:
    with connected(url, api_key) as service:
        changed = service.post(at(PATH, job, verb))
    _tell(changed, as_json)


def _body(data: bytes, fields: dict[str, Any]) -> dict[str, Any]:
    """A JSON body with the options in it, or the file and the options as a form."""
    if data.lstrip().startswith(b"{"):
        try:
            return {"json": {**json.loads(data), **fields}}
        except ValueError as error:
            raise InputError(f"the file is no JSON: {error}") from error
    return {"data": fields, "files": {"file": ("job.txt", data, "text/plain")}}


def _watched(service: Service, job: dict[str, Any]) -> dict[str, Any]:
    from deployments.client.job_events import OVER, followed
    from deployments.commands.progress import counted

    with counted(job["id"], job["progress"]["segments"]) as showing:
        ended = job
        if job["status"] not in OVER:
            for now in followed(service, job["id"]):
                progress = now["progress"]
                eta_s = progress["eta_s"]
                left = "" if eta_s is None else f", {eta_s:.0f} s left"
                showing(progress["done"] + progress["failed"], f"{now['status']}{left}")
                ended = now
    return ended


def _fetched(service: Service, path: str, file: Path) -> int:
    """Bytes written."""
    from deployments.client.outlets import Outlet
    from deployments.commands.progress import incoming

    with service.streamed("GET", path) as reply:
        length = reply.headers.get("content-length")
        total = int(length) if length and not reply.headers.get("content-encoding") else None
        with incoming(str(file), total) as heard, Outlet(file, "").opened() as poured:
            for piece in reply.iter_bytes():
                poured.write(piece)
                heard(poured.n_bytes)
    return poured.n_bytes


def _check_output(output: Path | None, as_json: bool) -> None:
    if str(output) == "-" and as_json:
        raise InputError("--json goes to standard output, which -o - fills: leave one out")


def _tell(job: dict[str, Any], as_json: bool, *, is_aside: bool = False) -> None:
    if is_aside:
        typer.echo(_line(job), err=True)
    else:
        tell(job, as_json, _line(job))


def _line(job: dict[str, Any]) -> str:
    progress = job["progress"]
    label = f"  {job['label']}" if job["label"] else ""
    bad = f", {progress['bad']} bad" if progress["bad"] else ""
    lost = f", {progress['failed']} failed" if progress["failed"] else ""
    done = f"{progress['done']} of {progress['segments']} segments"
    return f"{job['id']}  {job['status']:<9}  {done}{bad}{lost}{label}"


def _end(job: dict[str, Any]) -> None:
    if job["status"] in FAILED:
        raise typer.Exit(Exit.NO)
