"""A route that is looked through late serves and describes what any other does."""

from __future__ import annotations

from typing import Annotated, Any

import httpx
import pytest
from fastapi import FastAPI, Query
from fastapi.routing import APIRoute
from pydantic import BaseModel

from deployments.http.routes.lazy import LazyRoute
from tests.http_app import HttpApp

pytestmark = pytest.mark.unit
CALLS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("GET", "/things/7", {}),
    ("GET", "/things/seven", {}),
    ("GET", "/things/7?often=0", {}),
    ("POST", "/things", {"json": {"name": "chair"}}),
    ("POST", "/things", {"json": {"nome": "chair"}}),
    ("PUT", "/things", {}),
    ("GET", "/nothing", {}),
)


class Thing(BaseModel):
    name: str


def made(route_class: type[APIRoute]) -> FastAPI:
    app = FastAPI(responses={404: {"model": Thing, "description": "None."}})
    app.router.route_class = route_class

    @app.get("/things/{number}", tags=["things"])
    async def _look(number: int, often: Annotated[int, Query(ge=1)] = 1) -> Thing:
        return Thing(name=f"{number} × {often}")

    @app.post("/things", status_code=201)
    async def _keep(thing: Thing) -> Thing:
        return thing

    return app


async def ask(app: FastAPI, method: str, path: str, **how: Any) -> httpx.Response:
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://timbre") as http:
        return await http.request(method, path, **how)


def looked_through(app: FastAPI) -> set[str]:
    """Paths of our routes whose endpoints FastAPI has read."""
    routes = (route for route in app.routes if isinstance(route, LazyRoute))
    return {route.path for route in routes if "dependant" in vars(route)}


@pytest.mark.parametrize("call", CALLS, ids=lambda call: f"{call[0]}-{call[1]}")
async def test_it_answers_as_any_other(call: tuple[str, str, dict[str, Any]]) -> None:
    method, path, how = call
    replies = [await ask(made(kind), method, path, **how) for kind in (LazyRoute, APIRoute)]
    lazy, plain = ((one.status_code, one.json(), dict(one.headers)) for one in replies)
    assert lazy == plain


def test_it_is_described_as_any_other() -> None:
    assert made(LazyRoute).openapi() == made(APIRoute).openapi()


async def test_only_what_is_called_is_looked_through() -> None:
    app = made(LazyRoute)
    assert looked_through(app) == set()
    await ask(app, "GET", "/things/7")
    assert looked_through(app) == {"/things/{number}"}


def test_what_it_does_not_have_is_said_of_it() -> None:
    (route, *_) = (route for route in made(LazyRoute).routes if isinstance(route, LazyRoute))
    with pytest.raises(AttributeError, match="colour"):
        route.colour  # noqa: B018 - is to raise


def test_all_of_ours_are_such_routes() -> None:
    app = HttpApp().app
    ours = [route for route in app.routes if isinstance(route, APIRoute)]
    assert len(ours) > 50
    assert all(isinstance(route, LazyRoute) for route in ours)
    assert looked_through(app) == set()
