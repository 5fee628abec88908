"""The API's description is whole, and generated requests to every route find what it tells.

`python -m load_tests.conformance` makes more of them.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest
from fastapi.routing import APIRoute

from load_tests.conformance import Findings, application, conform, strict
from tests.http_app import CLIP, HttpApp, ServedApp, http_app

pytestmark = pytest.mark.unit
APP = HttpApp()
PAGE = APP.app.openapi()
OPERATIONS = {
    f"{method.upper()} {path}": operation
    for path, methods in PAGE["paths"].items()
    for method, operation in methods.items()
}
EDGE = {"413", "500", "default"}  # of every route
RAW = "application/octet-stream"  # whose example would be the bytes of a clip


@pytest.fixture(params=OPERATIONS)
def operation(request: pytest.FixtureRequest) -> dict[str, Any]:
    return OPERATIONS[request.param]


@pytest.fixture
def served() -> Iterator[ServedApp]:
    with application() as app:
        yield app


def test_every_route_is_described():
    routes = [route for route in APP.app.routes if isinstance(route, APIRoute)]
    served = {f"{method} {route.path_format}" for route in routes for method in route.methods}
    others = {name for name in served - set(OPERATIONS) if not name.startswith("GET /swagger/")}
    assert set(OPERATIONS) <= served
    assert others == {"GET /", "GET /docs"}, "pages for people"


def test_every_reply_has_its_shape(operation: dict[str, Any]):
    assert set(operation["responses"]) >= {"200", *EDGE}
    assert operation["description"]
    for status, reply in operation["responses"].items():
        assert reply["description"]
        assert {"X-Request-Id", "X-Cache", "Server-Timing"} <= set(reply["headers"])
        assert ("Retry-After" in reply["headers"]) == (status in {"429", "503"})
        assert reply["content"]
        for content in reply["content"].values():
            assert content["schema"]
        if status not in {"200", "503"}:
            schema = reply["content"]["application/json"]["schema"]
            assert schema == {"$ref": "#/components/schemas/ErrorReply"}
            assert ("X-Should-Retry" in reply["headers"]) == (status != "429")


def test_examples_of_replies_are_replies():
    page = strict(PAGE)
    for methods in page["paths"].values():
        for operation in methods.values():
            for kind, content in operation["responses"]["200"]["content"].items():
                if kind == "application/json":
                    jsonschema.validate(content["example"], content["schema"])


def test_requests_and_parameters_have_examples(operation: dict[str, Any]):
    bodies = operation.get("requestBody", {"content": {}})["content"]
    for kind, content in bodies.items():
        if kind == RAW:
            continue
        schema = {**content["schema"], "components": PAGE["components"]}
        assert content["example"]
        if kind == "application/json":
            jsonschema.validate(content["example"], schema)
    shared = PAGE["components"]["parameters"]
    for one in operation["parameters"]:
        parameter = shared[one["$ref"].rpartition("/")[2]] if "$ref" in one else one
        shown = {**parameter["schema"], **parameter}
        assert shown["description"]
        assert {"example", "examples", "default"} & set(shown), parameter["name"]


def test_every_reference_and_link_has_its_end():
    ids = {operation["operationId"] for operation in OPERATIONS.values()}
    assert len(ids) == len(OPERATIONS)

    def look(node: Any) -> None:
        if isinstance(node, list):
            for one in node:
                look(one)
        elif isinstance(node, dict):
            if isinstance(node.get("$ref"), str):
                _, kind, name = node["$ref"].rsplit("/", 2)
                assert name in PAGE["components"][kind]
            if isinstance(node.get("links"), dict):
                assert {link["operationId"] for link in node["links"].values()} <= ids
            for one in node.values():
                look(one)

    look(PAGE)


def served_by(found: Findings) -> set[str]:
    """Operations with a success. Few calls of the others meet a voice that somebody has made."""
    return {label for label, statuses in found.statuses.items() if 200 in statuses}


@pytest.mark.slow
def test_generated_requests_find_no_fault(served: ServedApp):
    found = conform(served.page, 100, seed=1, is_thorough=False, app=served)
    assert found.faults == []
    assert found.calls >= 100
    assert set(found.statuses) == set(OPERATIONS)
    assert served_by(found) >= {label for label in OPERATIONS if "{" not in label}


async def test_replies_in_the_life_of_a_voice_have_their_shapes(tmp_path: Path):
    page = strict(PAGE)

    async def call(method: str, path: str, route: str, **how: Any) -> Any:
        reply = await app.http.request(method, path, **how)
        assert reply.status_code == httpx.codes.OK, reply.text
        told = page["paths"][route][method.lower()]["responses"]["200"]["content"]
        jsonschema.validate(reply.json(), told["application/json"]["schema"])
        return reply.json()

    all_voices, one = "/v1/audio/voices", "/v1/audio/voices/{voice}"
    form = {"data": {"name": "Zoe", "consent": "I agree."}, "files": {"audio_sample": CLIP}}
    async with http_app(cache={"url": str(tmp_path), "l2": "off"}) as app:
        voice = (await call("POST", all_voices, all_voices, **form))["voice"]["id"]
        at, agreed = f"{all_voices}/{voice}", (await call("GET", f"{all_voices}/{voice}", one))
        await call("POST", at, one, json={"name": "Yan", "ref_text": "Hello.", "language": "en"})
        assert len((await call("GET", at, one))["versions"]) == 2
        form["data"] = {"name": "Zoe", "consent": agreed["consent"]}
        await call("POST", all_voices, all_voices, **form)
        for listed in (all_voices, "/v1/voices", "/v2/voices"):
            await call("GET", listed, listed)
        await call("GET", f"/v1/voices/{voice}", "/v1/voices/{voice_id}")
        await call("DELETE", at, one)
        await call("GET", f"{all_voices}?deleted=1", all_voices)
        await call("POST", f"{at}/restore", f"{one}/restore")
        await call("DELETE", f"{all_voices}/Zoe", one)
        await call("DELETE", at, one, params={"purge": "1"})


@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.parametrize("calls", [800, 3_000])
def test_so_do_thousands_at_the_borders_of_every_schema(served: ServedApp, calls: int):
    """Some eight thousand, and by chance half of `calls`, each of which costs as much as five."""
    found = conform(served.page, calls, seed=2, app=served)
    assert found.faults == []
    assert found.calls >= 3_000
    assert served_by(found) >= {label for label in OPERATIONS if "{" not in label}


def only(page: dict[str, Any], path: str) -> dict[str, Any]:
    """A description of one address."""
    return {**copy.deepcopy(page), "paths": {path: copy.deepcopy(page["paths"][path])}}


def faults(page: dict[str, Any], app: ServedApp) -> str:
    return "\n".join(conform(page, 12, seed=1, is_thorough=False, app=app).faults)


class TestWhatIsAFault:
    @pytest.mark.slow
    def test_a_key_that_nobody_described(self, served: ServedApp):
        page = only(served.page, "/v1/tags")
        tags = page["components"]["schemas"]["Tags"]
        del tags["properties"]["dialect"]
        tags["required"].remove("dialect")
        assert "violates schema" in faults(page, served)

    def test_a_key_that_is_missing(self, served: ServedApp):
        page = only(served.page, "/v1/tags")
        page["components"]["schemas"]["Tags"]["required"].append("more")
        assert "more" in faults(page, served)

    @pytest.mark.slow
    def test_a_status_that_nobody_described(self, served: ServedApp):
        page = only(served.page, "/v1/audio/voice_consents/{consent_id}")
        for operation in next(iter(page["paths"].values())).values():
            del operation["responses"]["404"]
        assert "Received: 404" in faults(page, served)

    @pytest.mark.slow
    def test_a_header_that_is_missing(self, served: ServedApp):
        page = only(served.page, "/v1/tags")
        page["components"]["headers"]["X-Cache"] = {"required": True, "schema": {"type": "integer"}}
        assert "X-Cache" in faults(page, served) or "header" in faults(page, served)

    def test_a_failure_inside(self, served: ServedApp, monkeypatch: pytest.MonkeyPatch):
        async def fail(request_id: str, namespace: str) -> None:
            raise OSError("no")

        monkeypatch.setattr(served.made.outcomes, "find", fail)
        page = only(served.page, "/v1/audio/speech/{request_id}")
        assert "Server error" in faults(page, served)
