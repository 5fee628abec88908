"""The policy on traces: what a stage has of replicas while work comes, stays and goes."""

from __future__ import annotations

import importlib.abc
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
from ray import cloudpickle
from ray.serve import autoscaling_policy
from ray.serve._private.common import TimeStampedValue
from ray.serve.config import AutoscalingConfig

from deployments.config.scaling_settings import POLICY
from deployments.scaling import policy
from deployments.scaling.policy import Aims, Work, by_work, told, wanted

pytestmark = pytest.mark.unit

AIMS = Aims(busy=0.5, queue_age_s=1.0, cache=0.8, spare=0)
IDLE = Work(0, 8)
LOOK_BACK_S = 30


def steady(*works: Work) -> list[list[Work]]:
    return [list(works)] * 3


def busy(n: float, **more: float) -> Work:
    return Work(n, 8, **more)


@pytest.mark.parametrize(
    ("works", "needs"),
    [
        ([busy(4)], 1),
        ([busy(5)], 2),
        ([busy(8)], 2),
        ([busy(8), busy(8)], 4),
        ([busy(4), busy(4)], 2),
        ([busy(0), busy(8)], 2),
        ([busy(0), busy(9)], 3),
    ],
)
def test_busy_slots_are_shared_out(works: list[Work], needs: int) -> None:
    assert wanted(steady(*works), AIMS, running=len(works), target=len(works)) == needs


@pytest.mark.parametrize(
    ("age_s", "running", "needs"),
    [(0.9, 1, 1), (1.1, 1, 2), (100.0, 1, 2), (1.2, 5, 6), (1.5, 4, 6), (60.0, 4, 8)],
)
def test_a_queue_that_ages_is_an_answer_too_few(age_s: float, running: int, needs: int) -> None:
    """By as much as it is too old, and never more than twice of what runs."""
    works = [busy(1, queue_age_s=age_s), *[busy(3)] * (running - 1)]
    assert wanted(steady(*works), AIMS, running=running, target=running) == needs


def test_refusals_count_as_a_queue_of_any_age() -> None:
    assert wanted(steady(busy(1, refused=1)), AIMS, running=1, target=1) == 2


@pytest.mark.parametrize(("used", "needs"), [(0, 1), (79, 1), (81, 2), (160, 2), (161, 3)])
def test_bytes_of_the_work_at_hand_count(used: float, needs: int) -> None:
    work = busy(1, cache_bytes=used, cache_limit_bytes=100)
    assert wanted(steady(work), AIMS, running=1, target=1) == needs


def test_without_a_limit_bytes_do_not_count() -> None:
    assert wanted(steady(busy(1, cache_bytes=1e12)), AIMS, running=1, target=1) == 1


def test_the_warm_pool_is_beyond_what_the_work_needs() -> None:
    aims = replace(AIMS, spare=2)
    assert wanted(steady(IDLE, IDLE), aims, running=2, target=2) == 2
    assert wanted(steady(busy(4), IDLE), aims, running=2, target=2) == 3
    assert wanted(steady(busy(4), busy(4), busy(1)), aims, running=3, target=3) == 5


def test_nothing_to_do_needs_nobody() -> None:
    assert wanted(steady(IDLE, IDLE), AIMS, running=2, target=2) == 0


def test_without_replicas_serve_itself_starts_the_first() -> None:
    assert wanted([], AIMS, running=0, target=0) == 0
    assert wanted([], AIMS, running=0, target=1) == 1


def test_one_that_did_not_tell_yet_may_be_busy_or_not() -> None:
    """The stage may grow meanwhile, it does not shrink."""
    assert wanted(steady(IDLE), AIMS, running=2, target=2) == 2
    assert wanted(steady(busy(8)), AIMS, running=2, target=2) == 2
    assert wanted(steady(busy(8), busy(8)), AIMS, running=3, target=3) == 4


def test_it_shrinks_only_where_room_is_left() -> None:
    """Between the two borders lie loads that neither grow nor shrink a stage."""
    sizes = {n: wanted(steady(busy(n / 2), busy(n / 2)), AIMS, running=2, target=2) for n in (3, 4)}
    assert sizes == {3: 1, 4: 2}
    assert wanted(steady(busy(4)), AIMS, running=1, target=1) == 1


def test_it_shrinks_by_the_most_of_all_at_a_time() -> None:
    """Not by the sum of what each had at its worst."""
    in_turns = [[busy(5), busy(0)], [busy(0), busy(5)]]
    assert wanted(in_turns, AIMS, running=2, target=2) == 2
    in_turns = [[busy(3), busy(0)], [busy(0), busy(3)]]
    assert wanted(in_turns, AIMS, running=2, target=2) == 1
    assert wanted([[IDLE, IDLE], [busy(3), busy(3)]], AIMS, running=2, target=2) == 2


