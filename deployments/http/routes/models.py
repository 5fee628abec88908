"""GET /v1/models: the names that requests may say."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import FastAPI, Header, Path

from deployments.http.api_pages import answers, refusal, schema_of
from deployments.http.dialects.elevenlabs import listed_model
from deployments.http.model_names import ModelNames
from deployments.http.pages.shapes import ElevenLabsModel, ModelList, ModelReply
from pipeline.errors import UnknownModelError

ElevenLabsKey = Annotated[
    str | None,
    Header(
        alias="xi-api-key",
        description="Sent by ElevenLabs' clients alone, who get a list of their own",
        examples=["unused"],
    ),
]
Name = Annotated[str, Path(description="As the list has it", examples=["step-audio-editx"])]


def add_model_routes(app: FastAPI, names: ModelNames) -> None:
    """The list, in the shape of whoever asks, and each of its names."""

    def described(name: str) -> dict[str, Any]:
        facts = {"object": "model", "created": 0, "owned_by": "timbre"}
        return {"id": name, **facts, "model_variants": list(names.variants)}

    def listed() -> dict[str, Any]:
        return {"object": "list", "data": [described(name) for name in names.listed]}

    @app.get("/v1/models", **_MODELS_DOC)
    async def models(elevenlabs_key: ElevenLabsKey = None) -> Any:
        """Models served, in OpenAI's shape, and the variants that requests may choose from.

        ElevenLabs' clients, known by their `xi-api-key`, get their own.
        """
        if elevenlabs_key is not None:
            return [listed_model(name) for name in names.listed]
        return listed()

    @app.get("/v1/models/{name:path}", **_MODEL_DOC)
    async def model(name: Name) -> dict[str, Any]:
        """One model, as the list has it; the list for an address that ends before a name."""
        if not name:
            return listed()
        if (found := names.find(name)) is None:
            raise UnknownModelError(names.unknown(name), param="model")
        return described(found)


_MODEL = {
    "id": "step-audio-editx",
    "object": "model",
    "created": 0,
    "owned_by": "timbre",
    "model_variants": ["base"],
}
_MODELS_DOC = answers({"object": "list", "data": [_MODEL]}, ModelList)
_MODELS_DOC["responses"][200]["content"]["application/json"]["schema"] = {
    "anyOf": [schema_of(ModelList), {"type": "array", "items": schema_of(ElevenLabsModel)}]
}
_MODEL_DOC = answers(_MODEL, ModelReply, ModelList)
_MODEL_DOC["responses"][404] = refusal("No model has this name")
