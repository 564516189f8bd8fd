"""Real environments by name: limits, success, reproducible resets."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest

from rllib_fmq.tasks import known_tasks, make_env
from rllib_fmq.tasks.catalog import parse_robomimic
from rllib_fmq.tasks.names import parse_task
from rllib_fmq.tasks.registry import import_ogbench

pytest.importorskip("ogbench")

CUBE = "cube-single-play-singletask-task2-v0"
MAZE = "pointmaze-medium-navigate-singletask-task1-v0"


def rollout(env: gymnasium.Env[Any, Any], seed: int | None, steps: int) -> np.ndarray[Any, Any]:
    """Observations from a reset under a fixed sequence of actions."""
    obs, _ = env.reset(seed=seed)
    random = np.random.default_rng(0)
    observations = [obs]
    for _ in range(steps):
        obs, *_ = env.step(random.uniform(-1.0, 1.0, env.action_space.shape).astype(np.float32))
        observations.append(obs)
    return np.array(observations)


def test_every_known_task_is_registered_by_ogbench_or_is_robomimics() -> None:
    import_ogbench()
    for name in known_tasks():
        parsed = parse_task(name)
        if parsed is None:
            assert parse_robomimic(name) is not None
        else:
            assert parsed.gym_id in gymnasium.registry, name


@pytest.mark.parametrize(("name", "limit"), [(CUBE, 200), (MAZE, 1000)])
def test_spaces_and_limit(name: str, limit: int) -> None:
    env = make_env(name)
    assert env.spec is not None
    assert env.spec.max_episode_steps == limit
    assert isinstance(env.action_space, gymnasium.spaces.Box)
    assert np.all(env.action_space.low == -1.0)
    assert np.all(env.action_space.high == 1.0)
    obs, info = env.reset(seed=0)
    assert env.observation_space.contains(obs)
    assert obs.dtype == np.float64
    assert info == {"success": False}
    env.close()


def test_truncates_at_the_limit() -> None:
    env = make_env(MAZE)
    env.reset(seed=0)
    stay = np.zeros(2, np.float32)
    for step in range(1, 1001):
        _, reward, terminated, truncated, _ = env.step(stay)
        assert (reward, terminated) == (-1.0, False)
        assert truncated == (step == 1000)


@pytest.mark.parametrize(
    "name",
    [CUBE, "puzzle-3x3-singletask-task1-v0", MAZE, "pointmaze-teleport-navigate-singletask-v0"],
)
def test_same_seed_and_actions_give_the_same_observations(name: str) -> None:
    env, other = make_env(name), make_env(name)
    first = rollout(env, seed=5, steps=25)
    np.random.seed(1)  # what others draw from the global generator must not matter
    second = rollout(env, seed=5, steps=25)
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(first, rollout(other, seed=5, steps=25))
    following = rollout(env, seed=None, steps=5), rollout(other, seed=None, steps=5)
    np.testing.assert_array_equal(*following)  # episodes after the first follow from its seed
    assert not np.array_equal(first, rollout(env, seed=6, steps=25))


def test_reset_leaves_the_global_generator_alone() -> None:
    env = make_env(MAZE)
    np.random.seed(3)
    expected = np.random.uniform(size=3)
    np.random.seed(3)
    env.reset(seed=0)
    env.step(np.zeros(2, np.float32))
    np.testing.assert_array_equal(np.random.uniform(size=3), expected)


def test_maze_terminates_in_the_step_after_the_goal_is_reached() -> None:
    env = make_env(MAZE)
    env.reset(seed=0)
    base: Any = env.unwrapped
    base.set_xy(np.asarray(base.cur_goal_xy))
    _, reward, terminated, truncated, info = env.step(np.zeros(2, np.float32))
    assert (reward, terminated, truncated, info) == (0.0, True, False, {"success": True})


def test_cube_terminates_on_success_and_full_info_is_optional() -> None:
    env = make_env(CUBE, full_info=True)
    _, info = env.reset(seed=0)
    assert "proprio/joint_pos" in info
    base: Any = env.unwrapped
    base._data.joint("object_joint_0").qpos[:3] = base._data.mocap_pos[0]
    still = np.zeros(5, np.float32)
    # The state is judged after a step, and counts in the next one.
    _, reward, terminated, _, info = env.step(still)
    assert (reward, terminated, info["success"]) == (0.0, False, False)
    _, reward, terminated, _, info = env.step(still)
    assert (reward, terminated, info["success"]) == (0.0, True, True)


def test_falls_back_to_gymnasium() -> None:
    env = make_env("Pendulum-v1", g=9.0)
    assert env.spec is not None
    assert env.spec.id == "Pendulum-v1"


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("cube-sngle-play-singletask-task2-v0", "'cube-single-play-singletask-task2-v0'"),
        ("Pendulam-v1", "'Pendulum-v1'"),
        ("cube-single-play-v0", "'cube-single-play-singletask-task1-v0'"),
        ("nothing like it", "unknown environment"),
        ("no_such_module:Env-v0", "unknown environment"),
        ("", "unknown environment"),
    ],
)
def test_wrong_name_is_a_value_error_with_suggestions(name: str, hint: str) -> None:
    with pytest.raises(ValueError, match=hint):
        make_env(name)
