"""Does Tune let go of results that it has handled?"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import ray
from ray.air.execution import FixedResourceManager
from ray.air.execution._internal.actor_manager import RayActorManager
from ray.air.execution._internal.tracked_actor import TrackedActor
from ray.tune.execution import tune_controller

from rllib_fmq.tune_memory import ForgetfulActorManager, bounded_tune_memory


class Actor:
    """Stands for one of Ray's: its only method gives a reference."""

    class train:
        @staticmethod
        def remote() -> ray.ObjectRef:
            return ray.ObjectRef.from_random()


def held_after(
    manager_class: type, finished: int, waiting: int, monkeypatch: pytest.MonkeyPatch
) -> int:
    """How many references are held after some tasks came back and others have not."""
    manager = manager_class(FixedResourceManager({"CPU": 1}))
    monkeypatch.setattr(ray, "get", lambda reference: {"training_iteration": 1})
    actor = TrackedActor(1)
    manager._live_actors_to_ray_actors_resources[actor] = (Actor(), SimpleNamespace())
    results: list[Any] = []
    for _ in range(waiting):
        manager.schedule_actor_task(actor, "train")
    events = manager._actor_task_events
    unfinished = events.get_futures()
    for _ in range(finished):
        manager.schedule_actor_task(actor, "train", on_result=lambda a, r: results.append(r))
        (future,) = events.get_futures() - unfinished
        events.resolve_future(future)
    assert results == [{"training_iteration": 1}] * finished
    assert events.get_futures() == unfinished
    held = manager._tracked_actors_to_task_futures[actor]
    assert held >= unfinished
    manager.clear_actor_task_futures(actor)
    assert not events.get_futures()
    return len(held)


def test_results_that_were_handled_are_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    assert held_after(ForgetfulActorManager, finished=5, waiting=2, monkeypatch=monkeypatch) == 2


def test_rays_own_keeps_them(monkeypatch: pytest.MonkeyPatch) -> None:
    # Once it does not, rllib_fmq.tune_memory can go.
    assert held_after(RayActorManager, finished=5, waiting=2, monkeypatch=monkeypatch) == 7


def test_tune_is_changed_for_our_experiments_only() -> None:
    with pytest.raises(KeyError), bounded_tune_memory():
        assert tune_controller.RayActorManager is ForgetfulActorManager
        raise KeyError
    assert tune_controller.RayActorManager is RayActorManager
