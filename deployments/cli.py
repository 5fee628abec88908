"""The `timbre` command: the pipeline's commands, and those for a local service."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from cache_store.cli import app as cache_app
from deployments.capacity.command import plan
from deployments.keys.commands import app as keys_app
from deployments.marks.verifying import verify
from pipeline.cli import app, one_line_errors
from pipeline.errors import ConfigError, UnknownVoiceError

STATE_DIR = Path("out")
CPU_CONFIG = Path("serve_config.cpu.yaml")
console = Console()
app.add_typer(cache_app, name="cache", help="Look after the reference cache.")
app.add_typer(keys_app, name="keys", help="Make, list, rotate and revoke API keys.")
app.command()(verify)
app.command()(plan)


def _say(line: str) -> None:
    """Print one line, never wrapped, so that it can be copied."""
    console.print(line, soft_wrap=True, highlight=False)


Config = Annotated[
    Path, typer.Argument(help="A serve config for this machine; a file, else one that timbre ships")
]
StateDir = Annotated[Path, typer.Option(help="Where logs and the state of the service go")]


@app.command()
@one_line_errors
def say(
    text: Annotated[str, typer.Argument(help="What to speak.")],
    voice: Annotated[Path, typer.Option(help="The reference clip.")],
    voice_text: Annotated[str, typer.Option(help="What is said in the clip.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help=".wav .flac .mp3 .ogg .opus or .aac")
    ],
    model: Annotated[str, typer.Option(help="tiny, a downloaded name, or a directory")] = "tiny",
    seed: Annotated[int, typer.Option(help="Same seed, same audio.")] = 0,
    device: Annotated[str, typer.Option(help="cpu or cuda")] = "cpu",
    speed: Annotated[float, typer.Option(help="0.25 to 4; the pitch stays")] = 1.0,
    config: Annotated[
        Path, typer.Option(help="The serve config that says where voices are kept.")
    ] = CPU_CONFIG,
    stage_times: Annotated[
        bool, typer.Option("--stage-times", help="Say what took how long.")
    ] = False,
) -> None:
    """Speak a text in the voice of a clip, in this process. The voice is kept for the next time.

    It is marked as the service marks speech (`marks.enabled` of the config).
    """
    from deployments.config.serve_config import given_or_shipped, read_settings
    from deployments.say import say_to_file
    from pipeline.contracts import Sampling, SpeechRequest
    from pipeline.local import LocalPipeline
    from pipeline.timing import stage_line

    settings = read_settings(given_or_shipped(config))

    request = SpeechRequest(
        text=text, transcript=voice_text, sampling=Sampling(seed=seed), speed=speed
    )
    with Console(stderr=True).status("loading the model") as status:
        with LocalPipeline(model, device, marks=settings.marks.enabled) as pipeline:
            status.update("speaking")
            times = say_to_file(pipeline, settings, voice, request, output)
    _say(f"{output}: {times.audio_s / speed:.2f} s of audio")
    if stage_times:
        _say(stage_line(times))


@app.command()
@one_line_errors
def lint(config: Path) -> None:
    """Check a serve config: unknown keys, missing blocks, shares that overcommit a device."""
    from deployments.config.preflight import unguarded
    from deployments.config.serve_config import given_or_shipped, read_serve_config

    path = given_or_shipped(config)
    read = read_serve_config(path)
    if problems := unguarded(read.document, read.settings):
        raise ConfigError(f"{path.name}: " + "; ".join(problems))
    for request in read.resource_requests:
        resources = ", ".join(f"{name} {amount:g}" for name, amount in request.resources.items())
        _say(f"{request.name}: {request.replicas} × {resources}")
    _say(f"{path} is good")


@app.command()
@one_line_errors
def doctor(
    config: Config = CPU_CONFIG,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    gpu: Annotated[bool, typer.Option("--gpu", help="A GPU must be here.")] = False,
) -> None:
    """Look for what is wrong with this machine, a config, or who can reach what.

    Exit code 1 when anything must be done.
    """
    import json
    import os

    from deployments.doctor.examine import examine
    from deployments.doctor.findings import has_fault
    from deployments.doctor.site import look

    results = examine(look(config, os.environ, wants_gpu=gpu))
    if as_json:
        _say(json.dumps({"checks": [result.document for result in results]}, indent=2))
    else:
        for result in results:
            console.print(result.line, soft_wrap=True, highlight=False, markup=False)
    if has_fault(results):
        raise typer.Exit(1)


@app.command()
@one_line_errors
def up(config: Config = CPU_CONFIG, state_dir: StateDir = STATE_DIR) -> None:
    """Start the service in the background and wait until it is ready."""
    from deployments.config.serve_config import given_or_shipped
    from deployments.local.service import LocalService

    local = LocalService(state_dir)
    with local.sole():
        if (service := local.running()) is not None:
            _say(f"already running at {service.url} (timbre down stops it)")
            return
        with console.status("starting") as status:
            service = local.start(given_or_shipped(config), {}, status.update, _say)
    _say(f"ready at {service.url}, API docs at {service.url}/docs, log in {service.log}")


@app.command()
@one_line_errors
def down(state_dir: StateDir = STATE_DIR) -> None:
    """Stop the service that `timbre up` or `timbre demo` started."""
    from deployments.local.service import LocalService

    stopped = LocalService(state_dir).stop()
    _say("stopped" if stopped else "nothing was running")


@app.command()
@one_line_errors
def demo(config: Config = CPU_CONFIG, state_dir: StateDir = STATE_DIR, voice: str = "aria") -> None:
    """Start the service with an empty cache, clone a voice twice, and show what each take cost."""
    from deployments.config.serve_config import given_or_shipped
    from deployments.local.demo import speak_once, write_wav
    from deployments.local.service import LocalService
    from pipeline.voice_list import load_voices

    if voice not in (listed := load_voices()):
        raise UnknownVoiceError(f"no voice is named {voice!r}; voices: {', '.join(listed)}")

    local = LocalService(state_dir)
    cache_dir = (state_dir / "demo_cache").resolve()
    with local.sole(), console.status("starting") as status:
        if local.stop():
            _say("stopped the service of an earlier demo")
        shutil.rmtree(cache_dir, ignore_errors=True)
        environment = {"TIMBRE_CACHE__URL": str(cache_dir)}
        service = local.start(given_or_shipped(config), environment, status.update, _say)
        status.update("cloning a voice")
        first = speak_once(service.url, voice)
        status.update("cloning it again")
        second = speak_once(service.url, voice)
    write_wav(second, state_dir / "demo.wav")
    _say(f"first time   {first.line}")
    _say(f"second time  {second.line}")
    _say(f"audio        {state_dir / 'demo.wav'}")
    _say(f"API docs     {service.url}/docs")
    _say("stop with    make stop   (or: timbre down)")


__all__ = ["app"]
