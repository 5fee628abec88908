"""A clip is removed everywhere, or the caller hears that it was not."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest
from ray.exceptions import RayActorError
from ray.serve.exceptions import DeploymentUnavailableError

from deployments.config.settings import Settings
from deployments.config.stage_settings import LLMVariant
from deployments.config.stages import Stages
from deployments.stages import removal
from deployments.stages.removal import Removal, RoutersToldOfVoices
from pipeline.errors import StageUnavailableError

pytestmark = pytest.mark.unit
CLIP = "ab" * 32
_, *STAGES = Stages.of(Settings(llm_variants={"int4": LLMVariant()}))


class Handle:
    """A deployment of two replicas, which answer or fail."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.told: list[tuple[str, ...]] = []
        self._error = error

    def broadcast(self, *call: str) -> Handle:
        self.told.append(call)
        return self

    async def results_async(self, *, timeout_s: float) -> list[None]:
        assert timeout_s > 0
        await asyncio.sleep(0)
        if self._error is not None:
            raise self._error
        return [None, None]


@pytest.fixture
def routers(monkeypatch: pytest.MonkeyPatch):
    handle = Handle()

    def get_handle(name: str, app: str) -> Handle:
        assert (name, app) == ("Router", "timbre")
        return handle

    context = SimpleNamespace(deployment="Router", app_name="timbre")
    monkeypatch.setattr(removal.serve, "get_replica_context", lambda: context)
    monkeypatch.setattr(removal.serve, "get_deployment_handle", get_handle)
    return handle


async def test_routers_and_every_stage_are_told(routers):
    handles = {stage: Handle() for stage in STAGES}
    await Removal(handles).everywhere(CLIP)
    assert routers.told == [("forget", CLIP)]
    told = {stage.key: handle.told for stage, handle in handles.items()}
    assert told.pop("tokenizer") == []  # it keeps nothing
    assert told == {key: [("forget", CLIP)] for key in ("llm", "llm-int4", "vocoder", "jobs")}


async def test_of_a_tenants_clip_those_are_told_whose_who_know_tenants(routers):
    handles = {stage: Handle() for stage in STAGES}
    await Removal(handles).everywhere(CLIP, "acme")
    told = {stage.key: handle.told for stage, handle in handles.items() if handle.told}
    assert routers.told == told.pop("jobs") == [("forget", CLIP, "acme")]
    assert told == {key: [("forget", CLIP)] for key in ("llm", "llm-int4", "vocoder")}


async def test_stages_know_a_tenants_clip_by_a_name_of_its_own(routers):
    told: dict[str, list[tuple[str, ...]]] = {}
    for tenant in ("acme", "shared"):
        handles = {stage: Handle() for stage in STAGES if stage.keeps_voices}
        await Removal(handles, "shared").everywhere(CLIP, tenant)
        told[tenant] = [h.told[0] for stage, h in handles.items() if stage.key == "vocoder"]
    assert told == {"acme": [("forget", f"acme:{CLIP}")], "shared": [("forget", CLIP)]}


@pytest.mark.parametrize(
    "error",
    [
        StageUnavailableError("s3://secret-bucket does not answer"),
        RayActorError(),
        DeploymentUnavailableError(None),
        TimeoutError(),
    ],
)
@pytest.mark.parametrize("where", ["router", "llm", "vocoder"])
async def test_one_that_may_have_kept_it_fails_the_removal_but_not_the_others(
    routers, error, where
):
    stages = {
        stage: Handle(error if stage.key == where else None)
        for stage in STAGES
        if stage.keeps_voices
    }
    if where == "router":
        routers._error = error
    with pytest.raises(StageUnavailableError) as raised:
        await Removal(stages).everywhere(CLIP)
    assert "everywhere" in raised.value.message
    assert not {"bucket", "router", "llm", "vocoder"} & set(raised.value.message.split())
    assert all(handle.told for handle in [routers, *stages.values()])


async def test_a_tenants_clip_is_removed_as_the_tenants(routers):
    await RoutersToldOfVoices(Removal({})).forget(CLIP, "acme")
    assert routers.told == [("forget", CLIP, "acme")]


@pytest.mark.parametrize("error", [None, TimeoutError(), RayActorError()])
async def test_routers_hear_of_a_changed_voice_or_find_out_by_themselves(routers, error):
    routers._error = error
    await RoutersToldOfVoices(Removal({})).voice_changed("acme", "voice_1")
    assert routers.told == [("voice_changed", "acme", "voice_1")]
