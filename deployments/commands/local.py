"""The commands for a service on this machine: up, serve, status, logs, down, demo."""

from __future__ import annotations

import json
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deployments.commands.options import (
    CPU_CONFIG,
    STATE_DIR,
    ApiKey,
    Config,
    StateDir,
    Url,
    connected,
    say,
    tell,
    watching,
)
from pipeline.cli import AsJson, Exit, one_line_errors
from pipeline.errors import InputError, StageUnavailableError, UnknownVoiceError

if TYPE_CHECKING:
    from deployments.local.service import LocalService, RunningService


@one_line_errors
def up(
    config: Config = CPU_CONFIG, state_dir: StateDir = STATE_DIR, as_json: AsJson = False
) -> None:
    """Start the service in the background and wait until it is ready."""
    from deployments.config.serve_config import given_or_shipped
    from deployments.local.service import LocalService

    local = LocalService(state_dir)
    console = watching()
    with local.sole():
        if (service := local.running()) is not None:
            said = f"already running at {service.url} (timbre down stops it)"
            tell(_told(service), as_json, said)
            return
        notice = console.print if as_json else say
        with console.status("starting") as status:
            service = local.start(given_or_shipped(config), {}, status.update, notice)
    said = f"ready at {service.url}, API docs at {service.url}/docs, log in {service.log}"
    tell(_told(service), as_json, said)


@one_line_errors
def serve(
    config: Config = CPU_CONFIG, state_dir: StateDir = STATE_DIR, as_json: AsJson = False
) -> None:
    """Run the service in the foreground: its stages as they get ready, then its log.

    Ctrl-C, SIGTERM or a terminal that closes stops it. With --json each line is an event: stage,
    ready, ended.
    """
    from deployments.client.log_tail import further_lines
    from deployments.config.serve_config import given_or_shipped
    from deployments.local.service import LocalService

    began_s = time.monotonic()

    def event(kind: str, line: str, **facts: Any) -> None:
        took_s = round(time.monotonic() - began_s, 2)
        told = {"event": kind, "after_s": took_s, **facts}
        tell(told, as_json, f"{took_s:6.1f} s  {line}")

    def on_stage(name: str) -> None:
        event("stage", f"{name} is ready", stage=name)

    local = LocalService(state_dir)
    with _terminated_as_interrupted():
        try:
            with local.sole():
                if (service := local.running()) is not None:
                    raise InputError(f"already running at {service.url}; timbre down stops it")
                service = local.start(
                    given_or_shipped(config),
                    {},
                    lambda _: None,
                    lambda line: event("notice", line, notice=line),
                    on_stage,
                )
            with _stopped_behind(local):
                event("ready", f"ready at {service.url}, Ctrl-C stops it", **_told(service))
                at = local.log.stat().st_size
                for line in further_lines(local.log, lambda: local.running() is not None, at):
                    if not as_json:
                        say(line)
        except KeyboardInterrupt:
            event("ended", "stopped")
            return
    event("ended", "the service ended by itself")
    raise StageUnavailableError(f"the service ended by itself; its log is {local.log}")


@one_line_errors
def down(state_dir: StateDir = STATE_DIR, as_json: AsJson = False) -> None:
    """Stop the service that `timbre up` or `timbre demo` started."""
    from deployments.local.service import LocalService

    with watching().status("stopping"):
        stopped = LocalService(state_dir).stop()
    tell({"stopped": stopped}, as_json, "stopped" if stopped else "nothing was running")


