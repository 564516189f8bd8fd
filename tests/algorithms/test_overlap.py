"""Collection and learning side by side: its schedule on a virtual clock, and with Ray."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from ray.rllib.utils.metrics.metrics_logger import MetricsLogger

from benchmarks import update_ratio
from benchmarks.overlap import write_dataset
from rllib_fmq.algorithms.algorithm import FlowMapAlgorithm
from rllib_fmq.rollout import sampling
from rllib_fmq.rollout.collection_stats import CollectionStats
from rllib_fmq.rollout.pipeline import RoundsInFlight
from tests.algorithms.exact import (
    differences,
    drift_config,
    snapshot,
    transitions,
    write_drift,
)
from tests.rollout.fake_group import Clock, FakeGroup

ROUND = 20


class Simulated(FlowMapAlgorithm):
    """The schedule alone: runners and learners take virtual time and do nothing."""

    def __init__(
        self,
        *,
        lag: int,
        step_seconds: float,
        update_seconds: float,
        utd: float = 1.0,
        num_steps: int = 4_000,
        **config: Any,
    ) -> None:
        settings: dict[str, Any] = {
            "online_env_steps": num_steps,
            "updates_per_iteration": 500,
            "utd_ratio": utd,
            "learning_starts": 100,
            "offline_updates": 0,
            "max_policy_lag": lag,
            "num_consecutive_env_runner_failures_tolerance": 3,
            "online_steps_per_round": lambda: ROUND,
        }
        self.config = SimpleNamespace(**(settings | config))
        self.clock = Clock()
        self.update_seconds = update_seconds
        self.env_runner_group = FakeGroup(2, self.clock, step_seconds)
        self.learner_group = SimpleNamespace(is_remote=False)
        self.metrics = MetricsLogger(root=True)
        self.num_offline_updates = self.num_online_updates = self.num_online_env_steps = 0
        self.num_updates = 0
        self._online = True
        self._stored_outside = False
        self._rounds = RoundsInFlight(self.env_runner_group)
        self._collection = CollectionStats()
        self.lags: list[int] = []
        self.ratios: list[float] = []
        self._rounds.use_policy(0)

    def _receive(self) -> Any:
        sampled = super()._receive()
        self.lags += [sampled.policy_lag] * len(sampled.fragments)
        return sampled

    def _update_learners(self, num_updates: int, fragments: Any = ()) -> None:
        self.clock.now += num_updates * self.update_seconds

    def _sync_weights(self) -> None:
        self._rounds.use_policy(self._rounds._policy.number + 1)
        steps = self.num_online_env_steps - self.config.learning_starts
        self.ratios.append(self.num_online_updates / (self.config.utd_ratio * steps))

    def restore_env_runners(self, env_runner_group: Any) -> list[int]:
        self.env_runner_group.restore()
        return []

    def run(self) -> Simulated:
        while self.phase == "online":
            self._online_iteration()
        return self


@pytest.fixture
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling.ray, "get", lambda reference: reference)


@pytest.mark.parametrize("lag", [0, 1, 3])
@pytest.mark.parametrize(("step", "update"), [(0.1, 0.001), (0.001, 0.1)])
def test_lag_and_update_ratio_are_held_whichever_side_is_faster(
    no_ray: None, lag: int, step: float, update: float
) -> None:
    algo = Simulated(lag=lag, step_seconds=step, update_seconds=update, utd=0.7, num_steps=20_000)
    algo.run()
    assert max(algo.lags) == lag
    assert algo.num_online_env_steps == 20_000
    assert algo.num_online_updates == int(0.7 * 19_900)
    assert all(abs(ratio - 1) < 0.01 for ratio in algo.ratios[20:])
    assert algo.env_runner_group.most_in_flight == max(1, lag)
    assert len(algo._rounds) == 0


@pytest.mark.parametrize("lag", [1, 3])
@pytest.mark.parametrize("update", [0.01, 0.05, 0.2])
def test_time_is_that_of_the_slower_side(no_ray: None, lag: int, update: float) -> None:
    algo = Simulated(lag=lag, step_seconds=0.1, update_seconds=update).run()
    collecting, updating = 4_000 / 2 * 0.1, 3_900 * update
    assert algo.clock.now < 1.03 * max(collecting, updating)
    alternating = Simulated(lag=0, step_seconds=0.1, update_seconds=update).run()
    assert alternating.clock.now == pytest.approx(collecting + updating)


def test_a_runner_that_dies_costs_its_steps_only(no_ray: None) -> None:
    algo = Simulated(lag=2, step_seconds=0.1, update_seconds=0.1)
    algo._online_iteration()
    assert len(algo._rounds) == 2
    algo.env_runner_group.dead |= {1, 2}
    algo.run()
    assert algo.num_online_env_steps == 4_000 and algo.num_online_updates == 3_900
    assert max(algo.lags) == 2


def test_what_is_stored_for_a_checkpoint_is_learned_from_afterwards(no_ray: None) -> None:
    algo = Simulated(lag=3, step_seconds=0.1, update_seconds=0.1)
    while algo.phase == "online":
        algo._online_iteration()
        before = algo.num_online_updates
        algo._store_rounds_in_flight()
        assert len(algo._rounds) == 0 and algo.num_online_updates == before
    assert algo.num_online_env_steps == 4_000
    assert algo.num_online_updates == 3_900  # those of the last rounds too
    assert max(algo.lags) <= 3


def test_a_round_left_over_by_a_surplus_is_stored_and_learned_from(no_ray: None) -> None:
    algo = Simulated(lag=2, step_seconds=0.1, update_seconds=0.1, updates_per_iteration=ROUND)
    while algo.num_online_env_steps + algo._rounds.num_steps < 4_000:
        algo._online_iteration()
    assert len(algo._rounds) == 2
    for runner in algo.env_runner_group.runners.values():
        runner.surplus = ROUND
    algo.run()
    assert len(algo._rounds) == 0
    stored = sum(runner._next for runner in algo.env_runner_group.runners.values())
    assert 4_000 < algo.num_online_env_steps == stored
    assert algo.num_online_updates == stored - 100
    assert max(algo.lags) == 2


def test_a_phase_ends_with_an_iteration_and_not_with_a_checkpoint(no_ray: None) -> None:
    # Nothing is owed for the last steps, which a checkpoint stores.
    algo = Simulated(
        lag=3,
        step_seconds=0.1,
        update_seconds=0.1,
        learning_starts=4_000,
        updates_per_iteration=8,
    )
    while algo.num_online_env_steps + algo._rounds.num_steps < 4_000:
        algo._online_iteration()
    algo._store_rounds_in_flight()
    assert algo.num_online_env_steps == 4_000 and algo.phase == "online"
    algo._online_iteration()
    assert algo.phase == "finished"


@pytest.mark.parametrize("lag", [0, 1])
def test_a_round_is_no_longer_than_an_iteration(no_ray: None, lag: int) -> None:
    algo = Simulated(lag=lag, step_seconds=0.1, update_seconds=0.1, updates_per_iteration=8)
    iterations = 0
    while algo.phase == "online":
        algo._online_iteration()
        iterations += 1
    assert iterations == 4_000 // 8


@pytest.fixture(scope="module")
def drift(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_drift(tmp_path_factory.mktemp("drift") / "drift.npz")


def test_alternating_with_one_remote_runner_is_the_run_of_one_process(
    ray_session: None, drift: Path
) -> None:
    ends = []
    for num_runners in (0, 1):
        config = drift_config("FMQ", drift).evaluation(evaluation_interval=None)
        config.env_runners(num_env_runners=num_runners, max_policy_lag=0)
        algo = config.build_algo()
        while not (result := algo.train())["done"]:
            assert result["phase"] == "offline" or result["collection"]["policy_lag_max"] == 0
        ends.append(snapshot(algo))
        algo.stop()
    assert differences(*ends) == []


@pytest.mark.slow
@pytest.mark.parametrize(("seconds", "lag"), [(0.0, 2), (update_ratio.SLOW_SECONDS, 1)])
def test_ratio_and_lag_are_held_over_real_steps(
    ray_session: None, tmp_path: Path, seconds: float, lag: int
) -> None:
    # benchmarks/update_ratio.py does the same over 20,000.
    dataset = write_dataset(tmp_path)
    reached = update_ratio.run("", dataset, steps=4_000, seconds=seconds, lag=lag)
    assert reached.steps == 4_000
    assert abs(reached.updates / (3_900 * update_ratio.UTD_RATIO) - 1) < 0.01
    assert reached.largest_lag <= lag
    assert reached.holds


def test_rounds_in_flight_with_losses_and_a_checkpoint(
    ray_session: None, drift: Path, tmp_path: Path
) -> None:
    def build() -> Any:
        config = drift_config("FMQ", drift, online_env_steps=560)
        config.evaluation(evaluation_interval=None)
        return config.env_runners(num_env_runners=2, max_policy_lag=2).build_algo()

    algo = build()
    lags = update_ratio.recorded_lags(algo)
    while algo.num_online_env_steps < 100:
        result = algo.train()
    assert len(algo._rounds) == 2
    assert max(lags) == 2 == result["collection"]["policy_lag_max"]
    assert result["collection"]["utd_ratio"] == pytest.approx(10 / 14, rel=0.02)

    ray.kill(algo.env_runner_group._worker_manager.actors()[2], no_restart=False)
    while algo.num_online_env_steps < 300:
        result = algo.train()
        assert sum(transitions(algo).values()) == algo.num_online_env_steps
    assert result["env_runners"]["num_fragments_lost"] == 2
    deadline = time.monotonic() + 120
    while algo.env_runner_group.num_healthy_remote_workers() < 2:
        assert time.monotonic() < deadline, "the runner did not come back"
        algo.restore_env_runners(algo.env_runner_group)
        time.sleep(0.5)
    algo.train()

    assert len(algo._rounds) == 2
    algo.save_to_path(tmp_path / "c")
    assert len(algo._rounds) == 0
    saved, before, steps = snapshot(algo), transitions(algo), algo.num_online_env_steps
    algo.train()
    assert before <= transitions(algo)
    assert max(lags) == 2
    algo.stop()

    again = build()
    again.restore_from_path(tmp_path / "c")
    assert differences(saved, snapshot(again)) == []
    assert again.num_online_env_steps == steps == sum(before.values())
    while not (result := again.train())["done"]:
        pass
    after = transitions(again)
    assert before <= after and max(after.values()) == 1
    assert sum(after.values()) == result["num_online_env_steps"] >= 560
    assert result["collection"]["utd_ratio"] == pytest.approx(10 / 14, rel=0.01)
    assert len(again._rounds) == 0
    again.stop()
