"""Ray's errors become ours at the border, and gauges come from whoever answers."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
import ray.exceptions
from ray.serve._private.common import DeploymentID
from ray.serve._private.replica import UserCallableWrapper
from ray.serve.exceptions import (
    BackPressureError,
    DeploymentUnavailableError,
    RayServeException,
    ReplicaUnavailableError,
    RequestCancelledError,
)

from deployments.stages.clients import (
    RemoteStatus,
)
from deployments.stages.replies import did_not_know, stage_errors
from pipeline.errors import (
    CapacityError,
    StageError,
    StageTimeoutError,
    StageUnavailableError,
    TextError,
)
from tests.fakes import FakeHandle, as_ray_raises
from tests.unit.deployments.stages.remote import LLM, gone

pytestmark = [pytest.mark.unit, pytest.mark.usefixtures("virtual_time")]
INSIDE = "/srv/models at 10.0.0.7"
DEPLOYMENT = DeploymentID(name="LLM", app_name="timbre")
RAY_ERRORS: list[tuple[Exception, type[Exception], str]] = [
    (as_ray_raises(TextError("empty", param="input")), TextError, "empty"),
    (as_ray_raises(CapacityError("all busy")), CapacityError, "all busy"),
    (as_ray_raises(StageError("it broke", detail=INSIDE)), StageError, "it broke"),
    (as_ray_raises(ValueError(INSIDE)), StageError, "the LLM failed"),
    (ray.exceptions.ActorDiedError(), StageUnavailableError, "replica went away"),
    (
        ray.exceptions.ActorUnavailableError(INSIDE, None),
        StageUnavailableError,
        "replica went away",
    ),
    (ray.exceptions.NodeDiedError(INSIDE), StageUnavailableError, "replica went away"),
    (ray.exceptions.WorkerCrashedError(), StageUnavailableError, "replica went away"),
    (ray.exceptions.OutOfMemoryError(INSIDE), StageUnavailableError, "replica went away"),
    (ray.exceptions.OwnerDiedError("0" * 56, None, ""), StageUnavailableError, "replica went away"),
    (DeploymentUnavailableError(DEPLOYMENT), StageUnavailableError, "replica went away"),
    (ReplicaUnavailableError(INSIDE), StageUnavailableError, "replica went away"),
    (BackPressureError(3, 3), CapacityError, "queue is full"),
    (TimeoutError(INSIDE), StageTimeoutError, "did not answer in time"),
    (ray.exceptions.GetTimeoutError(INSIDE), StageTimeoutError, "did not answer in time"),
    (ray.exceptions.ObjectLostError("0" * 56, None, ""), StageError, "the LLM failed"),
    (ray.exceptions.RaySystemError(INSIDE), StageError, "the LLM failed"),
    (RequestCancelledError("an-id"), StageError, "the LLM failed"),
]


@pytest.mark.parametrize(
    ("raised", "kind", "says"), RAY_ERRORS, ids=[type(row[0]).__name__ for row in RAY_ERRORS]
)
def test_what_ray_raises_becomes_ours(raised: Exception, kind: type, says: str) -> None:
    with pytest.raises(kind) as caught, stage_errors("LLM"):
        raise raised
    assert type(caught.value) is kind
    assert says in caught.value.message
    assert INSIDE not in caught.value.message
    assert caught.value.__cause__ is raised


def test_what_a_replica_does_not_have_is_told_from_what_fails_in_it() -> None:
    """By Serve's own words."""
    older: Any = SimpleNamespace(_cached_user_method_info={}, _is_function=False, _callable=LLM(1))
    with pytest.raises(RayServeException) as said:
        UserCallableWrapper.get_user_method_info(older, "speak_aloud")
    for cause, is_it in (
        (said.value, True),
        (RayServeException("it broke"), False),
        (TypeError("Tried to call a method"), False),
    ):
        raised = ray.exceptions.RayTaskError("ServeReplica.handle_request", "traceback", cause)
        with pytest.raises(StageError) as caught, stage_errors("LLM"):
            raise raised
        assert did_not_know(caught.value) is is_it
    assert not did_not_know(StageError("of ours"))


def test_what_nobody_knows_passes() -> None:
    with pytest.raises(ZeroDivisionError), stage_errors("LLM"):
        raise ZeroDivisionError


class Replica:
    def __init__(self, answer: dict[str, int] | Exception | float) -> None:
        self.answer = answer

    async def status(self) -> dict[str, int]:
        if isinstance(self.answer, Exception):
            raise self.answer
        if isinstance(self.answer, float):
            await asyncio.sleep(self.answer)
            return {}
        return self.answer


async def test_gauges_of_those_that_answer() -> None:
    status = RemoteStatus("LLM", FakeHandle(Replica({"n": 1}), Replica(gone())))  # type: ignore[arg-type]
    assert await status.replicas() == [{"n": 1}]


async def test_one_replica_that_hangs_does_not_hide_the_others() -> None:
    handle = FakeHandle(Replica({"n": 1}), Replica(99.0))
    assert await RemoteStatus("LLM", handle).replicas() == [{"n": 1}]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("replicas", "kind"),
    [
        ([], StageUnavailableError),
        ([Replica(gone())], StageUnavailableError),
        ([Replica(99.0), Replica(99.0)], StageTimeoutError),
    ],
    ids=["none", "gone", "silent"],
)
async def test_no_gauges(replicas: list[Replica], kind: type[Exception]) -> None:
    with pytest.raises(kind):
        await RemoteStatus("LLM", FakeHandle(*replicas)).replicas()  # type: ignore[arg-type]
