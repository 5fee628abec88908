"""GET /v1/models: the names that requests may say."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request

from deployments.http.api_pages import example
from deployments.http.dialects.elevenlabs import listed_model
from deployments.http.model_names import ModelNames
from pipeline.errors import UnknownModelError

ELEVENLABS_KEY = "xi-api-key"  # a header that ElevenLabs' clients alone send


def add_model_routes(app: FastAPI, names: ModelNames) -> None:
    """The list, in the shape of whoever asks, and each of its names."""

    def described(name: str) -> dict[str, Any]:
        facts = {"object": "model", "created": 0, "owned_by": "timbre"}
        return {"id": name, **facts, "model_variants": list(names.variants)}

    def listed() -> dict[str, Any]:
        return {"object": "list", "data": [described(name) for name in names.listed]}

    @app.get("/v1/models", responses=example(_MODELS))
    async def models(request: Request) -> Any:
        """Models served, in OpenAI's shape, and the variants that requests may choose from.

        ElevenLabs' clients, known by their `xi-api-key`, get their own.
        """
        if ELEVENLABS_KEY in request.headers:
            return [listed_model(name) for name in names.listed]
        return listed()

    @app.get("/v1/models/{name:path}", responses=example(_MODEL))
    async def model(name: str) -> dict[str, Any]:
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
_MODELS = {"object": "list", "data": [_MODEL]}
