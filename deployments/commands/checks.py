"""The commands that look whether something is in order: lint, doctor, verify, bench."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deployments.commands.options import (
    CPU_CONFIG,
    ApiKey,
    Config,
    Url,
    connected,
    say,
    tell,
    voice_option,
    watching,
)
from pipeline.cli import AsJson, Exit, one_line_errors
from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from deployments.marks.checks import Checked


@one_line_errors
def lint(config: Config, as_json: AsJson = False) -> None:
    """Check a serve config: unknown keys, missing blocks, shares that overcommit a device."""
    from deployments.config.preflight import unguarded
    from deployments.config.serve_config import given_or_shipped, read_serve_config

    path = given_or_shipped(config)
    read = read_serve_config(path)
    if problems := unguarded(read.document, read.settings):
        raise ConfigError(f"{path.name}: " + "; ".join(problems))
    asked = read.resource_requests
    rows = [
        {"name": one.name, "replicas": one.replicas, "resources": dict(one.resources)}
        for one in asked
    ]
    lines = [
        f"{one.name}: {one.replicas} × "
        + ", ".join(f"{name} {amount:g}" for name, amount in one.resources.items())
        for one in asked
    ]
    tell({"config": str(path), "asks": rows}, as_json, "\n".join([*lines, f"{path} is good"]))


@one_line_errors
def doctor(
    config: Config = CPU_CONFIG,
    gpu: Annotated[bool, typer.Option("--gpu", help="A GPU must be here.")] = False,
    as_json: AsJson = False,
) -> None:
    """Look for what is wrong with this machine, a config, or who can reach what.

    Exit code 1 when anything must be done.
    """
    import os

    from deployments.doctor.examine import examine
    from deployments.doctor.findings import has_fault
    from deployments.doctor.site import look

    with watching().status("looking"):
        results = examine(look(config, os.environ, wants_gpu=gpu))
    if as_json:
        say(json.dumps({"checks": [result.document for result in results]}, indent=2))
    else:
        for result in results:
            say(result.line)
    if has_fault(results):
        raise typer.Exit(Exit.NO)


@one_line_errors
def verify(
    file: Annotated[
        Path, typer.Argument(help="Audio in any format that clips may have; - is standard input.")
    ],
    seconds: Annotated[float, typer.Option(help="How much of it to listen to, here.")] = 600.0,
    url: Annotated[
        str | None, typer.Option("--url", help="Have a service listen, in place of this process.")
    ] = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Say whether an audio file is marked as synthetic, by watermark or content credentials.

    Exit code 0 when a mark was found, 1 when none was, 2 when the file cannot be checked.
    """
    from deployments.client.clips import read_file

    data = read_file(file, "the audio")
    if url:
        with connected(url, api_key) as service, watching().status("listening"):
            report = service.post("/v1/content_provenance_checks", files={"file": data})
    else:
        with watching().status("listening"):
            report = _checked(data, seconds).report()
    tell(report, as_json, _said(file, report["results"]))
    if not any(result["outcome"] == "detected" for result in report["results"]):
        raise typer.Exit(Exit.NO)


def _checked(data: bytes, seconds: float) -> Checked:
    import asyncio

    from deployments.config.marks.mark_settings import MarkSettings
    from deployments.marks.checks import check
    from deployments.marks.search import MarkSearch

    return asyncio.run(check(data, MarkSearch(MarkSettings()), seconds))


def _said(file: Path, results: list[dict[str, Any]]) -> str:
    """By types: the watermark, then content credentials, where they are read."""
    words: list[str] = []
    for result in results:
        if result["type"] == "watermark":
            found = "watermark found" if result["outcome"] == "detected" else "no watermark found"
            heard = f"{result['marked_s']:.1f} of {result['checked_s']:.1f} s"
            words.append(f"{found} (score {result['score']:.2f}, {heard})")
        elif "validation_state" in result:
            words.append(f"content credentials: {result['validation_state'].replace('_', ' ')}")
    return f"{file}: {'; '.join(words)}"


@one_line_errors
def bench(
    calls: Annotated[int, typer.Option(min=1, max=10_000, help="In all.")] = 12,
    clients: Annotated[int, typer.Option(min=1, max=256, help="At a time.")] = 2,
    voice: Annotated[str, voice_option("Who speaks.")] = "aria",
    url: Url = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Measure a service for a moment: first audio, real-time factor, what runs dry.

    A closed loop of short texts in a known voice, none answered from finished speech. Real loads
    (open loops, new voices, hang-ups) are those of `python -m load_tests.load`, in a checkout; the
    numbers mean the same. Exit code 1 when a call failed.
    """
    from deployments.client.load import closed_loop, summary
    from deployments.commands.progress import counted

    with connected(url, api_key) as service, counted("calls", calls) as showing:
        n_done = 0

        def done() -> None:
            nonlocal n_done
            n_done += 1
            showing(n_done, "")

        service.get("/v1/models")  # nobody there, or no key: said once, not by every call
        made, lasts_s = closed_loop(service, voice, clients=clients, calls=calls, done=done)
    told = summary(made, lasts_s)
    tell({"url": service.url, "clients": clients, "voice": voice, **told}, as_json, _table(told))
    if told["failed"]:
        raise typer.Exit(Exit.NO)


def _table(told: dict[str, Any]) -> str:
    def row(name: str, value: float | None, unit: str) -> str:
        return f"{name:20} {'–' if value is None else f'{value:.3g}':>8} {unit}".rstrip()

    lines = [
        f"{told['calls']} calls in {told['lasts_s']:.1f} s: {told['answered']} answered, "
        f"{told['refused']} refused, {told['failed']} failed {'; '.join(told['faults'])}".rstrip()
    ]
    for key, name, unit in (
        ("first_audio_s", "first audio", "s"),
        ("whole_s", "whole answer", "s"),
        ("rtf", "RTF", ""),
    ):
        lines += [row(f"{name}, {share}", value, unit) for share, value in told[key].items()]
    lines.append(row("ran dry", told["dry_share"], "share"))
    lines.append(row("audio", told["audio_s_per_s"], "s/s"))
    return "\n".join(lines)
