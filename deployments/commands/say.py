"""`timbre say`: speech of a service, or of a model in this process."""

from __future__ import annotations

import base64
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deployments.commands.options import (
    CPU_CONFIG,
    ApiKey,
    Format,
    Output,
    Play,
    connected,
    say,
    tell,
    voice_option,
    watching,
)
from pipeline.cli import AsJson, one_line_errors
from pipeline.errors import InputError, UnknownVoiceError, UnsupportedError

if TYPE_CHECKING:
    from deployments.client.outlets import Outlet
    from deployments.client.service import Service

MOST_WHOLE_CHARS = 4_096  # longer texts are poured into their file as they come


@dataclass(frozen=True, slots=True)
class Order:
    """What to say. voice: a name; clip: in its place, the bytes of one, with its words."""

    text: str
    voice: str | None
    clip: bytes | None
    clip_words: str | None
    seed: int | None
    speed: float


@dataclass(frozen=True, slots=True)
class Here:
    """What speech in this process may be told, beyond the order; None: as usual."""

    model: str | None
    device: str | None
    config: Path | None


@one_line_errors
def speech(
    text: Annotated[str, typer.Argument(help="What to speak; - reads standard input.")],
    voice: Annotated[str | None, voice_option("A voice's name, or the file of a clip.")] = None,
    voice_text: Annotated[str | None, typer.Option(help="What is said in the clip.")] = None,
    output: Output = None,
    play: Play = False,
    audio_format: Format = None,
    seed: Annotated[int | None, typer.Option(help="Same seed, same audio.")] = None,
    speed: Annotated[float, typer.Option(help="0.25 to 4; the pitch stays.")] = 1.0,
    stage_times: Annotated[
        bool, typer.Option("--stage-times", help="Say what took how long.")
    ] = False,
    url: Annotated[
        str | None,
        typer.Option("--url", envvar="TIMBRE_URL", help="A service; else in this process."),
    ] = None,
    api_key: ApiKey = None,
    here: Annotated[
        bool, typer.Option("--here", help="In this process, whatever TIMBRE_URL says.")
    ] = False,
    model: Annotated[
        str | None, typer.Option(help="In this process: tiny, a downloaded name, a directory.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="In this process: cpu or cuda.")] = None,
    config: Annotated[
        Path | None,
        typer.Option(help="In this process: the serve config that says where voices are kept."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Speak a text in a voice: by a service (--url, or TIMBRE_URL), else in this process.

    In this process the voice is kept for the next time, where the config keeps voices, and what is
    said is marked as the service marks it.
    """
    from deployments.client.clips import clip_file, read_file, read_words
    from deployments.client.outlets import outlet

    to = outlet(output, audio_format, play=play, as_json=as_json)
    file = None if voice is None else clip_file(voice)
    order = Order(
        read_words(text),
        None if file else voice,
        read_file(file, "the clip") if file else None,
        voice_text,
        seed,
        speed,
    )
    own = Here(model, device, config)
    if here or not url:
        _speak_here(order, own, to, stage_times=stage_times, as_json=as_json)
        return
    stray = next((f"--{name}" for name in Here.__slots__ if getattr(own, name) is not None), None)
    if stray is not None:
        raise UnsupportedError(f"{stray} is of speech in this process: leave it out, or say --here")
    with connected(url, api_key) as service:
        _speak_there(service, order, to, stage_times=stage_times, as_json=as_json)


def _speak_there(
    service: Service, order: Order, to: Outlet, *, stage_times: bool, as_json: bool
) -> None:
    from deployments.client.speech import spoken
    from deployments.commands.progress import incoming

    body: dict[str, Any] = {
        "input": order.text,
        "response_format": to.audio_format,
        "speed": order.speed,
    }
    if order.voice is not None:
        body["voice"] = order.voice
    if order.seed is not None:
        body["seed"] = order.seed
    if to.player is None and len(order.text) <= MOST_WHOLE_CHARS:
        body["stream"] = False  # the file has its length, and is signed where files are
    if order.clip is not None:
        body["step_audio"] = {
            "prompt_audio_base64": base64.b64encode(order.clip).decode(),
            **({"prompt_text": order.clip_words} if order.clip_words else {}),
        }
    with incoming("speaking") as heard:
        came = spoken(service, "/v1/audio/speech", body, to, heard)
    document = came.document(to)
    if stage_times:
        report = service.get(f"/v1/audio/speech/{document['request_id']}")
        document["stages"] = report["timbre"]["line"]
    _tell(document, to, as_json=as_json, said=f"{came.n_bytes:,} bytes in {came.took_s:.2f} s")


def _speak_here(order: Order, own: Here, to: Outlet, *, stage_times: bool, as_json: bool) -> None:
    from deployments.client.outlets import HEADLESS
    from deployments.config.serve_config import given_or_shipped, read_settings
    from deployments.say import say_to_file
    from pipeline.contracts import Sampling, SpeechRequest
    from pipeline.local import LocalPipeline
    from pipeline.timing import stage_line

    if to.audio_format in HEADLESS:
        raise UnsupportedError(f"{to.audio_format} is what services send; take wav")
    settings = read_settings(given_or_shipped(own.config or CPU_CONFIG))
    clip, words = _reference(order, settings.voices.default, settings.voices.aliases)
    request = SpeechRequest(
        text=order.text,
        transcript=words,
        sampling=Sampling(seed=order.seed or 0),
        speed=order.speed,
    )
    with tempfile.TemporaryDirectory() as directory, watching().status("loading") as status:
        made = Path(directory) / f"speech.{to.audio_format}"
        with LocalPipeline(
            own.model or "tiny", own.device or "cpu", marks=settings.marks.enabled
        ) as pipeline:
            status.update("speaking")
            times = say_to_file(pipeline, settings, clip, request, made)
        status.stop()
        with to.opened() as poured:
            poured.write(made.read_bytes())
    audio_s = times.audio_s / order.speed
    document = {
        "output": None if to.file is None else str(to.file),
        "format": to.audio_format,
        "bytes": poured.n_bytes,
        "audio_s": round(audio_s, 3),
    }
    if stage_times:
        document["stages"] = stage_line(times)
    _tell(document, to, as_json=as_json, said=f"{audio_s:.2f} s of audio")


def _reference(order: Order, default: str, aliases: dict[str, str]) -> tuple[bytes, str]:
    """The clip to speak by, and its words: the caller's, or those of a voice in the package."""
    from pipeline.voice_list import load_voices

    if order.clip is not None:
        if not order.clip_words:
            raise InputError("--voice-text is needed: what is said in the clip")
        return order.clip, order.clip_words
    asked = order.voice or default
    listed = load_voices()
    found = listed.get(aliases.get(asked.lower(), asked.lower()))
    if found is None:
        raise UnknownVoiceError(
            f"no voice is named {asked!r} in this process; voices: {', '.join(listed)}, or a file; "
            "uploaded voices speak by a service (--url)"
        )
    return found.path.read_bytes(), order.clip_words or found.transcript


def _tell(document: dict[str, Any], to: Outlet, *, as_json: bool, said: str) -> None:
    """On standard error where the audio fills standard output."""
    from deployments.client.outlets import STDIO

    stages = document.get("stages")
    if to.file == STDIO:
        if stages:
            typer.echo(stages, err=True)
        return
    tell(document, as_json, f"{to.name}: {said}")
    if stages and not as_json:
        say(stages)
