"""Shapes of the replies about edits, as the API's pages describe them."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel

from pipeline.contracts import Mode


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


SHAPES: tuple[type[BaseModel], ...] = (EditReply, EditStepReply)
