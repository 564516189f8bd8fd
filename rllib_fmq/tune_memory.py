"""Keeps Ray Tune from holding on to all results of a trial until it ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ray.air.execution._internal.actor_manager import RayActorManager
from ray.tune.execution import tune_controller


class ForgetfulActorManager(RayActorManager):
    """Drops the references to an actor's tasks whose results were handled.

    Ray's own keeps them as long as the actor lives, and thereby each result: some 50 kB an
    iteration of ours in the command's memory.
    """

    def _actor_task_resolved(self, tracked_actor_task: Any, result: Any) -> None:
        # All that are not awaited any more, this one included.
        kept = self._tracked_actors_to_task_futures.get(tracked_actor_task._tracked_actor, set())
        kept.intersection_update(self._actor_task_events.get_futures())
        super()._actor_task_resolved(tracked_actor_task, result)


@contextmanager
def bounded_tune_memory() -> Iterator[None]:
    """Let experiments that are run in this block need no more memory the longer they take."""
    stock = tune_controller.RayActorManager
    tune_controller.RayActorManager = ForgetfulActorManager
    try:
        yield
    finally:
        tune_controller.RayActorManager = stock
