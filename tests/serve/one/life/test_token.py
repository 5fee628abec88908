"""Ray's own ports ask for a token, and the service does not."""

from __future__ import annotations

import httpx
import pytest
import yaml

from tests.serve.ray_cluster import dashboard, serve
from tests.serve.service_client import ServiceClient
from tests.serve.services import TOKEN

pytestmark = pytest.mark.serve


def test_ray_tells_nothing_without_its_token(client: ServiceClient):
    api = f"{dashboard(client)}/api/serve/applications/"
    assert httpx.get(api).status_code == httpx.codes.UNAUTHORIZED
    wrong = {"Authorization": f"Bearer {'ab' * 32}"}
    assert httpx.get(api, headers=wrong).status_code == httpx.codes.FORBIDDEN
    assert client.speak().status_code == httpx.codes.OK


def test_rays_command_tells_who_has_the_token(client: ServiceClient):
    status, shown = serve(client, "status", RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=TOKEN)
    assert status == 0, shown
    assert yaml.safe_load(shown)["applications"]["timbre"]["status"] == "RUNNING"
