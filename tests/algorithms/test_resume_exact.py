"""A run that was stopped and resumed is the run that was never stopped, bit for bit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
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
    unfinished,
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

    def __init__(self, config: Any, checkpoints: Mapping[int, Path] | None = None) -> None:
        self.results: list[dict[str, Any]] = []
        algo = config.build_algo()
        self.states = [snapshot(algo)]
        while not self.results or not self.results[-1]["done"]:
            if path := (checkpoints or {}).get(len(self.results)):
                algo.save_to_path(path)
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
    at = {stop: unfinished(tmp_path / f"checkpoint_{n:06d}") for stop, n in STOPS.items()}
    assert at["at the switch"] == []
    assert at["inside an episode and a chunk"] == [(7, 3)] * 2


@pytest.mark.slow
def test_two_learners(ray_session: None, drift: Path, tmp_path: Path) -> None:
    config = drift_config("FMQ", drift).learners(num_learners=2)
    # Four processes instead of eight: that saving disturbs nothing is tested with local learners.
    whole = Whole(
        config.copy(copy_frozen=False), {n: tmp_path / f"checkpoint_{n:06d}" for n in (1, 3)}
    )
    algo = config.build_algo()
    for stop in (3, 1):
        algo.restore_from_path(tmp_path / f"checkpoint_{stop:06d}")
        whole.check(algo, stop)
    algo.stop()
    assert unfinished(tmp_path / "checkpoint_000003") == [(7, 3)] * 2


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
@pytest.mark.parametrize(
    ("name", "stops", "before", "after"),
    [
        ("FMQ", [1, 2, 3], 2, [2, 1]),
        ("QGBS", [3], 1, [3]),
        ("MVP", [3], 1, [1]),
        ("QC", [3], 1, [1]),
    ],
)
def test_remote_runners_lose_and_repeat_no_transition(
    ray_session: None,
    drift: Path,
    tmp_path: Path,
    name: str,
    stops: list[int],
    before: int,
    after: list[int],
) -> None:
    def config(num_runners: int) -> Any:
        chosen = drift_config(name, drift, online_env_steps=84).evaluation(evaluation_interval=None)
        return chosen.env_runners(num_env_runners=num_runners)

    algo = config(before).build_algo()
    saved = {}
    for iteration in range(1, max(stops) + 1):
        algo.train()
        if iteration in stops:
            algo.save_to_path(tmp_path / f"{iteration}")
            saved[iteration] = (snapshot(algo), transitions(algo), algo.num_online_env_steps)
            open_then = open_episodes(algo)
    algo.stop()
    running = unfinished(tmp_path / f"{max(stops)}")
    assert len(running) == 2 * before and any(steps and left for steps, left in running)
    for num_runners in after:
        again = config(num_runners).build_algo()
        # One set of processes for all stops; the first one finds them new.
        for stop in sorted(stops if num_runners == before else stops[-1:], reverse=True):
            again.restore_from_path(tmp_path / f"{stop}")
            assert differences(saved[stop][0], snapshot(again)) == []
            if stop == stops[-1]:  # they go on, or those of the runners that are left
                kept = open_episodes(again)
                assert kept == open_then if num_runners >= before else kept < open_then
            result = check_the_rest(again, drift, *saved[stop][1:])
            dropped = result["env_runners"]["num_episodes_not_resumed"]
            assert dropped == 2 * max(0, before - num_runners)
        again.stop()


def open_episodes(algo: Any) -> set[str]:
    """Those to which the first learner may add rows."""
    return set(algo.ask_learners(lambda learner: learner.replay.counts.open)[0])


def check_the_rest(algo: Any, drift: Path, before: Counter[bytes], steps: int) -> Any:
    """Train a resumed run to its end, where every transition is stored once; the last result."""
    assert algo.num_online_env_steps == steps == sum(before.values())
    while not (result := algo.train())["done"]:
        pass
    after = transitions(algo)
    assert before <= after
    assert sum(after.values()) == result["num_online_env_steps"] >= 84 > steps
    assert max(after.values()) == 1
    rows = result["learners"]["default_policy"]["replay_size"]
    assert rows == sum(after.values()) + len_of(drift)
    return result


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
