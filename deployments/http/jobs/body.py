"""The body of `/v1/audio/jobs`: JSON, a form, or the text itself: plain, subtitles, or a table.

It is a dialect of ours alone, so unknown fields are refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AliasChoices, BeforeValidator, ConfigDict, Field, ValidationError

from deployments.config.settings import Settings
from deployments.edits.documents import EditStep
from deployments.http.bodies.fields import (
    ITEMS,
    NAME,
    VOICE,
    Lenient,
    Seed,
    Speed,
    Temperature,
    TopK,
    TopP,
    explain_validation,
)
from deployments.http.bodies.forms import URLENCODED, is_multipart, read_urlencoded
from deployments.http.bodies.json_text import read_json, read_text
from deployments.http.bodies.read import PAYLOAD, RawBody, is_json, read_parts
from deployments.http.dialects.edit_steps import MAX_STEPS, StepBody, checked_step
from deployments.http.dialects.openai import AudioFormat
from deployments.http.dialects.reading_fields import ReadingFields, asked_reading
from deployments.http.model_names import ModelNames
from deployments.jobs.documents import Cue
from deployments.jobs.plan import Ask, JobOrder
from deployments.jobs.subtitles import is_subtitles, read_subtitles
from deployments.jobs.tables import is_table, read_table
from pipeline.audio.encode import check_rate
from pipeline.contracts import BASE_VARIANT, Mode
from pipeline.errors import MAX_FOUND, InputError, TextError, UnsupportedError

LONGEST_PAUSE_S = 60.0
TURN_PAUSE_S = 0.3  # between the inputs of a job, beside the silence that answers end with
SUBTITLE_KINDS = frozenset({"application/x-subrip", "text/srt", "application/srt", "text/vtt"})
TABLE_KINDS = frozenset({"text/csv", "application/csv", "text/tab-separated-values"})
SOURCES = ("input", "inputs", "subtitles", "table")
_STEP = re.compile(r"\s*([a-z]+)\s*(?:[:=]\s*([^*]*?))?\s*(?:[*]\s*([0-9]))?\s*", re.IGNORECASE)


def _steps(value: Any) -> Any:
    """`emotion:happy; speed:faster * 2` as a list of steps."""
    if not isinstance(value, str) or value.lstrip().startswith(("[", "{")):
        return value
    steps: list[dict[str, str]] = []
    for one in value.split(";"):
        if not one.strip():
            continue
        found = _STEP.fullmatch(" ".join(one.split()))  # linear without runs of blanks
        if found is None:
            return value
        step = {"type": found[1], "value": found[2] or "", "intensity": found[3] or ""}
        steps.append({name: said for name, said in step.items() if said})
    return steps


EDITS = Annotated[list[StepBody], Field(max_length=MAX_STEPS), ITEMS, BeforeValidator(_steps)]
Pause = Annotated[float, Field(ge=0.0, le=LONGEST_PAUSE_S)]


class JobInput(Lenient):
    """One text in one voice."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)
    keeps_empty = frozenset({"text", "input"})

    text: str = Field(
        validation_alias=AliasChoices("text", "input"),
        description="What to say; a long one is cut into sentences",
    )
    voice: Annotated[str, VOICE] | None = Field(
        None,
        validation_alias=AliasChoices("voice", "voice_id", "speaker"),
        description="A name or id from /v1/audio/voices; the body's when left out",
    )
    edits: EDITS | None = Field(
        None, description="Steps as in /v1/audio/edits, or short: `emotion:happy; speed:faster`"
    )
    speed: Speed | None = None
    seed: Seed = None
    pause_s: Pause | None = Field(None, description="Silence behind it")


