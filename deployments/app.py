"""The graph on one screen: five deployments, wired; the LLM once for each variant; ASR if asked.

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
from deployments.stages.affinity import routing
from deployments.stages.asr import AsrReplica
from deployments.stages.jobs import JobsReplica
from deployments.stages.llm import LLMReplica
from deployments.stages.tokenizer import TokenizerReplica
from deployments.stages.vocoder import VocoderReplica
from deployments.telemetry.tracing.tracer import check_exporter
from pipeline.errors import SetupError


def build_app(args: Mapping[str, Any]) -> Application:
    """Bind the stages. Their resources, replicas and queues come from the serve config.

    args: the settings tree, see `Settings`. Raises RayServeException when the config holds a
    mistake or requests more than the cluster has: Serve shows the text of this exception once;
    after any other it would build again and show the traceback of every try.
    """
    try:
        settings = checked_settings(args)
        check_exporter(settings.telemetry)
    except SetupError as error:
        raise RayServeException(REFUSAL + error.message) from None

    stages = Stages.of(settings)
    tokenizer = serve.deployment(name=stages.tokenizer.name)(TokenizerReplica).bind(settings)
    by_voice = routing(by_voice=settings.llm.voice_affinity)
    llms = {
        variant: serve.deployment(name=stage.name, request_router_config=by_voice)(LLMReplica).bind(
            settings, variant
        )
        for variant, stage in stages.llms.items()
    }
    by_voice = routing(by_voice=settings.vocoder.voice_affinity)
    vocoder = serve.deployment(name=stages.vocoder.name, request_router_config=by_voice)(
        VocoderReplica
    ).bind(settings, llms)
    asr = stages.asr and serve.deployment(name=stages.asr.name)(AsrReplica).bind(settings)
    jobs = serve.deployment(name=stages.jobs.name)(JobsReplica).bind(
        settings, tokenizer, llms, vocoder
    )
    router = serve.deployment(name=stages.router.name)(serve.ingress()(Router))
    return router.bind(settings, tokenizer, llms, vocoder, jobs, asr=asr)
