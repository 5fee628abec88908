"""The router's bench, as far as it runs without a service."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from deployments.config.serve_config import read_serve_config
from deployments.config.settings import load_settings
from deployments.telemetry.outcomes import ClusterOutcomes
from load_tests.bench.router import marks, service_app, services, spans
from load_tests.bench.router.client import body
from load_tests.bench.router.marks import Moment
from load_tests.bench.router.spans import STAGES, Asked
from tests.fakes import FakeHandle

pytestmark = pytest.mark.unit

WAY = (
    "proxy.in", "router.in", "router.read", "router.voice", "router.asks", "vocoder.in",
    "vocoder.out", "vocoder.heard", "router.encoded", "router.out", "proxy.out",
)  # fmt: skip


def passing(*names: str, begins_s: float = 1.0, step_s: float = 0.001) -> list[Moment]:
    return [Moment(begins_s + (i + 1) * step_s, name) for i, name in enumerate(names)]


def test_the_parts_of_a_way_add_up_to_all_of_it() -> None:
    moments = passing(*WAY)
    way = spans.way_of("new", [Asked(1.0, 1.012, 1.012)], moments)
    parts = {span.what: span.p50_ms for span in way.first}
    assert all(took_ms == pytest.approx(1) for took_ms in parts.values())
    assert len(parts) == len(spans.FIRST_BYTE)
    assert way.first_total.p50_ms == pytest.approx(12 - parts[STAGES])


def test_later_pieces_count_for_the_last_byte_alone() -> None:
    moments = [*passing(*WAY), *passing(*WAY[6:], begins_s=1.1)]
    way = spans.way_of("new", [Asked(1.0, 1.012, 1.106)], moments)
    assert way.first_total.p50_ms == pytest.approx(11)
    assert [span.p50_ms for span in way.last] == pytest.approx([1, 2, 1, 1])
    assert way.last_total.p50_ms == pytest.approx(106 - (101 - 6))


def test_what_is_not_passed_joins_what_is_beside_it() -> None:
    moments = passing("router.in", "router.read", "router.encoded", "router.out")
    way = spans.way_of("repeated", [Asked(1.0, 1.006, 1.007)], moments)
    assert sum(span.p50_ms for span in way.first) == pytest.approx(6)
    assert way.first[0].p50_ms == pytest.approx(1)
    assert way.first_total.p50_ms == pytest.approx(6)
    assert way.last_total.p50_ms == pytest.approx(7)


def test_a_request_has_no_moments_of_others() -> None:
    moments = [*passing(*WAY), *passing(*WAY, begins_s=2.0, step_s=0.002)]
    asked = [Asked(1.0, 1.012, 1.012), Asked(2.0, 2.024, 2.024)]
    way = spans.way_of("new", asked, moments)
    assert way.first_total.p50_ms == pytest.approx((11 + 22) / 2)
    assert way.first_total.p95_ms == pytest.approx(22)


async def test_marks_of_a_class_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stage:
        name = "stage"

        async def ask(self) -> int:
            return 1

        def tell(self, number: int) -> int:
            return number

    noted: list[str] = []
    monkeypatch.setattr(marks, "opened", lambda: noted.append)
    marks.mark_calls(Stage, "ask", lambda stage: f"{stage.name}.asked", is_end=True)
    marks.mark_calls(Stage, "tell", lambda stage: f"{stage.name}.told", is_end=False)
    assert await Stage().ask() + Stage().tell(2) == 3
    assert noted == ["stage.asked", "stage.told"]
    (tmp_path / "1.jsonl").write_text('[2.0, "b"]\n[3.0, "c"]\n')
    (tmp_path / "2.jsonl").write_text('[1.0, "a"]\n')
    assert [moment.name for moment in marks.read(tmp_path)] == ["a", "b", "c"]


@pytest.mark.parametrize("has_real_stages", [True, False])
def test_its_config_is_the_shipped_one_with_marks(tmp_path: Path, has_real_stages: bool) -> None:
    variables = {"RAY_SERVE_ENABLE_HA_PROXY": "1"}
    path = services.write_config(
        tmp_path / "it", has_real_stages=has_real_stages, variables=variables
    )
    shipped = read_serve_config(services.ROOT / "serve_config.cpu.yaml")
    ours = read_serve_config(path)
    assert ours.settings.vocoder == shipped.settings.vocoder
    (application,) = yaml.safe_load(path.read_text())["applications"]
    assert application["runtime_env"]["env_vars"].items() >= variables.items()


@pytest.mark.slow
@pytest.mark.parametrize("seed", [None, 7], ids=["not looked up", "kept"])
async def test_a_request_passes_every_mark_on_its_way(
    monkeypatch: pytest.MonkeyPatch, seed: int | None
) -> None:
    """The router itself, with the bench's stages behind handles that need no cluster."""
    noted: list[str] = []
    for module in (marks, service_app):
        monkeypatch.setattr(module, "opened", lambda: noted.append)
    for owner, method in service_app.MARKED:
        monkeypatch.setattr(owner, method, getattr(owner, method))  # put back at the end
    monkeypatch.setattr("deployments.http.ingress.adopt_serve_logging", lambda: None)
    monkeypatch.setattr(ClusterOutcomes, "tell", lambda *_: None)
    settings = load_settings({"cache": {"url": "none", "l2": "off"}})
    stages: list[Any] = [
        FakeHandle(stage())
        for stage in (service_app.FakeTokenizer, service_app.FakeLLM, service_app.FakeVocoder)
    ]
    tokenizer, llm, vocoder = stages
    router = service_app.MarkedRouter(
        settings, tokenizer, {"base": llm}, vocoder, FakeHandle(object())
    )
    served = service_app.MarkedRoute(router.__serve_build_asgi_app__(), place="proxy")
    transport = httpx.ASGITransport(served)
    async with httpx.AsyncClient(transport=transport, base_url="http://timbre") as http:
        reply = await http.post("/v1/audio/speech", json=body(seed=seed))
        assert reply.status_code == httpx.codes.OK, reply.text
        assert len(reply.content) == 48_000 * sum(service_app.FAKE_CHUNKS_S)
    await router._speech.close()
    await router._voices.close()
    firsts = [name for name in dict.fromkeys(noted) if name in WAY]
    assert firsts == list(WAY) if seed is None else set(firsts) == set(WAY)
    assert noted.count("vocoder.out") == len(service_app.FAKE_CHUNKS_S)


def test_no_two_requests_have_the_same_text() -> None:
    assert body()["input"] != body()["input"]