@one_line_errors
def status(
    state_dir: StateDir = STATE_DIR,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Say whether a service runs, and which of its stages are ready; exit code 1 when one is not.

    Where keys are on, stages are told to a key with the scope admin.
    """
    from deployments.local.service import LocalService

    running = None if url else LocalService(state_dir).running()
    if running is None and not url:
        nothing = f"no service runs from {state_dir}; timbre up starts one, --url asks another"
        tell({"running": False, "ready": False}, as_json, nothing)
        raise typer.Exit(Exit.NO)
    with connected(running.url if running else url, api_key) as service:
        code, report = service.status("/readyz")
    is_ready = code == 200 and bool(report.get("ready"))  # noqa: PLR2004 - HTTP's
    stages = {name: stage.get("error", "ready") for name, stage in report.get("stages", {}).items()}
    document = {
        "running": True,
        "ready": is_ready,
        "url": service.url,
        "stages": stages,
        **({} if running is None else {"pid": running.pid, "log": running.log}),
    }
    line = f"{'ready' if is_ready else 'NOT ready'} at {service.url}"
    lines = [line, *(f"{name:12} {says}" for name, says in stages.items())]
    tell(document, as_json, "\n".join(lines))
    if not is_ready:
        raise typer.Exit(Exit.NO)


@one_line_errors
def logs(
    state_dir: StateDir = STATE_DIR,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="The last so many.")] = 50,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on while the service runs.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show the log of the service that was started here; with --json a document a line."""
    from deployments.client.log_tail import further_lines, last_lines
    from deployments.local.service import LocalService

    local = LocalService(state_dir)
    if not local.log.is_file():
        raise InputError(f"no service was started from {state_dir}: there is no {local.log}")
    at = local.log.stat().st_size
    for line in last_lines(local.log, lines):
        tell({"line": line}, as_json, line)
    if follow:
        for line in further_lines(local.log, lambda: local.running() is not None, at):
            tell({"line": line}, as_json, line)


@one_line_errors
def demo(
    config: Config = CPU_CONFIG,
    state_dir: StateDir = STATE_DIR,
    voice: Annotated[str, typer.Option(help="A built-in voice, whose clip is cloned.")] = "aria",
    as_json: AsJson = False,
) -> None:
    """Start the service with an empty cache, clone a voice twice, and show what each take cost."""
    from deployments.config.serve_config import given_or_shipped
    from deployments.local.demo import speak_once, write_wav
    from deployments.local.service import LocalService
    from pipeline.voice_list import load_voices

    if voice not in (listed := load_voices()):
        raise UnknownVoiceError(f"no voice is named {voice!r}; voices: {', '.join(listed)}")

    local = LocalService(state_dir)
    console = watching()
    notice = console.print if as_json else say
    cache_dir = (state_dir / "demo_cache").resolve()
    with local.sole(), console.status("starting") as shown:
        if local.stop():
            notice("stopped the service of an earlier demo")
        shutil.rmtree(cache_dir, ignore_errors=True)
        environment = {"TIMBRE_CACHE__URL": str(cache_dir)}
        service = local.start(given_or_shipped(config), environment, shown.update, notice)
        shown.update("cloning a voice")
        first = speak_once(service.url, voice)
        shown.update("cloning it again")
        second = speak_once(service.url, voice)
    audio = state_dir / "demo.wav"
    write_wav(second, audio)
    if as_json:
        takes = {"first": first.line, "second": second.line, "audio": str(audio)}
        say(json.dumps({**_told(service), **takes}))
        return
    say(f"first time   {first.line}")
    say(f"second time  {second.line}")
    say(f"audio        {audio}")
    say(f"API docs     {service.url}/docs")
    say("stop with    make stop   (or: timbre down)")


def _told(service: RunningService) -> dict[str, Any]:
    return {"url": service.url, "pid": service.pid, "log": service.log}


@contextmanager
def _stopped_behind(local: LocalService) -> Iterator[None]:
    """The service is stopped however the block ends: when nobody reads its lines any more, too."""
    try:
        yield
    except KeyboardInterrupt:
        with suppress(OSError):  # of a terminal that closed
            typer.echo("stopping", err=True)
        raise
    finally:
        local.stop()


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """SIGTERM and SIGHUP end the block as Ctrl-C does; SIGHUP not below nohup."""
    previous = {one: signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGHUP)}
    for one, handler in previous.items():
        if handler is not signal.SIG_IGN:
            signal.signal(one, signal.default_int_handler)
    try:
        yield
    finally:
        for one, handler in previous.items():
            signal.signal(one, handler)
