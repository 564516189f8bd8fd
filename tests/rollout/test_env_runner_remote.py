"""Remote env-runners that die, hang or give up; nothing is lost or counted twice."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray

from rllib_fmq.algorithms.config import FlowMapConfig
from rllib_fmq.rollout.faults import EnvFaultLimitError
from rllib_fmq.rollout.pipeline import RoundsInFlight
from rllib_fmq.rollout.runner_states import collect_runner_states, restore_runner_states
from rllib_fmq.rollout.sampling import SampledRound

from .faulty import FAULTY, register_faulty

Build = Callable[..., Any]


@pytest.fixture
def build(make_config: Callable[..., FlowMapConfig], ray_session: None) -> Iterator[Build]:
    register_faulty()
    made: list[Any] = []

    def make(env_config: dict[str, Any] | None = None, **keys: Any) -> Any:
        config = make_config(FAULTY, num_envs=2).environment(env_config=env_config or {})
        config.env_runners(
            num_env_runners=2,
            sample_timeout_s=keys.pop("sample_timeout_s", 120.0),
            max_policy_lag=keys.pop("max_policy_lag", 1),
        )
        config.fault_tolerance(**keys).evaluation(evaluation_interval=None)
        config.phases(online_env_steps=600)
        made.append(config.build_algo())
        return made[-1]

    yield make
    for algo in made:
        algo.stop()


def sample_round(group: Any, num_steps: int, timeout_s: float) -> SampledRound:
    rounds = RoundsInFlight(group, timeout_s)
    rounds.request(num_steps)
    return rounds.collect()


def replay_rows(algo: Any) -> int:
    (rows,) = algo.learner_group.foreach_learner(lambda learner: learner.replay.num_online)
    return int(rows.get())


def lifetime(result: dict[str, Any], key: str) -> float:
    return float(result["env_runners"][key])


def run_to_online(algo: Any) -> dict[str, Any]:
    while (result := algo.train())["phase"] != "online":
        pass
    assert isinstance(result, dict)
    return result


def pid_of(algo: Any, index: int) -> int:
    (pid,) = algo.env_runner_group.foreach_env_runner(
        lambda runner: os.getpid(), local_env_runner=False, remote_worker_ids=[index]
    )
    return int(pid)


def restore_all(algo: Any) -> None:
    """Until all runners that died are there again, and known to be."""
    group, deadline = algo.env_runner_group, time.monotonic() + 120
    while group.num_healthy_remote_workers() < 2:
        assert time.monotonic() < deadline, "a runner did not come back"
        algo.restore_env_runners(group)
        time.sleep(0.5)


def wait_for_restart(algo: Any, index: int, killed: int) -> None:
    """Until Ray has started the process again; the algorithm knows nothing of it."""
    actor = algo.env_runner_group._worker_manager.actors()[index]
    for _ in range(120):
        try:
            if ray.get(actor.apply.remote(lambda runner: os.getpid()), timeout=30) != killed:
                return
        except ray.exceptions.RayError:
            pass
        time.sleep(0.5)
    raise AssertionError("the runner did not come back")


def test_runners_that_die_cost_unfinished_fragments_only(
    build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    algo = build({"counter": None}, max_policy_lag=0)
    result = run_to_online(algo)
    assert lifetime(result, "num_fragments_lost") == 0
    group = algo.env_runner_group
    actors = group._worker_manager.actors()

    # In the middle of sampling: the round is over when the other one has answered.
    group.foreach_env_runner(
        lambda runner: runner.env.unwrapped.envs[0].unwrapped.config.update(
            fault="exit", first=0, every=1
        ),
        local_env_runner=False,
        remote_worker_ids=[1],
    )
    result = algo.train()
    assert lifetime(result, "num_fragments_lost") == 2
    assert replay_rows(algo) == algo.num_online_env_steps == result["num_online_env_steps"]

    # Between sampling and update: what they have delivered is not theirs any more.
    collect = algo._rounds.collect

    def killing() -> SampledRound:
        sampled: SampledRound = collect()
        if sampled.num_steps:
            monkeypatch.setattr(algo._rounds, "collect", collect)
            for actor in actors.values():
                ray.kill(actor, no_restart=False)
        return sampled

    monkeypatch.setattr(algo._rounds, "collect", killing)
    result = algo.train()
    assert replay_rows(algo) == algo.num_online_env_steps == result["num_online_env_steps"]
    assert lifetime(result, "num_fragments_lost") >= 4
    restore_all(algo)

    # Both act with the newest policy, and in episodes that nobody has seen.
    algo._sync_weights()
    algo._rounds.request(4)
    algo._rounds.collect()
    newest = algo.env_runner.module.get_state()
    places = set()
    for state, place in group.foreach_env_runner(
        lambda runner: (runner.module.get_state(), runner.seed_place), local_env_runner=False
    ):
        places.add(place)
        for name, value in newest.items():
            np.testing.assert_array_equal(state[name], value)
    assert len({place.generation for place in places}) == 2
    assert 0 not in {place.generation for place in places}


def test_a_restart_that_nobody_noticed_does_not_act_with_random_weights(build: Build) -> None:
    algo = build(max_policy_lag=0)
    run_to_online(algo)
    group = algo.env_runner_group
    killed = pid_of(algo, 1)
    ray.kill(group._worker_manager.actors()[1], no_restart=False)
    wait_for_restart(algo, 1, killed)
    assert group.num_healthy_remote_workers() == 2
    sampled = sample_round(group, 20, 60.0)
    assert sampled.num_fragments_lost == 2
    assert len(sampled.fragments) == 1
    # It has answered: it needs the weights only, and no other process.
    assert not group._worker_manager.is_actor_healthy(1)
    actor = group._worker_manager.actors()[1]
    restarted = ray.get(actor.apply.remote(lambda runner: os.getpid()))
    algo.restore_env_runners(group)
    assert pid_of(algo, 1) == restarted
    assert len(sample_round(group, 20, 60.0).fragments) == 2


def test_a_runner_that_hangs_is_killed_and_comes_back(build: Build, tmp_path: Path) -> None:
    config = {"fault": "hang", "first": 30, "every": 10_000, "counter": str(tmp_path / "n")}
    algo = build(config, sample_timeout_s=15.0)
    while algo.phase == "offline" or not algo.metrics.peek(
        ("env_runners", "num_fragments_lost"), default=0
    ):
        result = algo.train()
        assert algo.phase != "finished", "no environment hung"
    restore_all(algo)
    result = algo.train()
    assert lifetime(result, "num_fragments_lost") == 2
    assert replay_rows(algo) == algo.num_online_env_steps


def test_too_many_faults_stop_the_run_with_the_last_one(build: Build, tmp_path: Path) -> None:
    # Counted over all environments, which are made anew after faults: at some point all fail.
    faults = {"fault": "nan", "first": 8, "every": 1, "counter": str(tmp_path / "n")}
    algo = build(faults, max_env_faults=2)
    pids = {pid_of(algo, 1), pid_of(algo, 2)}
    with pytest.raises(EnvFaultLimitError, match=r"observation\[1\] is nan.*max_env_faults=2"):
        for _ in range(10):
            algo.train()
    assert {pid_of(algo, 1), pid_of(algo, 2)} == pids  # an error that is told ends no process


def test_states_of_remote_runners(build: Build) -> None:
    algo = build(max_policy_lag=0)
    run_to_online(algo)
    group = algo.env_runner_group
    states = collect_runner_states(group)
    assert sorted(states) == [1, 2]
    running = {e["id_"] for s in states.values() for e in s["episodes"] if e is not None}

    def actions() -> dict[str, Any]:
        sampled = sample_round(group, 20, 60.0)
        return {e.id_: np.asarray(e.get_actions()) for part in sampled.fragments for e in part}

    first = {name: taken for name, taken in actions().items() if name in running}
    actions()
    assert restore_runner_states(group, states) == running
    np.testing.assert_equal({k: v for k, v in actions().items() if k in running}, first)
    # A runner too few: its episodes are counted as lost by the others.
    states[3] = states.pop(2)
    kept = restore_runner_states(group, states)
    assert kept == {e["id_"] for e in states[1]["episodes"] if e is not None}
    metrics = sample_round(group, 4, 60.0).metrics
    lost = sum(m["num_episodes_not_resumed"].peek() for m in metrics)
    assert lost == len(running - kept)
