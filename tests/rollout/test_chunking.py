"""Chunk connectors inside RLlib's own env-runner, on environments that take notes."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.columns import Columns
from ray.rllib.env.single_agent_env_runner import SingleAgentEnvRunner

from rllib_fmq.algorithms.config import FlowMapConfig
from rllib_fmq.data.loading import scale_actions
from rllib_fmq.nn.flow_map_module import ACTION_CHUNKS
from rllib_fmq.rollout.chunking import QUEUES

from .conftest import HORIZON
from .environments import (
    HIGH,
    LOW,
    OBS_DIM,
    SCRIPTED,
    SCRIPTED_DICT,
    Scripted,
    observation,
    truncated_episode,
)

Key = tuple[int, int, int]
"""Number of the environment, number of its episode, step."""


class WatchedRunner:
    """A real env-runner whose module's plans are written down."""

    def __init__(self, config: FlowMapConfig) -> None:
        config.validate()
        self.runner = SingleAgentEnvRunner(config=config, worker_index=0)
        self.plans: dict[Key, np.ndarray] = {}
        self.rows_per_forward: list[int] = []
        self.plan_calls = 0
        module = self.runner.module
        forward, plan = module.forward_exploration, module.plan

        def watched_forward(batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
            obs = batch[Columns.OBS].numpy().copy()
            self.rows_per_forward.append(len(obs))
            out = forward(batch, **kwargs)
            assert (ACTION_CHUNKS in out) == (len(obs) > 0)
            for row in range(len(obs)):
                key = tuple(int(x) for x in obs[row])
                assert key not in self.plans, f"{key} was planned twice"
                self.plans[key] = out[ACTION_CHUNKS][row].numpy().copy()
            return out

        def watched_plan(*args: Any) -> Any:
            self.plan_calls += 1
            return plan(*args)

        module.forward_exploration, module.plan = watched_forward, watched_plan

    @property
    def envs(self) -> list[Scripted]:
        return [env.unwrapped for env in self.runner.env.unwrapped.envs]

    def steps(self) -> list[tuple[Key, np.ndarray]]:
        """Every step that any environment took, and the action it received."""
        return [
            ((env.number, episode, step), action)
            for env in self.envs
            for episode, actions in enumerate(env.actions)
            for step, action in enumerate(actions)
        ]


@pytest.fixture
def watch(make_config: Callable[..., FlowMapConfig]) -> Callable[..., WatchedRunner]:
    return lambda *args, **kwargs: WatchedRunner(make_config(*args, **kwargs))


@pytest.mark.parametrize("num_envs", [1, 4])
@pytest.mark.parametrize("env", [SCRIPTED, SCRIPTED_DICT])
def test_chunks_are_executed_open_loop(
    watch: Callable[..., WatchedRunner], env: str, num_envs: int
) -> None:
    # Fragments of many lengths: their borders fall anywhere in a chunk and in an episode.
    watched = watch(env, num_envs)
    for timesteps in (1, 2, 7, 5, 3, 11, 1, 1, 13, 4, 40):
        watched.runner.sample(num_timesteps=timesteps)
    steps = watched.steps()
    assert len(steps) >= 88
    for (number, episode, step), action in steps:
        chunk = watched.plans[number, episode, step - step % HORIZON]
        np.testing.assert_allclose(
            action, LOW + 0.5 * (chunk[step % HORIZON] + 1.0) * (HIGH - LOW), atol=1e-6
        )
    # A decision every H steps from each reset, and no other.
    assert set(watched.plans) == {key for key, _ in steps if key[2] % HORIZON == 0}


def test_nothing_is_planned_while_queues_last(watch: Callable[..., WatchedRunner]) -> None:
    watched = watch(num_envs=1)
    watched.runner.sample(num_timesteps=60)
    busy = [rows for rows in watched.rows_per_forward if rows]
    assert len(busy) == len(watched.plans) == watched.plan_calls
    assert 0 in watched.rows_per_forward
    decisions = sum(-(-len(a) // HORIZON) for a in watched.envs[0].actions)
    assert watched.plan_calls == decisions


def test_the_rest_of_a_chunk_is_dropped_with_its_episode(
    watch: Callable[..., WatchedRunner],
) -> None:
    watched = watch(num_envs=4)
    watched.runner.sample(num_timesteps=200)
    queues = watched.runner._shared_data[QUEUES]
    assert len(queues) <= 4
    assert set(queues) <= {episode.id_ for episode in watched.runner._ongoing_episodes}


def test_environments_plan_together_where_their_queues_end_together(
    watch: Callable[..., WatchedRunner],
) -> None:
    watched = watch(num_envs=3)
    watched.runner.sample(num_timesteps=3)
    assert watched.rows_per_forward == [3]
    watched.runner.sample(num_timesteps=60)
    assert watched.plan_calls == sum(rows > 0 for rows in watched.rows_per_forward)
    assert watched.plan_calls < len(watched.plans)


def joined_fragments(watched: WatchedRunner, sizes: list[int]) -> dict[str, list[Any]]:
    fragments: dict[str, list[Any]] = {}
    for timesteps in sizes:
        for fragment in watched.runner.sample(num_timesteps=timesteps):
            fragments.setdefault(fragment.id_, []).append(fragment)
    return fragments


@pytest.mark.parametrize("env", [SCRIPTED, SCRIPTED_DICT])
def test_fragments_hold_primitive_steps_in_the_unit_box(
    watch: Callable[..., WatchedRunner], env: str
) -> None:
    watched = watch(env, num_envs=3)
    fragments = joined_fragments(watched, [4, 1, 8, 3, 30])
    taken = dict(watched.steps())
    seen = 0
    for parts in fragments.values():
        step = 0
        for part in parts:
            obs, actions = np.asarray(part.get_observations()), np.asarray(part.get_actions())
            assert obs.shape == (len(part) + 1, OBS_DIM)
            number, episode, start = (int(x) for x in obs[0])
            assert start == step
            assert np.abs(actions).max() <= 1.0
            for k in range(len(part)):
                np.testing.assert_array_equal(obs[k], observation(number, episode, step))
                received = taken[number, episode, step]
                np.testing.assert_allclose(
                    scale_actions(received, LOW, HIGH), actions[k], atol=1e-6
                )
                assert part.get_rewards()[k] == step + 0.5
                step += 1
            np.testing.assert_array_equal(obs[-1], observation(number, episode, step))
            seen += len(part)
            if part.is_done:
                assert part.is_truncated == truncated_episode(episode)
    assert seen == len(taken)


@pytest.mark.parametrize("env", [SCRIPTED, SCRIPTED_DICT])
def test_the_replay_holds_what_the_environments_saw(
    watch: Callable[..., WatchedRunner], env: str
) -> None:
    watched = watch(env, num_envs=3)
    config = watched.runner.config
    learner = config.get_default_learner_class()(
        config=config,
        module_spec=config.get_multi_rl_module_spec(spaces=watched.runner.get_spaces()),
    )
    learner.build()
    offline = learner.replay.num_offline
    for timesteps in (5, 2, 9, 30):
        learner.store(watched.runner.sample(num_timesteps=timesteps))
    assert learner.replay.num_online == len(watched.steps())

    envs = {e.number: e for e in watched.envs}
    batch = learner.replay.sample(3_000, HORIZON, learner.generator)
    drawn = 0
    for k in range(len(batch.obs)):
        if batch.actions[k].abs().max() == 0 or not float(batch.obs[k, 0]).is_integer():
            continue  # an offline row
        number, episode, step = (int(x) for x in batch.obs[k])
        actions = envs[number].actions[episode]
        taken = min(HORIZON, len(actions) - step)
        expected = np.zeros((HORIZON, 2), np.float32)
        expected[:taken] = scale_actions(actions[step : step + taken], LOW, HIGH)
        np.testing.assert_allclose(batch.actions[k], expected.ravel(), atol=1e-6)
        rewards = [step + i + 0.5 for i in range(taken)] + [0.0] * (HORIZON - taken)
        np.testing.assert_allclose(batch.rewards[k], rewards)
        np.testing.assert_array_equal(batch.next_obs[k], observation(number, episode, step + taken))
        assert bool(batch.complete[k]) == (taken == HORIZON)
        ended = episode < len(envs[number].actions) - 1 or len(actions) == envs[number].length
        last = step + taken == len(actions)
        terminated = ended and last and not truncated_episode(episode)
        assert batch.terminated[k].tolist() == [
            terminated and i == taken - 1 for i in range(HORIZON)
        ]
        drawn += 1
    assert drawn > 500
    assert offline == 100


def test_dict_observations_are_flattened_as_gymnasium_does(
    watch: Callable[..., WatchedRunner],
) -> None:
    # Datasets and evaluation use gymnasium.spaces.flatten: keys in the order of the space.
    watched = watch(SCRIPTED_DICT)
    env = watched.envs[0]
    obs, _ = env.reset()
    np.testing.assert_array_equal(
        gym.spaces.flatten(env.observation_space, obs), observation(env.number, 0, 0)
    )
    space = watched.runner.get_spaces()[DEFAULT_MODULE_ID][0]
    assert space.shape == (OBS_DIM,)
    watched.runner.sample(num_timesteps=5)
    assert {key[0] for key in watched.plans} == {env.number}


def test_force_reset_drops_queues(watch: Callable[..., WatchedRunner]) -> None:
    watched = watch(num_envs=2)
    watched.runner.sample(num_timesteps=2)
    watched.runner.sample(num_timesteps=40, force_reset=True)
    for (number, episode, step), action in watched.steps():
        chunk = watched.plans[number, episode, step - step % HORIZON]
        np.testing.assert_allclose(
            action, LOW + 0.5 * (chunk[step % HORIZON] + 1.0) * (HIGH - LOW), atol=1e-6
        )


def test_planning_latency_is_logged(watch: Callable[..., WatchedRunner]) -> None:
    watched = watch(num_envs=2)
    watched.runner.sample(num_timesteps=20)
    metrics = watched.runner.get_metrics()
    assert metrics["planning_latency_ms"].peek() > 0.0
    assert 0.0 <= metrics["success_rate"].peek() <= 1.0


def test_runners_with_different_indices_draw_different_noise(
    make_config: Callable[..., FlowMapConfig],
) -> None:
    # Runners of one run must not collect the same actions; the same index must.
    config = make_config()
    config.validate()
    actions = []
    for index in (1, 2, 1):
        Scripted.numbers = itertools.count()  # equal observations in all three
        runner = SingleAgentEnvRunner(config=config, worker_index=index)
        weights = actions[0][0] if actions else runner.module.get_state()
        runner.module.set_state(weights)
        (fragment, *_) = runner.sample(num_timesteps=2)
        actions.append((weights, np.asarray(fragment.get_actions())))
    assert not np.allclose(actions[0][1], actions[1][1])
    np.testing.assert_array_equal(actions[0][1], actions[2][1])
