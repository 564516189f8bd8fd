"""Environments that fail: the fault is counted, its episode dropped, the rest goes on."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rllib_fmq.algorithms.config import FlowMapConfig
from rllib_fmq.checkpointing.policy_file import record_policy
from rllib_fmq.rollout import checkpoints, evaluation
from rllib_fmq.rollout.checked_env import CheckedEnv
from rllib_fmq.rollout.env_runner import FlowMapEnvRunner
from rllib_fmq.rollout.evaluation import ATTEMPTS, EVALUATION_ENV, evaluate_episodes
from rllib_fmq.rollout.faults import (
    EnvFault,
    EnvFaultLimitError,
)

from .faulty import FAULTY, LENGTH, Faulty, register_faulty

KINDS = {
    "step": "step_error",
    "tuple": "step_error",
    "nan": "nonfinite_observation",
    "shape": "bad_observation",
    "dtype": "bad_observation",
    "ragged": "bad_observation",
    "inf_reward": "nonfinite_reward",
    "huge_reward": "nonfinite_reward",
    "no_reward": "bad_reward",
}

Collected = tuple[list[Any], dict[str, Any]]


@pytest.fixture
def runner_of(make_config: Callable[..., FlowMapConfig]) -> Callable[..., FlowMapEnvRunner]:
    register_faulty()

    def make(env_config: dict[str, Any], num_envs: int = 2, **faults: Any) -> FlowMapEnvRunner:
        mode = faults.pop("mode", "sync")
        config = make_config(FAULTY, num_envs).environment(env_config=env_config)
        config.env_runners(gym_env_vectorize_mode=mode).fault_tolerance(**faults)
        config.validate()
        return FlowMapEnvRunner(config=config, worker_index=0)

    return make


def collect(runner: FlowMapEnvRunner, rounds: int, num_steps: int) -> Collected:
    """Fragments of all rounds, and each metric's sum."""
    fragments: list[Any] = []
    totals: dict[str, Any] = {}
    for _ in range(rounds):
        fragments += runner.sample(num_timesteps=num_steps)
        for key, stats in runner.get_metrics().items():
            if key == "env_faults":
                for kind, value in stats.items():
                    totals[kind] = totals.get(kind, 0) + value.peek()
            elif key.startswith("num_") and not isinstance(stats, dict):
                totals[key] = totals.get(key, 0) + stats.peek()
    return fragments, totals


def check_fragments(fragments: list[Any]) -> None:
    """Finite, and each episode's parts follow each other."""
    last: dict[str, Any] = {}
    for part in fragments:
        obs, rewards = np.asarray(part.get_observations()), part.get_rewards()
        assert np.isfinite(obs).all()
        assert np.isfinite(rewards).all()
        # What the environment observed is what it paid for: no placeholder is among the rows.
        np.testing.assert_allclose(obs[1:, 0], rewards, rtol=1e-6)
        if part.id_ in last:
            np.testing.assert_array_equal(last[part.id_], obs[0])
        last[part.id_] = obs[-1]
        assert not part.is_done or part.is_truncated


@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("fault", [*KINDS, "reset"])
def test_each_kind_is_survived(
    runner_of: Callable[..., FlowMapEnvRunner], fault: str, mode: str, tmp_path: Path
) -> None:
    if mode == "async" and fault not in ("step", "nan", "reset"):
        pytest.skip("the wrapper is the same: three kinds are enough in processes")
    config = {"fault": fault, "first": 5, "every": 4, "counter": str(tmp_path / "n")}
    runner = runner_of(config, mode=mode)
    fragments, totals = collect(runner, 8, 20)
    runner.stop()
    check_fragments(fragments)
    kind = KINDS.get(fault, "reset_error")
    assert totals[kind] == totals["num_env_faults"] >= 2
    assert totals["num_env_steps_sampled"] == sum(map(len, fragments))
    done = [part for part in fragments if part.is_done]
    assert totals["num_episodes"] == len(done) >= 10
    # Two good steps before the one that failed, less those of fragments that were returned.
    assert totals["num_env_steps_dropped"] <= 2 * totals["num_env_faults"]
    if fault != "reset":
        assert totals["num_env_steps_dropped"] > 0


def test_callbacks_and_returns_know_nothing_of_faulty_episodes(
    runner_of: Callable[..., FlowMapEnvRunner],
) -> None:
    runner = runner_of({"fault": "step", "first": 1, "every": 2}, num_envs=1)
    ended: list[Any] = []
    runner._callbacks[0].on_episode_end = lambda *, episode, **_: ended.append(episode.id_)
    fragments, _ = collect(runner, 1, 60)
    assert ended == [part.id_ for part in fragments if part.is_done]
    assert {len(part) for part in fragments[:-1]} == {LENGTH}
    assert not runner._done_episodes_for_metrics
    assert set(runner._ongoing_episodes_for_metrics) <= {e.id_ for e in runner._ongoing_episodes}


