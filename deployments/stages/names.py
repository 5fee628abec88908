"""Asks the stages that speak what they are: their names by content are part of keys of speech."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from ray.serve.handle import DeploymentHandle

from deployments.stages.clients import stage_errors
from pipeline.contracts import VocoderName

NAME_TIMEOUT_S = 5.0


class RemoteNames:
    """The vocoder deployment and the LLM's variants, as deployments.speech.models.Namer."""

    def __init__(self, vocoder: DeploymentHandle, llms: Mapping[str, DeploymentHandle]) -> None:
        self._vocoder = vocoder.options(method_name="name")
        self._llms = {
            variant: llm.options(method_name="fingerprint") for variant, llm in llms.items()
        }

    async def vocoder(self) -> VocoderName:
        """Raises StageError and its kinds when none answers."""
        with stage_errors("vocoder"):
            async with asyncio.timeout(NAME_TIMEOUT_S):
                return await self._vocoder.remote()

    async def lm(self, variant: str) -> str:
        """The fingerprint of a variant's LLM. Raises StageError and its kinds."""
        with stage_errors("LLM"):
            async with asyncio.timeout(NAME_TIMEOUT_S):
                return await self._llms[variant].remote()
