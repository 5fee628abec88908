"""One service for all that looks at it: keys on, traced, scraped, and under load for a while."""

from __future__ import annotations

import secrets
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import yaml

from tests.dashboards.load import Load, leave
from tests.dashboards.prometheus import Prometheus, scraping
from tests.otlp import Collector, collecting
from tests.planted import plant
from tests.serve.service_client import ServiceClient
from tests.serve.services import running, write_config

REPORT_MS = 5_000  # gauges are set every four seconds: each report has them
VARIABLE = "TIMBRE_TEST_OPERATOR"  # not one of the settings'
ADMIN_KEY = plant("an operator's key", secrets.token_hex(20))
SEEN_S = 20.0  # until what ended has been reported and scraped


@dataclass(frozen=True, slots=True)
class Watched:
    """The service, what is known of it, and headers of an operator and of a tenant."""

    client: ServiceClient
    prometheus: Prometheus
    collector: Collector
    operator: dict[str, str]
    speaker: dict[str, str]


@pytest.fixture(scope="package")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """After its load. Where Prometheus is not installed, nothing here runs."""
    if shutil.which("prometheus") is None:
        pytest.skip("prometheus is not installed: apt-get install prometheus")
    directory = tmp_path_factory.mktemp("watched")
    operator = {"authorization": f"Bearer {ADMIN_KEY}"}
    with collecting() as collector:
        config = write_config(
            directory,
            cache={"url": str(directory / "voices")},
            speech_cache={"enabled": True},
            access={"keys": "on", "admin_key_env": VARIABLE},
            quotas={"tenants": {"busy": {"requests_per_minute": 1}}},
            admission={"first_audio_s": 2.5, "whole_s": 30},
            vocoder={"device": "cpu", "threads": 1, "max_streams": 3, "queue_size": 3},
            telemetry={
                "otlp_endpoint": collector.endpoint,
                "slow_s": 1.0,
                "gpu_hour_price": 1.2,
                "account_every_s": 5,
            },
        )
        document = yaml.safe_load(config.read_text())
        document["logging_config"]["encoding"] = "JSON"
        config.write_text(yaml.safe_dump(document))
        reports = {"RAY_metrics_report_interval_ms": str(REPORT_MS), VARIABLE: ADMIN_KEY}
        with running(directory, config, **reports) as client:
            speaker, busy = (_key(client, operator, tenant) for tenant in ("museum", "busy"))
            with scraping(directory, client.metrics_port()) as prometheus:
                leave(client, speaker)
                Load(client, speaker, busy).run()
                time.sleep(SEEN_S)
                yield Watched(client, prometheus, collector, operator, speaker)


def _key(client: ServiceClient, operator: dict[str, str], tenant: str) -> dict[str, str]:
    asked = {"tenant": tenant, "scopes": ["speak"]}
    made = client.http.post("/v1/keys", json=asked, headers=operator)
    assert made.is_success, made.text
    return {"authorization": f"Bearer {made.json()['key']}"}
