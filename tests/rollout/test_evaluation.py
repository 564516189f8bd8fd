"""Evaluation: exactly N episodes on their own seeds, whoever runs them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import ray
import torch
from ray.rllib.core import DEFAULT_MODULE_ID

from rllib_fmq.algorithms.config import FlowMapConfig
from rllib_fmq.algorithms.validation import LARGEST_TRAINING_SEED
from rllib_fmq.flow.selection import SelectorSettings
from rllib_fmq.nn.flow_map_module import FlowMapModule
from rllib_fmq.rollout.evaluation import (
    EVALUATION_ENV,
    EpisodeOutcome,
    evaluate_episodes,
    make_single_env,
    summarise,
)
from rllib_fmq.seeds import FINAL_EVALUATION_SEED, FIRST_EPISODE_SEED

from .conftest import HORIZON
from .environments import HIGH, LOW, SCRIPTED, SCRIPTED_DICT, WANDER, Scripted, observation

SELECTORS = [
    (SelectorSettings("sample"), 1),
    (SelectorSettings("best_of_n", num_candidates=5), 5),
    (SelectorSettings("euler", num_candidates=2, euler_steps=3), 6),
    (SelectorSettings("qgbs", beam_width=2, search_iters=1, branches=3), 8),
]

Policy = tuple[FlowMapModule, Any]


@pytest.fixture
def policy(make_config: Callable[..., FlowMapConfig]) -> Callable[..., Policy]:
    """A new module and environment of a small config."""

    def make(env_name: str = WANDER, **training: Any) -> Policy:
        config = make_config(env_name, **training)
        config.validate()
        env = make_single_env(config)
        torch.manual_seed(0)
        spec = config.get_rl_module_spec(env=None, spaces=spaces_of(config), inference_only=True)
        return spec.build(), env

    return make


def spaces_of(config: FlowMapConfig) -> dict[str, Any]:
    env = make_single_env(config)
    spaces = {"__env_single__": (env.observation_space, env.action_space)}
    pipeline = config.build_env_to_module_connector(env=None, spaces=spaces)
    return {DEFAULT_MODULE_ID: (pipeline.observation_space, env.action_space)}


def timeless(outcomes: list[EpisodeOutcome]) -> list[EpisodeOutcome]:
    """Everything but the wall time."""
    return [replace(outcome, planning_seconds=0.0, plan_seconds=()) for outcome in outcomes]


# --- One process ---------------------------------------------------------------------------


@pytest.mark.parametrize("env_name", [SCRIPTED, SCRIPTED_DICT])
def test_outcomes_of_a_scripted_environment(policy: Callable[..., Policy], env_name: str) -> None:
    module, env = policy(env_name)
    seeds = [70, 73, 71]
    told: list[EpisodeOutcome] = []
    outcomes = evaluate_episodes(module, env, seeds, on_episode=told.append)
    assert outcomes == told
    for outcome, seed in zip(outcomes, seeds, strict=True):
        length = 2 + seed % 7
        assert (outcome.seed, outcome.length) == (seed, length)
        assert outcome.success is (seed % 2 == 0)
        assert outcome.episode_return == pytest.approx(length**2 / 2)
        assert outcome.num_plans == len(outcome.plan_seconds) == -(-length // HORIZON)
        assert outcome.planning_seconds == sum(outcome.plan_seconds) > 0.0
    assert env.unwrapped.seeds == seeds


@pytest.mark.parametrize("env_name", [SCRIPTED, SCRIPTED_DICT])
def test_chunks_are_executed_open_loop_and_in_the_environments_units(
    policy: Callable[..., Policy], env_name: str
) -> None:
    module, env = policy(env_name)
    plans: list[tuple[np.ndarray, np.ndarray]] = []
    plan = module.plan

    def watched(obs: Any, *args: Any) -> Any:
        result = plan(obs, *args)
        plans.append((obs[0].numpy(), result.actions[0].reshape(HORIZON, -1).numpy()))
        return result

    module.plan = watched
    evaluate_episodes(module, env, [74])  # 6 steps: 2 + 74 % 7
    number = env.unwrapped.number
    np.testing.assert_array_equal(
        [obs for obs, _ in plans], [observation(number, 0, step) for step in (0, 3)]
    )
    expected = np.concatenate([LOW + 0.5 * (unit + 1.0) * (HIGH - LOW) for _, unit in plans])
    np.testing.assert_allclose(env.unwrapped.actions[0], expected, atol=1e-6)


@pytest.mark.parametrize(("selector", "nfe"), SELECTORS)
def test_episodes_depend_on_their_seed_alone(
    policy: Callable[..., Policy], selector: SelectorSettings, nfe: int
) -> None:
    module, env = policy()
    seeds = list(range(2_000_000_000, 2_000_000_006))
    together = evaluate_episodes(module, env, seeds, selector)
    assert [outcome.seed for outcome in together] == seeds
    assert {outcome.nfe for outcome in together} == {nfe}
    assert len({outcome.episode_return for outcome in together}) == len(seeds)

    # Another order, another environment object, other noise before: nothing changes.
    torch.manual_seed(77)
    np.random.seed(77)
    _, other = policy()
    shared = [
        *evaluate_episodes(module, env, seeds[1::2], selector),
        *evaluate_episodes(module, other, seeds[::2][::-1], selector),
    ]
    shared.sort(key=lambda outcome: outcome.seed)
    assert timeless(shared) == timeless(together)


def test_evaluating_leaves_the_policys_noise_alone(policy: Callable[..., Policy]) -> None:
    module, env = policy()
    obs, selector = torch.zeros(1, 3), SelectorSettings("sample")
    module.seed_planning(4)
    expected = [module.plan(obs, selector).actions for _ in range(2)]
    module.seed_planning(4)
    first = module.plan(obs, selector).actions
    evaluate_episodes(module, env, [1, 2])
    assert torch.equal(first, expected[0])
    assert torch.equal(module.plan(obs, selector).actions, expected[1])


def test_the_modules_own_selector_is_the_default(policy: Callable[..., Policy]) -> None:
    module, env = policy(num_candidates=4)
    (outcome,) = evaluate_episodes(module, env, [5])
    (same,) = evaluate_episodes(module, env, [5], SelectorSettings("best_of_n", num_candidates=4))
    assert timeless([outcome]) == timeless([same])
    assert outcome.nfe == 4


def test_on_step_sees_the_reset_and_every_step(policy: Callable[..., Policy]) -> None:
    module, env = policy(SCRIPTED)
    seen: list[tuple[int, int]] = []

    def look(environment: Any, step: int) -> None:
        seen.append((step, len(environment.unwrapped.actions[-1])))

    evaluate_episodes(module, env, [71], on_step=look)  # 3 steps
    assert seen == [(0, 0), (1, 1), (2, 2), (3, 3)]


def test_summary_by_hand() -> None:
    outcomes = [
        EpisodeOutcome(0, True, 2.0, 4, 2, 0.3, 8),
        EpisodeOutcome(1, False, -1.0, 7, 3, 0.2, 8),
    ]
    assert summarise(outcomes) == pytest.approx(
        {
            "num_episodes": 2.0,
            "episode_return_mean": 0.5,
            "episode_len_mean": 5.5,
            "planning_latency_ms": 100.0,
            "nfe": 8.0,
            "success_rate": 0.5,
        }
    )


def test_without_reports_there_is_no_success_rate(policy: Callable[..., Policy]) -> None:
    module, env = policy(WANDER)
    outcomes = evaluate_episodes(module, env, [1])
    assert outcomes[0].success is None
    assert "success_rate" not in summarise(outcomes)


def test_environments_may_be_given_by_id_or_class(
    make_config: Callable[..., FlowMapConfig],
) -> None:
    by_id = make_single_env(make_config("Pendulum-v1"))
    assert by_id.spec.id == "Pendulum-v1"
    assert by_id.spec.max_episode_steps == 200
    assert isinstance(make_single_env(make_config(Scripted)), Scripted)


# --- In an algorithm -----------------------------------------------------------------------


@pytest.fixture
def build(
    ray_session: None, make_config: Callable[..., FlowMapConfig]
) -> Iterator[Callable[..., Any]]:
    """Builds algorithms that are stopped at the end."""
    algos: list[Any] = []

    def make(env: str = SCRIPTED, num_envs: int = 2, **evaluation: Any) -> Any:
        settings = {"evaluation_interval": 1, "evaluation_duration": 5} | evaluation
        config = make_config(env, num_envs).evaluation(**settings)
        algos.append(config.build_algo())
        return algos[-1]

    yield make
    for algo in algos:
        algo.stop()


def evaluated(result: dict[str, Any]) -> dict[str, float]:
    values: dict[str, float] = result["evaluation"]["env_runners"]
    return values


def test_training_never_uses_an_evaluation_seed(build: Callable[..., Any]) -> None:
    algo = build()
    results = [algo.train() for _ in range(3)]
    seeds = [algo.config.evaluation_seed + k for k in range(5)]
    trained = [seed for env in algo.env_runner.env.unwrapped.envs for seed in env.unwrapped.seeds]
    assert trained and None not in trained
    assert min(trained) >= FIRST_EPISODE_SEED > FINAL_EVALUATION_SEED > max(seeds)
    env = getattr(algo.eval_env_runner, EVALUATION_ENV).unwrapped
    rounds = sum(result["evaluated_this_iteration"] for result in results)
    assert env.seeds == rounds * seeds
    for result in results:
        assert evaluated(result)["num_episodes"] == 5
        assert evaluated(result)["episode_len_mean"] == np.mean([2 + s % 7 for s in seeds])
        assert evaluated(result)["success_rate"] == np.mean([s % 2 == 0 for s in seeds])


def test_seeds_that_could_meet_are_refused(make_config: Callable[..., FlowMapConfig]) -> None:
    with pytest.raises(ValueError, match="seed="):
        make_config().debugging(seed=LARGEST_TRAINING_SEED).validate()
    with pytest.raises(ValueError, match="evaluation_seed="):
        make_config().evaluation(evaluation_seed=2 * LARGEST_TRAINING_SEED - 1).validate()
    # RLlib itself adds a million to the seeds of evaluation runners.
    make_config().evaluation(evaluation_seed=2 * LARGEST_TRAINING_SEED).validate()


def weights(algo: Any) -> dict[str, np.ndarray]:
    state: dict[str, np.ndarray] = algo.learner_group.get_weights()[DEFAULT_MODULE_ID]
    return state


def test_evaluating_more_often_does_not_change_training(build: Callable[..., Any]) -> None:
    trained = []
    for interval in (1, 100):
        algo = build(WANDER, evaluation_interval=interval)
        while algo.phase != "finished":
            algo.train()
        if interval == 100:
            algo.evaluate()
        trained.append(weights(algo))
    for name, value in trained[0].items():
        np.testing.assert_array_equal(value, trained[1][name])


def test_evaluate_works_without_evaluation_runners(build: Callable[..., Any]) -> None:
    with_runners, without = build(WANDER), build(WANDER, evaluation_interval=None)
    assert without.eval_env_runner_group is None
    state = ray.put(with_runners.learner_group.get_state())
    without.learner_group.set_state(ray.get(state))
    first, second = (algo.evaluate()["env_runners"] for algo in (with_runners, without))
    for name in ("num_episodes", "episode_return_mean", "episode_len_mean", "nfe"):
        assert first[name] == second[name]


def test_results_tell_the_policy_that_was_evaluated(build: Callable[..., Any]) -> None:
    algo = build(evaluation_interval=2)
    results = []
    while algo.phase != "finished":
        results.append(algo.train())
    # Due at the second iteration, and at the ends of the two phases.
    fresh = [r for r in results if r["evaluated_this_iteration"]]
    assert [r["phase"] for r in results] == ["offline", "online", "online"]
    assert len(fresh) == 3
    for result in fresh:
        assert evaluated(result)["num_updates_at_evaluation"] == result["num_updates"]
        assert (
            evaluated(result)["num_online_env_steps_at_evaluation"]
            == result["num_online_env_steps"]
        )


@pytest.mark.slow
def test_evaluation_in_parallel_and_after_a_runners_death(build: Callable[..., Any]) -> None:
    algo = build(
        WANDER,
        evaluation_duration=7,
        evaluation_num_env_runners=2,
        evaluation_parallel_to_training=True,
    )
    results = []
    while algo.phase != "finished":
        results.append(algo.train())
    for result in results:
        assert result["evaluated_this_iteration"]
        assert evaluated(result)["num_episodes"] == 7
    # The policy that each phase ends with is evaluated too, after the training.
    for result in (results[0], results[-1]):
        assert evaluated(result)["num_updates_at_evaluation"] == result["num_updates"]

    # The same weights, in this process.
    local = build(WANDER, evaluation_duration=7)
    local.learner_group.set_state(algo.learner_group.get_state())
    expected = local.evaluate()["env_runners"]
    names = ("num_episodes", "episode_return_mean", "episode_len_mean", "nfe")
    final = evaluated(results[-1])
    assert [final[n] for n in names] == [expected[n] for n in names]

    # All episodes are there although a runner dies in the middle of its share ...
    group = algo.eval_env_runner_group

    def doom(runner: Any) -> None:
        getattr(runner, EVALUATION_ENV).unwrapped.deadly_seed = runner.config.evaluation_seed + 4

    group.foreach_env_runner(doom, local_env_runner=False, remote_worker_ids=[1])
    again = algo.evaluate()["env_runners"]
    assert [again[n] for n in names] == [expected[n] for n in names]
    assert group.num_healthy_remote_workers() == 1
    # ... and although all are gone.
    for actor in group._worker_manager.actors().values():
        ray.kill(actor)
    again = algo.evaluate()["env_runners"]
    assert [again[n] for n in names] == [expected[n] for n in names]
