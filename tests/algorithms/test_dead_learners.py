"""Errors of learners beside one that died."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from ray.exceptions import ActorDiedError, RayActorError, RayError

from rllib_fmq.algorithms import dead_learners
from rllib_fmq.algorithms.dead_learners import deaths_named


class Closed(RayError, RuntimeError):
    """What another learner's task raises when the connection to a dead one closes."""


class Diverged(RayError, FloatingPointError):
    """As Ray raises a learner's FloatingPointError."""


def group(monkeypatch: pytest.MonkeyPatch, *deaths: Exception | None) -> Any:
    """Learners, of whom some are dead."""

    def get(answer: Exception | None) -> None:
        if answer is not None:
            raise answer

    monkeypatch.setattr(dead_learners.ray, "get", get)
    monkeypatch.setattr(dead_learners.ray, "wait", lambda answers, **_: (answers, []))
    calls = [SimpleNamespace(remote=lambda death=death: death) for death in deaths]
    return SimpleNamespace(
        is_remote=True, _workers=[SimpleNamespace(__ray_ready__=call) for call in calls]
    )


def test_a_death_goes_before_the_errors_that_it_causes(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        pytest.raises(ActorDiedError) as raised,
        deaths_named(group(monkeypatch, None, ActorDiedError())),
    ):
        raise Closed("gloo: connection closed by peer")
    assert isinstance(raised.value.__cause__, Closed)


@pytest.mark.parametrize("dead", [None, ActorDiedError()])
def test_divergence_stays(monkeypatch: pytest.MonkeyPatch, dead: Exception | None) -> None:
    with pytest.raises(Diverged), deaths_named(group(monkeypatch, None, dead)):
        raise Diverged


def test_errors_without_a_death_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Closed), deaths_named(group(monkeypatch, None, None)):
        raise Closed
    with pytest.raises(Closed), deaths_named(SimpleNamespace(is_remote=False)):
        raise Closed


@pytest.mark.slow
def test_the_death_of_one_of_two_learners(
    ray_session: None, small_config: Callable[..., Any]
) -> None:
    algo = small_config().learners(num_learners=2, num_cpus_per_learner=0.5).build_algo()
    try:
        algo.train()
        ray.kill(algo.learner_group._workers[1])
        with pytest.raises(RayActorError):
            algo.train()
    finally:
        algo.stop()