def test_what_was_asked_for_is_not_taken_back_while_it_starts() -> None:
    late = busy(4, queue_age_s=3.0)
    first = wanted(steady(late), AIMS, running=1, target=1)
    assert first == 2
    assert wanted(steady(replace(late, queue_age_s=9.0)), AIMS, running=1, target=first) == 2
    assert wanted(steady(busy(4)), AIMS, running=1, target=first) == 2


def test_a_spent_replica_gets_another_beside_it_and_nobody_goes_meanwhile() -> None:
    spent = busy(1, is_spent=1)
    assert wanted(steady(spent), AIMS, running=1, target=1) == 2
    assert wanted(steady(spent), AIMS, running=1, target=2) == 2
    assert wanted(steady(spent, IDLE), AIMS, running=2, target=2) == 2, "the other one stands in"
    assert wanted(steady(IDLE, IDLE), AIMS, running=2, target=2) == 0
    assert wanted(steady(spent, spent), AIMS, running=2, target=2) == 3
    assert wanted(steady(spent, busy(8), busy(8)), AIMS, running=3, target=3) == 5


@dataclass
class Fleet:
    """A stage on a clock of its own: replicas, what they tell, Serve's delays around the policy.

    A replica takes start_s to start. load: slots asked for at a time.
    """

    load: Callable[[float], float]
    aims: Aims = AIMS
    slots: int = 8
    start_s: float = 10.0
    least: int = 1
    most: int = 16
    up_s: float = 3.0
    down_s: float = 60.0
    zero_s: float = 60.0
    started_s: list[float] = field(default_factory=lambda: [-100.0])
    history: list[tuple[float, dict[str, float]]] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    waited_since_s: float | None = None

    def run(self, until_s: float, patch: pytest.MonkeyPatch) -> list[int]:
        config = AutoscalingConfig(
            min_replicas=self.least,
            max_replicas=self.most,
            upscale_delay_s=self.up_s,
            downscale_delay_s=self.down_s,
            downscale_to_zero_delay_s=self.zero_s,
        )
        decide = autoscaling_policy._apply_autoscaling_config(by_work)
        state: dict[str, Any] = {}
        now_s = 0.0
        patch.setattr(autoscaling_policy, "time", SimpleNamespace(time=lambda: now_s))
        while now_s < until_s:
            running = sum(now_s - began_s >= self.start_s for began_s in self.started_s)
            self.history.append((now_s, told(self.work(now_s, running), self.aims)))
            size, state = decide(self.context(now_s, running, config, state))  # type: ignore[arg-type]
            self.resize(size, now_s)
            self.sizes.append(len(self.started_s))
            now_s += 1.0
        return self.sizes

    def work(self, now_s: float, running: int) -> Work:
        """Of each: all share the load, and what does not fit waits."""
        asked = self.load(now_s)
        if asked > running * self.slots:
            self.waited_since_s = now_s if self.waited_since_s is None else self.waited_since_s
        else:
            self.waited_since_s = None
        age_s = 0.0 if self.waited_since_s is None else now_s - self.waited_since_s
        used = min(asked / max(running, 1), self.slots)
        return Work(used, self.slots, age_s)

    def context(
        self, now_s: float, running: int, config: AutoscalingConfig, state: dict[str, Any]
    ) -> SimpleNamespace:
        lately = self.history[-LOOK_BACK_S:]
        series = {
            name: [TimeStampedValue(at_s, one[name]) for at_s, one in lately]
            for name in lately[-1][1]
        }
        metrics = {name: dict.fromkeys(range(running), series[name]) for name in series}
        return SimpleNamespace(
            current_num_replicas=running,
            target_num_replicas=len(self.started_s),
            capacity_adjusted_min_replicas=self.least,
            capacity_adjusted_max_replicas=self.most,
            current_time=now_s,
            raw_metrics=metrics,
            config=config,
            policy_state=state,
            total_num_requests=self.load(now_s),
        )

    def resize(self, size: int, now_s: float) -> None:
        size = max(self.least, min(self.most, size))
        self.started_s += [now_s] * (size - len(self.started_s))
        del self.started_s[size:]


def changes(sizes: list[int]) -> Iterator[int]:
    yield from (after - before for before, after in pairwise(sizes) if after != before)