class JobBody(ReadingFields):
    """`POST /v1/audio/jobs`: one of `input`, `inputs`, `subtitles` and `table`."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)
    keeps_empty = frozenset({"input", "subtitles", "table", "srt", "vtt", "csv"})

    input: str | None = Field(None, description="A long text, in one voice")
    inputs: Annotated[list[JobInput], ITEMS] | None = Field(
        None,
        validation_alias=AliasChoices("inputs", "rows", "segments"),
        description="Texts in turn, each in its own voice: a dialogue, or thousands of segments",
    )
    subtitles: str | None = Field(
        None,
        validation_alias=AliasChoices("subtitles", "srt", "vtt"),
        description="SubRip or WebVTT: each cue is spoken within its time",
    )
    table: str | None = Field(
        None,
        validation_alias=AliasChoices("table", "csv"),
        description="Comma-separated values: text, voice, edits, speed, seed, pause_s",
    )
    voice: Annotated[str, VOICE] | None = Field(
        None, validation_alias=AliasChoices("voice", "speaker")
    )
    voices: dict[str, str] | None = Field(
        None, description="Voices by the speakers that WebVTT's cues name"
    )
    model: str | None = Field(None, description="A name from /v1/models")
    model_variant: Annotated[str, NAME] = Field(
        BASE_VARIANT, description="Which deployed language model speaks"
    )
    response_format: Annotated[AudioFormat, NAME] = Field(
        "mp3", description="Of the one file, and of parts"
    )
    sample_rate: int | None = Field(None, description="Hz, 8,000 to 48,000")
    speed: Speed = 1.0
    seed: Seed = Field(None, description="Every segment's follows from it; drawn when left out")
    temperature: Temperature | None = None
    top_p: TopP | None = None
    top_k: TopK = None
    pause_s: Pause | None = Field(None, description="Silence behind each of `inputs` or rows")
    normalize_loudness: bool = Field(True, description="Bring the one file to `target_lufs`")
    target_lufs: Annotated[float, Field(ge=-40.0, le=-5.0)] | None = Field(
        None, description="Loudness of the one file, LUFS; `jobs.target_lufs` when left out"
    )
    webhook: Annotated[str, Field(max_length=2_000)] | None = Field(
        None,
        validation_alias=AliasChoices("webhook", "webhook_url"),
        description="Address that is told of the end; its host must be allowed by the service",
    )
    label: Annotated[str, Field(max_length=200)] | None = Field(
        None, description="The caller's own name for the job"
    )
    mark: bool | None = Field(None, description="As of /v1/audio/speech")


class AgainBody(Lenient):
    """`POST /v1/audio/jobs/{id}/segments/{segment}/regenerate`."""

    model_config = ConfigDict(extra="forbid")

    seed: Seed = Field(None, description="Another one than before when left out")


@dataclass(frozen=True, slots=True)
class Defaults:
    """What the address of a request says beside a body that is the text itself."""

    voice: str | None = None
    response_format: str | None = None


def read_job(raw: RawBody, defaults: Defaults, settings: Settings, names: ModelNames) -> JobOrder:
    """A body as an order. Raises InputError naming the field, what was found, what is allowed."""
    tree = _tree(raw)
    if isinstance(tree, dict):
        said = {"voice": defaults.voice, "response_format": defaults.response_format}
        tree = {**{key: value for key, value in said.items() if value}, **tree}
    body = _validated(tree)
    if body.model is not None:
        names.check(body.model)
    check_rate(body.response_format, body.sample_rate, "sample_rate")
    whole = _source(body)
    target = settings.jobs.target_lufs if body.target_lufs is None else body.target_lufs
    return JobOrder(
        asks=_asks(body, whole, settings),
        whole=whole,
        response_format=body.response_format,
        sample_rate_hz=body.sample_rate,
        target_lufs=target if body.normalize_loudness else None,
        seed=body.seed,
        temperature=body.temperature,
        top_p=body.top_p,
        top_k=body.top_k,
        variant=names.variant(body.model_variant, "model_variant"),
        webhook=body.webhook,
        label=body.label,
        is_marked=body.mark is not False,
        reading=asked_reading(body),
    )


def read_again(raw: RawBody) -> AgainBody:
    """A body that may be empty."""
    tree = read_json(raw.content, raw.label.charset) if raw.content.strip() else {}
    try:
        return AgainBody.model_validate(tree)
    except ValidationError as error:
        message, param = explain_validation(error.errors(include_url=False), ("seed",))
        raise InputError(message, param=param) from error


def _tree(raw: RawBody) -> Any:
    if not raw.content.strip():
        raise InputError(
            f"the body is empty: send JSON with {', '.join(SOURCES)}, or a text, subtitles "
            "(SRT, VTT) or a table (CSV) itself",
            param="body",
        )
    if is_json(raw.content):
        return read_json(raw.content, raw.label.charset)
    if is_multipart(raw.content, raw.label):
        return _form({part.name: part.text for part in read_parts(raw)})
    if raw.label.kind == URLENCODED and b"=" in raw.content:
        fields = {part.name: part.text for part in read_urlencoded(raw.content, raw.label)}
        if fields.keys() & {*JobBody.model_fields, "rows", "srt", "vtt", "csv"}:
            return _form(fields)
    text = read_text(raw.content, raw.label.charset)
    if raw.label.kind in SUBTITLE_KINDS:
        return {"subtitles": text}
    if raw.label.kind in TABLE_KINDS:
        return {"table": text}
    return _sniffed(text)


def _form(fields: Mapping[str, str]) -> Any:
    if PAYLOAD in fields:
        tree = read_json(fields[PAYLOAD].encode("utf-8", "surrogatepass"))
        rest = {key: value for key, value in fields.items() if key != PAYLOAD}
        if not isinstance(tree, dict):
            raise InputError("payload must hold a JSON object", param=PAYLOAD)
        fields = {**tree, **rest}
    tree = dict(fields)
    file = tree.pop("file", None)
    return tree if file is None else {**_sniffed(file), **tree}


def _sniffed(text: str) -> dict[str, Any]:
    """A text by what it is."""
    if is_subtitles(text):
        return {"subtitles": text}
    return {"table": text} if is_table(text) else {"input": text}


def _validated(tree: Any) -> JobBody:
    try:
        return JobBody.model_validate(tree)
    except ValidationError as error:
        found = error.errors(include_url=False)
        place = found[0]["loc"]
        model = JobBody
        if "edits" in place:
            model = StepBody
        elif place and place[0] in {"inputs", "rows", "segments"}:
            model = JobInput
        message, param = explain_validation(found, tuple(model.model_fields))
        raise InputError(message, param=param) from error


def _source(body: JobBody) -> str:
    """Which field holds what is to be spoken. Raises InputError for none, or several."""
    found = [name for name in SOURCES if getattr(body, name) is not None]
    if len(found) > 1:
        raise InputError(
            f"one of {', '.join(SOURCES)} says what to speak, found {' and '.join(found)}",
            param=found[1],
        )
    if not found:
        raise InputError(
            f"one of {', '.join(SOURCES)} is required: what to speak", param=SOURCES[0]
        )
    return found[0]


def _asks(body: JobBody, whole: str, settings: Settings) -> Sequence[Ask]:
    if body.subtitles is not None:
        return _cues(body, body.subtitles)
    if body.table is not None:
        rows = read_table(body.table, "table")
        return _rows(
            [_table_row(row, number) for number, row in enumerate(rows)], body, whole, settings
        )
    if body.inputs is not None:
        return _rows(body.inputs, body, whole, settings)
    return [Ask(body.input or "", body.voice, speed=body.speed, text_field="input")]


def _rows(rows: Sequence[JobInput], body: JobBody, whole: str, settings: Settings) -> Sequence[Ask]:
    if not rows:
        raise TextError(f"{whole} is empty: at least one text is needed", param=whole)
    asks: list[Ask] = []
    for number, row in enumerate(rows):
        at = f"{whole}.{number}."
        pause_s = next(one for one in (row.pause_s, body.pause_s, TURN_PAUSE_S) if one is not None)
        asks.append(
            Ask(
                text=row.text,
                voice=row.voice or body.voice,
                edits=_edits(row.edits or (), f"{at}edits.", settings),
                seed=row.seed,
                speed=body.speed if row.speed is None else row.speed,
                pause_s=pause_s if number + 1 < len(rows) else 0.0,
                at=at,
            )
        )
    return asks


def _table_row(row: Mapping[str, str], number: int) -> JobInput:
    try:
        return JobInput.model_validate(dict(row))
    except ValidationError as error:
        found = error.errors(include_url=False)
        message, param = explain_validation(found, tuple(JobInput.model_fields))
        raise InputError(
            f"table: row {number}, {message}"[:400], param=f"table.{number}.{param}"
        ) from error


def _edits(steps: Sequence[StepBody], at: str, settings: Settings) -> tuple[EditStep, ...]:
    made: list[EditStep] = []
    for index, step in enumerate(steps):
        if step.type is Mode.CLONE:
            raise UnsupportedError(
                f"{at}{index}.type: the text itself is the clone; edits follow it",
                param=f"{at}{index}.type",
            )
        made.append(checked_step(step, f"{at}{index}.", settings.limits))
    return tuple(made)


def _cues(body: JobBody, subtitles: str) -> Sequence[Ask]:
    voices = {name.casefold(): voice for name, voice in (body.voices or {}).items()}
    cues = read_subtitles(subtitles, "subtitles")
    asks: list[Ask] = []
    for number, cue in enumerate(cues):
        voice = body.voice
        if cue.speaker is not None and voices:
            voice = voices.get(cue.speaker.casefold(), body.voice)
            if voice is None:
                raise InputError(
                    f"voices has no voice for the speaker {cue.speaker[:MAX_FOUND]!r}",
                    param="voices",
                )
        asks.append(
            Ask(
                text=cue.text,
                voice=voice,
                speed=body.speed,
                cue=Cue(begin_s=cue.begin_s, end_s=cue.end_s),
                at=f"subtitles.{number}.",
            )
        )
    return asks
