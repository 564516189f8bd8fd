"""Rounds in flight: what is requested, with which weights, and what losses cost."""

from __future__ import annotations

from typing import Any

import pytest

from rllib_fmq.rollout import pipeline, sampling
from rllib_fmq.rollout.faults import EnvFaultLimitError
from rllib_fmq.rollout.pipeline import RoundsInFlight

from .fake_group import Clock, FakeGroup


@pytest.fixture(autouse=True)
def killed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """No Ray: references are what they refer to; indices of the runners that were killed."""
    indices: list[int] = []
    monkeypatch.setattr(sampling.ray, "get", lambda reference: reference)
    monkeypatch.setattr(
        pipeline.ray, "kill", lambda actor, no_restart: indices.append(actor.worker_index)
    )
    return indices


def rounds_of(num_runners: int) -> tuple[RoundsInFlight, FakeGroup]:
    group = FakeGroup(num_runners, Clock())
    return RoundsInFlight(group, timeout_s=1.0), group


def test_a_round_is_shared_and_collected_oldest_first() -> None:
    rounds, group = rounds_of(2)
    rounds.request(20)
    rounds.request(7)
    assert (len(rounds), rounds.num_steps) == (2, 28)  # shares are whole numbers
    first = rounds.collect()
    assert (first.num_steps, len(first.metrics), first.num_fragments_lost) == (20, 2, 0)
    assert first.fragments == [[list(range(10))], [list(range(10))]]
    assert rounds.collect().num_steps == 8
    assert [runner.requested for runner in group.runners.values()] == [[10, 4], [10, 4]]
    assert rounds.collect().metrics == [] and len(rounds) == 0


def test_the_local_runner_collects_when_it_is_waited_for() -> None:
    rounds, group = rounds_of(0)
    rounds.request(5)
    assert group.local_env_runner.requested == []
    # Both environments take a step at a time.
    assert rounds.collect().fragments == [[list(range(6))]]


def test_requests_carry_the_newest_weights_and_skip_versions() -> None:
    rounds, group = rounds_of(1)
    rounds.use_policy("first")
    rounds.request(3)
    rounds.request(3)
    rounds.use_policy("second")
    rounds.use_policy("third")
    rounds.request(3)
    lags = [rounds.collect().policy_lag for _ in range(3)]
    assert lags == [2, 2, 0]
    assert group.runners[1].weights == ["first", "third"]  # each once


def test_a_dead_runner_is_counted_once_and_the_others_go_on(killed: list[int]) -> None:
    rounds, group = rounds_of(2)
    for _ in range(3):
        rounds.request(4)
    group.dead.add(2)
    sampled = [rounds.collect() for _ in range(3)]
    assert [part.num_fragments_lost for part in sampled] == [2, 0, 0]
    assert [part.num_steps for part in sampled] == [2, 2, 2]
    assert killed == []  # Ray knows that it is dead


def test_a_hung_runner_is_killed_and_its_later_requests_are_dropped(killed: list[int]) -> None:
    rounds, group = rounds_of(2)
    rounds.request(4)
    rounds.request(4)
    group.hung.add(1)
    assert rounds.collect().num_fragments_lost == 2
    assert killed == [1] and group.healthy == {2}
    assert rounds.num_steps == 2
    group.restore()
    rounds.request(4)
    rounds.request(4)
    assert [rounds.collect().num_steps for _ in range(3)] == [2, 4, 4]
    assert killed == [1]
    # Were it the same process still, its episodes would have a gap.
    assert [runner.num_drops for runner in group.runners.values()] == [1, 0]


def test_a_runner_that_came_back_meanwhile_is_not_killed(killed: list[int]) -> None:
    rounds, group = rounds_of(2)
    rounds.request(4)
    group.set_actor_state(1, healthy=False)  # as RLlib does where another call found it dead
    group.restore()
    rounds.request(4)
    assert rounds.collect().num_fragments_lost == 2
    assert group.healthy == {1, 2} and killed == []
    assert rounds.collect().num_steps == 4  # of both: this request came after
    assert [runner.num_drops for runner in group.runners.values()] == [1, 0]


def test_a_restarted_runner_without_weights_gives_nothing(killed: list[int]) -> None:
    rounds, group = rounds_of(2)
    rounds.request(4)
    rounds.request(4)
    group.runners[2].awaits_weights = True
    assert rounds.collect().num_fragments_lost == 2
    assert group.healthy == {1} and killed == []
    assert rounds.collect().num_steps == 2


def test_where_nobody_is_left_nothing_is_requested() -> None:
    rounds, group = rounds_of(1)
    rounds.request(4)
    rounds.request(4)
    group.dead.add(1)
    assert rounds.collect().num_fragments_lost == 2
    assert len(rounds) == 0  # the later round had no other runner
    rounds.request(4)
    assert len(rounds) == 0
    assert rounds.collect().metrics == []


def test_too_many_faults_are_raised_here(monkeypatch: pytest.MonkeyPatch) -> None:
    rounds, group = rounds_of(2)

    def fail(**kwargs: Any) -> None:
        raise EnvFaultLimitError("broken")

    monkeypatch.setattr(group.runners[1], "sample", fail)
    rounds.request(4)
    with pytest.raises(EnvFaultLimitError, match="broken"):
        rounds.collect()
    assert group.healthy == {1, 2}


def test_discarding_waits_and_raises_nothing(
    killed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds, group = rounds_of(2)
    rounds.request(4)
    rounds.request(4)
    group.hung.add(2)
    rounds.discard()
    assert len(rounds) == 0 and group.in_flight == {} and killed == [2]
    assert group.runners[1].requested == [2, 2]
