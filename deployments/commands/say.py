"""`timbre say`: speech of a service, or of a model in this process."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deployments.commands.in_process import (
    Device,
    Here,
    InProcess,
    Model,
    OfService,
    OwnConfig,
)
from deployments.commands.options import (
    ApiKey,
    Format,
    Output,
    Play,
    connected,
    say,
    tell,
    voice_option,
)
from pipeline.cli import AsJson, one_line_errors
from pipeline.errors import InputError, UnknownVoiceError

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
    url: OfService = None,
    api_key: ApiKey = None,
    here: InProcess = False,
    model: Model = None,
    device: Device = None,
    config: OwnConfig = None,
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
    asked = own.service(url, here=here)
    if asked is None:
        _speak_here(order, own, to, stage_times=stage_times, as_json=as_json)
        return
    with connected(asked, api_key) as service:
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
    from deployments.say import say_to_file
    from pipeline.contracts import Sampling, SpeechRequest
    from pipeline.timing import stage_line

    settings = own.settings(to)
    clip, words = _reference(order, settings.voices.default, settings.voices.aliases)
    request = SpeechRequest(
        text=order.text,
        transcript=words,
        sampling=Sampling(seed=order.seed or 0),
        speed=order.speed,
    )
    times, n_bytes = own.made(
        settings,
        to,
        "speaking",
        lambda pipeline, file: say_to_file(pipeline, settings, clip, request, file),
    )
    audio_s = times.audio_s / order.speed
    document = {
        "output": None if to.file is None else str(to.file),
        "format": to.audio_format,
        "bytes": n_bytes,
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