def test_a_step_is_followed_up_and_down(monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = Fleet(lambda s: 12.0 if 10 <= s < 300 else 1.0)
    sizes = fleet.run(500, monkeypatch)
    assert sizes[9] == 1
    assert sizes[14] == 2, "three seconds after the step, of which half does not fit"
    assert max(sizes) == sizes[40] == sizes[299] == 3
    assert sizes[-1] == 1
    assert sum(change < 0 for change in changes(sizes)) == 1, "down in one go, and for good"
    back_s = sizes.index(1, 40)
    assert 300 + fleet.down_s <= back_s <= 300 + fleet.down_s + LOOK_BACK_S + 2


def test_a_short_spike_starts_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = Fleet(lambda s: 20.0 if s % 50 < 2 else 1.0).run(400, monkeypatch)
    assert set(sizes) == {1}


def test_a_long_spike_starts_some_and_they_stay_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = Fleet(lambda s: 40.0 if 20 <= s < 60 else 2.0)
    sizes = fleet.run(300, monkeypatch)
    assert 2 < max(sizes) <= 10
    assert sizes[60 + int(fleet.down_s)] == max(sizes)
    assert sizes[-1] == 1


@pytest.mark.parametrize("period_s", [4, 10, 20, 40])
def test_a_load_that_flaps_does_not_make_the_stage_flap(
    period_s: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = Fleet(lambda s: 12.0 if s % period_s < period_s / 2 else 1.0).run(600, monkeypatch)
    assert all(change > 0 for change in changes(sizes)), "it never shrank"


def test_a_load_at_the_border_does_not_make_it_flap(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = Fleet(lambda s: 4.1 if int(s / 45) % 2 else 3.9).run(450, monkeypatch)
    assert list(changes(sizes)) == [1]


def test_nobody_is_kept_for_nothing_where_none_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = Fleet(lambda s: 1.0 if s < 5 or 120 <= s < 150 else 0.0, least=0, most=2)
    sizes = fleet.run(250, monkeypatch)
    asleep_s = sizes.index(0)
    assert 5 + fleet.zero_s <= asleep_s <= 5 + fleet.zero_s + LOOK_BACK_S + 2
    assert sizes[119] == 0
    assert sizes[120] == 1, "woken at once, without delay"
    assert sizes[149] == 1
    assert sizes[-1] == 0


def test_the_warm_pool_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    aims = replace(AIMS, spare=1)
    sizes = Fleet(lambda s: 8.0 if 50 <= s < 200 else 0.0, aims).run(400, monkeypatch)
    assert sizes[49] == 1
    assert sizes[199] == 3
    assert sizes[-1] == 1


def test_a_replica_that_fell_silent_is_not_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = Fleet(lambda _: 12.0)
    fleet.run(5, monkeypatch)
    config = AutoscalingConfig(min_replicas=1, max_replicas=9)
    context = fleet.context(4.0, 1, config, {})
    context.target_num_replicas = 5
    assert by_work(context)[0] == 3  # type: ignore[arg-type]
    context.current_time = 5.0 + policy.STALE_S
    assert by_work(context)[0] == 5  # type: ignore[arg-type]


def test_a_replica_of_before_an_update_tells_nothing_that_hurts() -> None:
    metrics = {
        "busy": {1: [TimeStampedValue(5.0, 3.0)]},
        "slots": {1: [TimeStampedValue(5.0, 8.0)]},
    }
    context = SimpleNamespace(raw_metrics=metrics, current_time=5.0, target_num_replicas=2)
    assert by_work(context) == (2, {})  # type: ignore[arg-type]


class Refused(importlib.abc.MetaPathFinder):
    """A machine without our package."""

    def find_spec(self, fullname: str, *_: object) -> None:
        if fullname.partition(".")[0] == "deployments":
            raise ModuleNotFoundError(fullname)


def test_the_controller_loads_it_without_our_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """As Serve pickles a policy: its module by value, and what that imports by name."""
    assert f"{policy.__name__}:{by_work.__name__}" == POLICY
    cloudpickle.register_pickle_by_value(policy)
    try:
        pickled = cloudpickle.dumps(policy.by_work)
    finally:
        cloudpickle.unregister_pickle_by_value(policy)
    fleet = Fleet(lambda _: 12.0)
    fleet.run(5, monkeypatch)
    context = fleet.context(4.0, 1, AutoscalingConfig(max_replicas=9), {})
    for name in [name for name in sys.modules if name.partition(".")[0] == "deployments"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Refused(), *sys.meta_path])
    assert cloudpickle.loads(pickled)(context) == (2, {})
