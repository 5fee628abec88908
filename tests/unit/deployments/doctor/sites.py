"""Sites that the doctor looks at: the shipped config, and what is planted in it or listens."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from deployments.doctor.examine import examine
from deployments.doctor.findings import Finding, Level
from deployments.doctor.listeners import PROXY, Listener
from deployments.doctor.site import Site, look
from tests.conftest import ROOT

SHIPPED = yaml.safe_load((ROOT / "serve_config.cpu.yaml").read_text())
GIB = 2**30
RAYLET = Listener("127.0.0.1", 9, "raylet", is_rays=True, has_token=True)
PUBLIC = "10.1.2.3"
Plant = Callable[[dict[str, Any]], None]


def examined(tmp_path: Path, plant: Plant = lambda _: None, **more: Any) -> dict[str, Finding]:
    """What is found of the shipped CPU config, after something was planted in it."""
    document = json.loads(json.dumps(SHIPPED))
    args = document["applications"][0]["args"]
    args["cache"] = {"url": str(tmp_path / "voices")}
    args.pop("config_file")
    plant(document)
    path = tmp_path / "serve_config.yaml"
    path.write_text(yaml.safe_dump(document))
    ports = more.pop("ports", (RAYLET,))
    variables: Mapping[str, str] = more.pop("environment", {"RAY_AUTH_MODE": "token"})
    one = look(path, {"HOME": str(tmp_path), **variables}, **more)
    one = Site(
        one.path, one.config, one.mistake, one.environment, one.home, ports, one.wants_gpu, tmp_path
    )
    return {result.check: result.finding for result in examine(one)}


def args_of(document: dict[str, Any]) -> dict[str, Any]:
    return document["applications"][0]["args"]


def is_found(finding: Finding, level: Level, says: str) -> None:
    assert (finding.level, says in finding.found) == (level, True), finding
    assert finding.remedy or level in {Level.GOOD, Level.UNKNOWN}


def host(host: str) -> Plant:
    return lambda document: document["http_options"].update(host=host)


def args(**fields: Any) -> Plant:
    return lambda document: args_of(document).update(fields)


def both(*plants: Plant) -> Plant:
    def plant(document: dict[str, Any]) -> None:
        for one in plants:
            one(document)

    return plant


def no_hook(document: dict[str, Any]) -> None:
    del document["controller_options"]


def tls(document: dict[str, Any]) -> None:
    document["http_options"] |= {"host": PUBLIC, "ssl_certfile": "a", "ssl_keyfile": "b"}


def listener(host: str, program: str = "raylet", *, has_token: bool | None = True) -> Listener:
    return Listener(host, 8265, program, is_rays=True, has_token=has_token)


SERVICE = Listener("127.0.0.1", 8000, PROXY, is_rays=True)
LLM_AWAY = {"ready": False, "stages": {"llm": {"error": "no replica"}, "vocoder": {}}}