def test_the_other_environments_are_not_disturbed(
    runner_of: Callable[..., FlowMapEnvRunner],
) -> None:
    runner = runner_of({"fault": "step", "first": 0, "every": 2}, num_envs=3)
    healthy = runner.env.unwrapped.envs[1:]
    for env in healthy:
        env.unwrapped.config["fault"] = ""
    broken = runner.env.unwrapped.envs[0].unwrapped
    collect(runner, 1, 90)
    assert broken.closed
    assert runner.env.unwrapped.envs[0].unwrapped is not broken
    assert [env.unwrapped.closed for env in healthy] == [False, False]
    assert all(env.unwrapped.episode >= 3 for env in healthy)
    seeds = [seed for env in runner.env.unwrapped.envs for seed in env.unwrapped.seeds]
    assert len(set(seeds + broken.seeds)) == len(seeds + broken.seeds)


def test_the_limit_is_of_faults_in_a_row(
    runner_of: Callable[..., FlowMapEnvRunner], caplog: pytest.LogCaptureFixture
) -> None:
    often = runner_of({"fault": "step", "first": 1, "every": 2}, num_envs=1, max_env_faults=1)
    collect(often, 1, 100)
    caplog.clear()
    always = runner_of({"fault": "step", "first": 0, "every": 1}, num_envs=2, max_env_faults=2)
    with (
        caplog.at_level(logging.WARNING),
        pytest.raises(EnvFaultLimitError, match=r"ZeroDivisionError: division by zero in the sim"),
    ):
        collect(always, 1, 100)
    lines = [r.getMessage() for r in caplog.records if "failed (step_error)" in r.getMessage()]
    assert len(lines) == 5  # three of the first environment, two of the second
    assert "sub-environment 0 of env-runner 0" in lines[0]
    assert "step 3" in lines[0]


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_a_first_reset_that_fails_stops_at_once(
    runner_of: Callable[..., FlowMapEnvRunner], mode: str
) -> None:
    runner = runner_of({"fault": "reset", "first": 0}, mode=mode)
    with pytest.raises(EnvFaultLimitError, match=r"OSError: no connection.*first reset"):
        runner.sample(num_timesteps=4)
    runner.stop()


def test_one_failing_first_reset_stops_nothing(
    runner_of: Callable[..., FlowMapEnvRunner], tmp_path: Path
) -> None:
    config = {"fault": "reset", "first": 0, "every": 1000, "counter": str(tmp_path / "n")}
    runner = runner_of(config, num_envs=4)
    fragments, totals = collect(runner, 4, 20)
    check_fragments(fragments)
    assert totals["reset_error"] == 1
    runner.stop()


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_hangs_are_left_behind(
    runner_of: Callable[..., FlowMapEnvRunner], mode: str, tmp_path: Path
) -> None:
    config = {"fault": "hang", "first": 3, "every": 1000, "counter": str(tmp_path / "n")}
    runner = runner_of(config, mode=mode, env_step_timeout_s=3.0)
    fragments, totals = collect(runner, 4, 20)
    check_fragments(fragments)
    assert totals["timeout"] == 1
    runner.stop()


def test_a_thread_whose_hang_ends_does_not_stay() -> None:
    config = {"fault": "hang", "first": 0, "every": 1, "at": 1, "seconds": 0.5}
    others = set(threading.enumerate())
    env = CheckedEnv(lambda: Faulty(config), timeout_s=0.1)
    env.reset(seed=0)
    (thread,) = set(threading.enumerate()) - others
    with pytest.raises(EnvFault, match="timeout"):
        env.step(np.zeros(2, np.float32))
    assert thread.is_alive()
    thread.join(timeout=10.0)
    assert not thread.is_alive()


