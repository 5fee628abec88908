"""Shapes of the replies about edits, as the API's pages describe them."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel

from pipeline.contracts import Mode


class Intensity(BaseModel):
    """Passes of an edit."""

    min: int
    max: int


class EditType(BaseModel):
    """What a step of an edit may be. needs_text: says what is to be said."""

    type: str
    values: list[str]
    intensity: Intensity
    needs_text: bool
    needs_transcript: bool
    only_first: bool


class Language(BaseModel):
    """What the model speaks. tag: in front of a text that asks for it."""

    name: str
    tag: str | None


class Tags(BaseModel):
    """Values of edits by mode, tags that a text may hold, and what a step may be."""

    emotion: list[str]
    style: list[str]
    speed: list[str]
    paralinguistic: list[str]
    dialect: list[str]
    modes: list[str]
    types: list[EditType]
    languages: list[Language]
    max_steps: int


class EditedStep(BaseModel):
    """One step. audio: the address of its sound."""

    step: int
    type: Mode
    value: str
    text: str | None
    intensity: int
    seed: int
    model_variant: str
    audio: str


class EditedClip(BaseModel):
    """What the first step took. clip: what `DELETE /v1/cache/{clip}` removes it by."""

    clip: str
    transcript: str


class EditReply(BaseModel):
    """An edit. sources: one clip, or the parts of a long one."""

    id: str
    object: Literal["audio.edit"]
    created_at: int
    voice: str | None
    sources: list[EditedClip]
    steps: list[EditedStep]


class EditList(BaseModel):
    """Some edits, the newest first."""

    object: Literal["list"]
    data: list[EditReply]
    has_more: bool
    first_id: str | None
    last_id: str | None


class DeletedEdit(BaseModel):
    """An edit that is gone."""

    id: str
    object: Literal["audio.edit"]
    deleted: Literal[True]


class EditUsage(BaseModel):
    """Of all steps up to it."""

    input_tokens: int
    output_tokens: int
    total_tokens: int


class EditStepReply(EditedStep):
    """One step with what it gave. tokens: 0 … 5119, five for 120 ms. answered_by: each step."""

    object: Literal["audio.edit.step"]
    edit: str
    tokens: list[int]
    audio_s: float
    quality: str
    usage: EditUsage
    answered_by: list[str]


SHAPES: tuple[type[BaseModel], ...] = (EditReply, EditList, DeletedEdit, EditStepReply, Tags)
