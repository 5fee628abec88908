"""The graph on one screen: four deployments, wired; the LLM once for each variant.

`serve run serve_config.yaml` builds it with `build_app`. No `from __future__ import annotations`
here: Serve reads the type of `args` from the annotation itself.
"""

from ray import serve
from ray.serve import Application

from deployments.ingress import Router
from deployments.llm import LLMReplica
from deployments.preflight import check_cluster, live_nodes
from deployments.serve_config import find_config_file, read_serve_config
from deployments.settings import Settings
from deployments.tokenizer import TokenizerReplica
from deployments.vocoder import VocoderReplica


def build_app(args: Settings) -> Application:
    """Bind the chain. Resources, replicas and queues of each stage are the serve config's.

    Raises ConfigError when the config file holds unknown keys or asks what the cluster does not
    have.
    """
    if args.config_file is not None:
        check_cluster(read_serve_config(find_config_file(args.config_file)), live_nodes())

    tokenizer = serve.deployment(name="Tokenizer")(TokenizerReplica).bind(args)
    llms = {
        variant: serve.deployment(name=name)(LLMReplica).bind(args, variant)
        for variant, name in args.llm_deployments.items()
    }
    vocoder = serve.deployment(name="Vocoder")(VocoderReplica).bind(args, llms)
    router = serve.deployment(name="Router")(serve.ingress()(Router))
    return router.bind(args, tokenizer, llms, vocoder)