@pytest.mark.parametrize("fault", ["exit", "hang"])
def test_stopping_waits_for_no_process(
    runner_of: Callable[..., FlowMapEnvRunner],
    fault: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After an error that left the vector as it is, or in the middle of a step."""
    monkeypatch.setattr("rllib_fmq.rollout.vector_processes.CLOSE_TIMEOUT_S", 1.0)
    config = {"fault": fault, "first": 4, "every": 1, "counter": str(tmp_path / "n")}
    runner = runner_of(config, mode="async", max_env_faults=0)
    vector = runner.env.unwrapped
    if fault == "exit":
        with pytest.raises(EnvFaultLimitError, match=r"the vector of all sub-env.*\(crash\)") as e:
            collect(runner, 4, 20)
        assert "sub-environment 0" not in str(e.value)
    else:
        runner.sample(num_timesteps=4)
        vector.step_async(np.zeros((2, 2), np.float32))
        for _ in range(20):
            if not all(pipe.poll(0.2) for pipe in vector.parent_pipes):
                break
            vector.step_wait()
            vector.step_async(np.zeros((2, 2), np.float32))
    start = time.monotonic()
    runner.stop()
    runner.stop()
    assert time.monotonic() - start < 10.0
    assert not any(process.is_alive() for process in vector.processes)


def test_stopping_lets_healthy_environments_close(
    runner_of: Callable[..., FlowMapEnvRunner], tmp_path: Path
) -> None:
    runner = runner_of({"closing": str(tmp_path / "closed")}, mode="async")
    runner.sample(num_timesteps=4)
    before = (tmp_path / "closed").read_text()  # Gymnasium looks at one, for its spaces
    runner.stop()
    assert (tmp_path / "closed").read_text() == before + "xx"


def test_a_dead_process_of_an_environment_costs_its_vector_only(
    runner_of: Callable[..., FlowMapEnvRunner], tmp_path: Path
) -> None:
    config = {"fault": "exit", "first": 4, "every": 1000, "counter": str(tmp_path / "n")}
    runner = runner_of(config, mode="async")
    fragments, totals = collect(runner, 4, 20)
    runner.stop()
    check_fragments(fragments)
    assert totals["crash"] == 2  # all environments of the vector
    assert totals["num_env_steps_sampled"] == sum(map(len, fragments)) >= 70


def test_evaluation_tries_an_episode_again(
    runner_of: Callable[..., FlowMapEnvRunner], tmp_path: Path
) -> None:
    module = runner_of({}).module
    config = {"fault": "nan", "first": 1, "every": 3, "counter": str(tmp_path / "n")}
    env = CheckedEnv(lambda: Faulty(config))
    outcomes = evaluate_episodes(module, env, [1, 2, 3, 4])
    assert [o.faults for o in outcomes] == [
        (),
        ("nonfinite_observation",),
        (),
        ("nonfinite_observation",),
    ]
    expected = evaluate_episodes(module, Faulty(), [1, 2, 3, 4])
    assert [o.episode_return for o in outcomes] == [o.episode_return for o in expected]
    never = CheckedEnv(lambda: Faulty({"fault": "step", "first": 0, "every": 1}))
    with pytest.raises(EnvFaultLimitError, match=f"seed 7 failed {ATTEMPTS} times.*ZeroDivision"):
        evaluate_episodes(module, never, [7])


@pytest.mark.parametrize("fault", ["nan", "step", "hang"])
def test_evaluating_a_checkpoint_tries_an_episode_again(
    make_config: Callable[..., FlowMapConfig],
    runner_of: Callable[..., FlowMapEnvRunner],
    fault: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = runner_of({}).module
    env_config = {"fault": fault, "first": 1, "every": 1000, "counter": str(tmp_path / "n")}
    config = make_config(FAULTY).environment(env_config=env_config | {"seconds": 3.0})
    config.fault_tolerance(env_step_timeout_s=1.0 if fault == "hang" else None)
    spaces = {"observation_space": None, "action_space": None, "model_config": {}}
    record = record_policy(config, type(module), spaces)
    monkeypatch.setattr(checkpoints, "load_policy", lambda *_: (module, record))
    outcomes = checkpoints.evaluate_checkpoint("any", None, [1, 2], config=config)
    kind = "timeout" if fault == "hang" else KINDS[fault]
    assert [o.faults for o in outcomes] == [(), (kind,)]
    expected = evaluate_episodes(module, Faulty(), [1, 2])
    assert [o.episode_return for o in outcomes] == [o.episode_return for o in expected]


def test_evaluation_tries_to_make_its_environment_again(
    runner_of: Callable[..., FlowMapEnvRunner], monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = runner_of({})
    failures = [OSError("no connection"), EnvFault("timeout", "no answer")]

    def make(config: Any) -> Faulty:
        if failures:
            raise failures.pop()
        return Faulty()

    monkeypatch.setattr(evaluation, "make_single_env", make)
    outcomes = evaluation._run_share(runner, [1, 2])
    assert [o.faults for o in outcomes] == [("timeout", "reset_error"), ()]
    delattr(runner, EVALUATION_ENV)
    failures += [OSError("no connection\nto the robot")] * ATTEMPTS
    with pytest.raises(EnvFaultLimitError, match=r"OSError: no connection to the robot.*repair"):
        evaluation._run_share(runner, [1])
    assert evaluation._run_share(runner, []) == []


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"max_env_faults": -1}, "max_env_faults=-1: must be a whole number >= 0"),
        ({"env_step_timeout_s": 0}, "env_step_timeout_s=0: must be a number > 0"),
        ({"resume_episodes": "no"}, "resume_episodes='no': must be True or False"),
    ],
)
def test_wrong_settings_are_refused(
    make_config: Callable[..., FlowMapConfig], keys: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        make_config().fault_tolerance(**keys).validate()
