"""A service with two of what others have one of."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator

import pytest
import yaml

from tests.cache_helpers import S3Server
from tests.recogniser_files import in_own_process
from tests.serve.service_client import ServiceClient
from tests.serve.services import in_bucket, running, write_config

REPORT_S = 0.5  # between reports of metrics; Ray's ten would have tests wait for half a minute


@pytest.fixture(scope="package")
def many(tmp_path_factory: pytest.TempPathFactory, s3_server: S3Server) -> Iterator[ServiceClient]:
    """Two routers, two vocoders and two variants of the LLM, one small; all is kept in a bucket.

    A recogniser, untrained, hears clips without a transcript. Requests are routed by voice. It
    keeps finished speech, too: what is to be made again asks with `cache="off"`.
    """
    directory = tmp_path_factory.mktemp("many")
    llm = {"device": "cpu", "threads": 1, "slots": 8, "queue_size": 1, "voice_affinity": True}
    variants = {"int8": {"quantization": "int8", "slots": 1}}
    recogniser = json.loads(in_own_process("write", directory / "recogniser"))
    path = write_config(
        directory,
        cache=in_bucket(s3_server),
        speech_cache={"enabled": True},
        llm=llm,
        llm_variants=variants,
        asr={"enabled": True, "model": recogniser},
    )
    config = yaml.safe_load(path.read_text())
    config["applications"][0]["args"]["vocoder"]["voice_affinity"] = True
    deployments = config["applications"][0]["deployments"]
    by_name = {deployment["name"]: deployment for deployment in deployments}
    for name in ("Router", "Vocoder"):
        by_name[name]["autoscaling_config"] |= {"min_replicas": 2, "max_replicas": 2}
        by_name[name]["ray_actor_options"]["num_cpus"] = 0.1
    by_name["LLM"]["ray_actor_options"]["num_cpus"] = 0.3  # so that all stages fit two cores
    deployments.append({**copy.deepcopy(by_name["LLM"]), "name": "LLM-int8"})
    deployments.append({**copy.deepcopy(by_name["Tokenizer"]), "name": "ASR"})
    path.write_text(yaml.safe_dump(config))
    reports = {"RAY_metrics_report_interval_ms": f"{REPORT_S * 1000:.0f}"}
    with running(directory, path, **reports) as service_client:
        yield service_client
