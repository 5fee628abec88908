"""The graph on one screen: four deployments, wired; the LLM once for each variant.

`serve run serve_config.yaml` builds it with `build_app`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ray import serve
from ray.serve import Application
from ray.serve.exceptions import RayServeException

from deployments.config.preflight import REFUSAL, checked_settings
from deployments.config.stages import Stages
from deployments.http.ingress import Router
from deployments.stages.llm import LLMReplica
from deployments.stages.tokenizer import TokenizerReplica
from deployments.stages.vocoder import VocoderReplica
from pipeline.errors import SetupError


def build_app(args: Mapping[str, Any]) -> Application:
    """Bind the chain. Resources, replicas and queues of each stage are the serve config's.

    args: one settings tree, as `Settings` has it. Raises RayServeException when the config holds
    a mistake or asks what the cluster does not have: Serve shows the text of that one, once, where
    it would build again after any other and show the tracebacks of every try.
    """
    try:
        settings = checked_settings(args)
    except SetupError as error:
        raise RayServeException(REFUSAL + error.message) from None

    stages = Stages.of(settings)
    tokenizer = serve.deployment(name=stages.tokenizer.name)(TokenizerReplica).bind(settings)
    llms = {
        variant: serve.deployment(name=stage.name)(LLMReplica).bind(settings, variant)
        for variant, stage in stages.llms.items()
    }
    vocoder = serve.deployment(name=stages.vocoder.name)(VocoderReplica).bind(settings, llms)
    router = serve.deployment(name=stages.router.name)(serve.ingress()(Router))
    return router.bind(settings, tokenizer, llms, vocoder)
