"""`timbre voices …`: the voices of a service, built-in and uploaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from deployments.commands.options import ApiKey, Url, at, connected, say, tell, watching
from pipeline.cli import AsJson, one_line_errors
from pipeline.errors import InputError

app = typer.Typer(no_args_is_help=True, help="List, upload, change and remove a service's voices.")
PATH = "/v1/audio/voices"
CONSENTS = "/v1/audio/voice_consents"

Voice = Annotated[str, typer.Argument(help="A name or an id.")]
Clip = Annotated[Path, typer.Argument(help="The reference clip; - is standard input.")]
Words = Annotated[str | None, typer.Option("--transcript", help="What is said in the clip.")]
Language = Annotated[str | None, typer.Option(help="Of the clip: en, zh, en-US …")]


@app.command("list")
@one_line_errors
def list_voices(
    deleted: Annotated[bool, typer.Option("--deleted", help="Those that can be restored.")] = False,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """List voices: name, id, language."""
    with connected(url, api_key) as service:
        document = service.get(PATH, {"deleted": "true"} if deleted else None)
    if as_json:
        say(json.dumps(document, ensure_ascii=False))
        return
    for voice in document["data"]:
        say(f"{voice['name']:20} {voice['id']:40} {voice['language'] or ''}".rstrip())


@app.command()
@one_line_errors
def show(voice: Voice, url: Url = None, api_key: ApiKey = None, as_json: AsJson = False) -> None:
    """Show a voice: how good its clip is, and its versions."""
    with connected(url, api_key) as service:
        found = service.get(at(PATH, voice))
    _show(found, as_json)


@app.command()
@one_line_errors
def add(
    clip: Clip,
    name: Annotated[str, typer.Option(help="What requests may call it.")],
    transcript: Words = None,
    consent: Annotated[
        str | None,
        typer.Option(help="The words by which its owner agrees, or the id of a kept consent."),
    ] = None,
    recording: Annotated[
        Path | None, typer.Option(help="Or: a recording of the owner saying so; with --language.")
    ] = None,
    language: Language = None,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Upload a voice with somebody's consent. It is encoded and stored when this is done."""
    from deployments.client.clips import read_file

    data = read_file(clip, "the clip")
    fields = {"name": name, "ref_text": transcript, "consent": consent, "language": language}
    if recording is not None and consent is not None:
        raise InputError("one of --consent and --recording says who agreed; found both")
    with connected(url, api_key) as service, watching().status("encoding the voice"):
        if recording is not None:
            said = service.post(
                CONSENTS,
                data={"name": name, "language": language or ""},
                files={"recording": (recording.name, read_file(recording, "the recording"))},
            )
            fields["consent"] = said["id"]
        made = service.post(PATH, data=_given(fields), files={"audio_sample": (clip.name, data)})
    _show(made.get("voice", made), as_json)


@app.command()
@one_line_errors
def change(
    voice: Voice,
    name: Annotated[str | None, typer.Option(help="Another name.")] = None,
    clip: Annotated[Path | None, typer.Option(help="Another version's clip.")] = None,
    transcript: Words = None,
    language: Language = None,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Rename a voice, or keep another version of it; earlier ones stay (ID@VERSION)."""
    from deployments.client.clips import read_file

    fields = _given({"name": name, "ref_text": transcript, "language": language})
    if clip is None and not fields:
        raise InputError("say what changes: --name, --clip, --transcript or --language")
    files = {} if clip is None else {"audio_sample": (clip.name, read_file(clip, "the clip"))}
    with connected(url, api_key) as service, watching().status("encoding the voice"):
        body = {"data": fields, "files": files} if files else {"json": fields}
        changed = service.post(at(PATH, voice), **body)
    _show(changed, as_json)


@app.command("rm")
@one_line_errors
def remove(
    voice: Voice,
    purge: Annotated[bool, typer.Option("--purge", help="For good, at once.")] = False,
    url: Url = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Delete a voice. It can be restored for some days, unless it is purged."""
    with connected(url, api_key) as service:
        gone = service.delete(at(PATH, voice), {"purge": "true"} if purge else None)
    tell(gone, as_json, f"{gone['id']} is deleted" + ("" if purge else "; `restore` undoes it"))


@app.command()
@one_line_errors
def restore(
    voice: Annotated[str, typer.Argument(help="The id of a deleted voice.")],
    url: Url = None,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Bring a deleted voice back."""
    with connected(url, api_key) as service:
        back = service.post(at(PATH, voice, "restore"))
    _show(back, as_json)


def _show(voice: dict[str, Any], as_json: bool) -> None:
    """A voice in full, with what is to be done about its clip."""
    if as_json:
        say(json.dumps(voice, ensure_ascii=False))
        return
    say(f"{voice['name']}  {voice['id']}")
    quality = voice.get("quality") or {}
    if "duration_s" in quality:
        say(f"{quality['duration_s']:.1f} s, {quality['snr_db']:.0f} dB over the noise")
    for finding in quality.get("findings", ()):
        say(f"{finding['code']}: {finding['message']}. {finding['advice']}")
    for version in voice.get("versions", ()):
        say(f"version {version['version']}: {version['ref_text'] or 'no transcript'}")


def _given(fields: dict[str, str | None]) -> dict[str, str]:
    return {name: value for name, value in fields.items() if value is not None}
