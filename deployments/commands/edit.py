"""`timbre edit`: something spoken, changed step by step by a service or in this process."""

from __future__ import annotations

import base64
import json
import re
import time
from pathlib import Path
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
    tell,
    voice_option,
)
from pipeline.cli import AsJson, one_line_errors
from pipeline.errors import InputError, UnsupportedError

if TYPE_CHECKING:
    from deployments.client.outlets import Outlet

WORDED = ("clone", "paralinguistic")  # steps whose value is a text
_STEP = re.compile(r"\s*([A-Za-z]+)\s*(?::\s*([^*]*?))?\s*(?:\*\s*([0-9.]+))?\s*")


@one_line_errors
def edit(
    steps: Annotated[
        list[str],
        typer.Argument(
            metavar="STEP…",
            help="In turn: TYPE, TYPE:VALUE or TYPE:VALUE*PASSES, as in emotion:happy*2, denoise, "
            "clone:'What to say', paralinguistic:'His words, [Laughter] with tags'.",
        ),
    ],
    audio: Annotated[
        Path | None, typer.Option("--audio", "-a", help="What is edited: a file; - is stdin.")
    ] = None,
    voice: Annotated[str | None, voice_option("Or: a voice's name, whose clip it is.")] = None,
    origin: Annotated[
        str | None, typer.Option("--from", help="Or: an earlier edit, edit_… or edit_…@STEP.")
    ] = None,
    transcript: Annotated[str | None, typer.Option(help="What is said in the audio.")] = None,
    output: Output = None,
    play: Play = False,
    audio_format: Format = None,
    seed: Annotated[int | None, typer.Option(help="Same seed, same audio.")] = None,
    url: OfService = None,
    api_key: ApiKey = None,
    here: InProcess = False,
    model: Model = None,
    device: Device = None,
    config: OwnConfig = None,
    as_json: AsJson = False,
) -> None:
    """Edit audio, a voice's clip, or an earlier edit, in a chain of steps.

    By a service (--url, or TIMBRE_URL), else in this process. What was made is the last step's
    audio. The edit's id is told: --from goes on from it, at any of its steps, and so undoes later
    ones; an edit made here is found by the service whose config it is, and the other way about.
    `GET /v1/tags` lists types and values.
    """
    from deployments.client.outlets import outlet

    to = outlet(output, audio_format, play=play, as_json=as_json)
    given = {
        "steps": [step_of(step) for step in steps],
        **_source(audio, voice, origin),
        "transcript": transcript,
        "response_format": to.audio_format,
        "seed": seed,
        "stream": None if to.player else False,
    }
    body = {name: value for name, value in given.items() if value is not None}
    own = Here(model, device, config)
    asked = own.service(url, here=here)
    document = _edited_here(own, body, to) if asked is None else _asked(asked, api_key, body, to)
    line = f"{to.name}: {document.get('edit', 'not kept')}, {document['took_s']:.2f} s"
    if str(to.file) == "-":
        typer.echo(line, err=True)
    else:
        tell(document, as_json, line)


def _asked(url: str, api_key: str | None, body: dict[str, Any], to: Outlet) -> dict[str, Any]:
    """What a service made, for programs."""
    from deployments.client.speech import spoken
    from deployments.commands.progress import incoming

    with connected(url, api_key) as service, incoming("editing") as heard:
        return spoken(service, "/v1/audio/edits", body, to, heard).document(to)


def _edited_here(own: Here, body: dict[str, Any], to: Outlet) -> dict[str, Any]:
    """What this process made of a body of `/v1/audio/edits`, for programs; the same names."""
    from deployments.edit import edit_to_file
    from deployments.http.bodies.forms import Label
    from deployments.http.bodies.read import RawBody
    from deployments.http.dialects.edits import read_edit
    from deployments.http.model_names import ModelNames

    began_s = time.monotonic()
    settings = own.settings(to)
    raw = RawBody(json.dumps(body).encode(), Label("application/json"))
    asked = read_edit(raw, settings.limits, ModelNames(settings))
    edited, n_bytes = own.made(
        settings,
        to,
        "editing",
        lambda pipeline, file: edit_to_file(pipeline, settings, asked, file),
    )
    return {
        "output": None if to.file is None else str(to.file),
        "format": to.audio_format,
        "bytes": n_bytes,
        "took_s": round(time.monotonic() - began_s, 4),
        "audio_s": round(edited.audio_s, 3),
        "quality": edited.quality,
        **({} if edited.edit_id is None else {"edit": edited.edit_id}),
        "steps": ", ".join(edited.answered_by),
    }


def step_of(said: str) -> dict[str, Any]:
    """A step as the API takes it. Raises UnsupportedError for what is none."""
    kind, _, words = said.partition(":")
    if kind.strip().lower() in WORDED:
        return {"type": kind.strip().lower(), "text": words.strip()}
    found = _STEP.fullmatch(said)
    if found is None:
        raise UnsupportedError(
            f"{said!r} is no step: write TYPE, TYPE:VALUE or TYPE:VALUE*PASSES, as in "
            "emotion:happy*2"
        )
    step: dict[str, Any] = {"type": found[1].lower()}
    if found[2]:
        step["value"] = found[2]
    if found[3]:
        step["intensity"] = found[3]
    return step


def _source(audio: Path | None, voice: str | None, origin: str | None) -> dict[str, Any]:
    """What is edited. Raises InputError for several."""
    from deployments.client.clips import read_file

    given = {"--audio": audio, "--voice": voice, "--from": origin}
    found = [name for name, value in given.items() if value is not None]
    if len(found) > 1:
        raise InputError(f"one of {', '.join(given)} says what is edited; found {len(found)}")
    if audio is not None:
        return {"audio": base64.b64encode(read_file(audio, "the audio")).decode()}
    if origin is not None:
        edit_id, _, step = origin.partition("@")
        return {"from": {"edit": edit_id, **({"step": step} if step else {})}}
    return {} if voice is None else {"voice": voice}
