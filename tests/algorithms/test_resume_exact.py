"""A run that was stopped and resumed is the run that was never stopped, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rllib_fmq import ALGORITHMS
from tests.algorithms.exact import (
    differences,
    drift_config,
    of_result,
    snapshot,
    transitions,
    write_drift,
)

STOPS = {
    "before the first update": 0,
    "in the offline phase": 1,
    "at the switch": 2,
    "inside an episode and a chunk": 3,
    "later online": 5,
}
"""Iterations before the checkpoint. Online each environment makes 7 steps in one; chunks have 5."""


@pytest.fixture(scope="module")
def drift(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_drift(tmp_path_factory.mktemp("drift") / "drift.npz")


class Whole:
    """An uninterrupted run: what it reported, and what it was, after each iteration."""

    def __init__(self, config: Any) -> None:
        self.results: list[dict[str, Any]] = []
        algo = config.build_algo()
        self.states = [snapshot(algo)]
        while not self.results or not self.results[-1]["done"]:
            self.results.append(of_result(algo.train()))
            self.states.append(snapshot(algo))
        algo.stop()

    def check(self, algo: Any, iteration: int) -> None:
        """Whether a run that has done so many iterations is this one, now and to its end."""
        assert differences(self.states[iteration], snapshot(algo)) == []
        for result in self.results[iteration:]:
            assert differences(result, of_result(algo.train())) == []
        assert differences(self.states[-1], snapshot(algo)) == []


def stop_and_resume(config: Callable[[], Any], folder: Path, stops: list[int]) -> None:
    whole = Whole(config())
    saving = config().build_algo()
    for iteration, result in enumerate(whole.results):
        if iteration in stops:
            saving.save_to_path(folder / f"checkpoint_{iteration:06d}")
        assert differences(result, of_result(saving.train())) == []  # saving disturbs nothing
    saving.stop()
    evaluated = [r["evaluated_this_iteration"] for r in whole.results]
    assert any(evaluated) and not all(evaluated)
    for iteration in stops:
        algo = config().build_algo()
        algo.restore_from_path(folder / f"checkpoint_{iteration:06d}")
        whole.check(algo, iteration)
        algo.stop()


@pytest.mark.parametrize("name", list(ALGORITHMS))
def test_resumed_runs_are_the_uninterrupted_run(
    ray_session: None, drift: Path, tmp_path: Path, name: str
) -> None:
    stop_and_resume(lambda: drift_config(name, drift), tmp_path, list(STOPS.values()))


@pytest.mark.slow
def test_two_learners(ray_session: None, drift: Path, tmp_path: Path) -> None:
    stop_and_resume(lambda: drift_config("FMQ", drift).learners(num_learners=2), tmp_path, [3])


def test_a_full_ring_and_an_episode_that_goes_on(
    ray_session: None, drift: Path, tmp_path: Path
) -> None:
    rows = len_of(drift)
    stop_and_resume(
        lambda: drift_config("FMQ", drift).training(replay_capacity=rows + 20), tmp_path, [4, 6]
    )


def len_of(dataset: Path) -> int:
    """Rows of a dataset."""
    return len(np.load(dataset)["rewards"])


@pytest.mark.slow
def test_remote_runners_lose_and_repeat_no_transition(
    ray_session: None, drift: Path, tmp_path: Path
) -> None:
    def config() -> Any:
        return drift_config("FMQ", drift, online_env_steps=168).env_runners(num_env_runners=2)

    algo = config().build_algo()
    for _ in range(4):
        algo.train()
    algo.save_to_path(tmp_path / "c")
    saved, steps = snapshot(algo), algo.num_online_env_steps
    before = transitions(algo)
    algo.stop()
    again = config().build_algo()
    again.restore_from_path(tmp_path / "c")
    assert differences(saved, snapshot(again)) == []
    assert again.num_online_env_steps == steps == sum(before.values())
    while not (result := again.train())["done"]:
        pass
    after = transitions(again)
    again.stop()
    assert before <= after
    assert sum(after.values()) == result["num_online_env_steps"] >= 168
    assert max(after.values()) == 1
    rows = result["learners"]["default_policy"]["replay_size"]
    assert rows == sum(after.values()) + len_of(drift)


def test_another_number_of_learners_goes_on(ray_session: None, drift: Path, tmp_path: Path) -> None:
    algo = drift_config("FMQ", drift).build_algo()
    for _ in range(3):
        algo.train()
    algo.save_to_path(tmp_path / "c")
    saved, steps = transitions(algo), algo.num_online_env_steps
    algo.stop()
    more = drift_config("FMQ", drift).learners(num_learners=1).build_algo()
    more.restore_from_path(tmp_path / "c")
    assert transitions(more) == saved and more.num_online_env_steps == steps
    assert more.train()["num_online_env_steps"] > steps
    more.stop()
