"""A dataset of many short episodes, and learners built without an algorithm."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from ray.tune.registry import register_env

from rllib_fmq import FMQConfig
from rllib_fmq.algorithms.config import FlowMapConfig
from rllib_fmq.data.formats.transitions_npz import save_transitions
from rllib_fmq.learner import FlowMapLearner

WALK = "rllib_fmq_tests/Walk"
OBS_DIM, HORIZON = 3, 3
LOW, HIGH = np.array([-2.0, 0.0], np.float32), np.array([2.0, 4.0], np.float32)
SPACES = (
    gym.spaces.Box(-np.inf, np.inf, (OBS_DIM,), np.float32),
    gym.spaces.Box(LOW, HIGH, dtype=np.float32),
)


class Walk(gym.Env[np.ndarray, np.ndarray]):
    """Spaces of the dataset below; its episodes last three steps."""

    observation_space, action_space = SPACES

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.steps = 0
        return np.zeros(OBS_DIM, np.float32), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        return np.full(OBS_DIM, self.steps, np.float32), -1.0, self.steps == 3, False, {}


ConfigFactory = Callable[..., FlowMapConfig]
LearnerFactory = Callable[..., FlowMapLearner]


def write_walk(path: Path, num_episodes: int = 60, seed: int = 0) -> Path:
    """Random walks of 2 to 9 steps in the environment's units, some truncated."""
    rng = np.random.default_rng(seed)
    columns: dict[str, list[Any]] = {
        name: []
        for name in (
            "observations",
            "actions",
            "rewards",
            "next_observations",
            "terminated",
            "truncated",
        )
    }
    for _ in range(num_episodes):
        length = int(rng.integers(2, 10))
        ended = bool(rng.random() < 0.5)
        obs = rng.standard_normal(OBS_DIM)
        for step in range(length):
            unit = rng.uniform(-1.0, 1.0, 2)
            following = obs + np.append(0.3 * unit, 0.1)
            columns["observations"].append(obs)
            columns["actions"].append(LOW + 0.5 * (unit + 1.0) * (HIGH - LOW))
            columns["rewards"].append(-float(np.square(following).sum()))
            columns["next_observations"].append(following)
            columns["terminated"].append(ended and step == length - 1)
            columns["truncated"].append(not ended and step == length - 1)
            obs = following
    return save_transitions(path, **{name: np.array(column) for name, column in columns.items()})


@pytest.fixture(scope="session")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The dataset's file, whose environment this registers."""
    register_env(WALK, lambda config: Walk())
    return write_walk(tmp_path_factory.mktemp("walk") / "walk.npz")


@pytest.fixture(scope="session")
def make_config(walk: Path) -> ConfigFactory:
    """Factory of small, validated configs; keywords go to ``training``."""

    def make(
        config_class: type[FlowMapConfig] = FMQConfig,
        *,
        seed: int | None = 0,
        dataset: Path | None = walk,
        num_learners: int = 0,
        **training: Any,
    ) -> FlowMapConfig:
        small: dict[str, Any] = {
            "horizon_length": HORIZON,
            "actor_hidden": (24, 24),
            "critic_hidden": (24, 24),
            "num_candidates": 2,
            "euler_steps": 2,
            "train_batch_size_per_learner": 32,
            "diagonal_warmup_updates": 2,
            "interval_anneal_end": 6,
        }
        config = (
            config_class()
            .environment(WALK)
            .offline_data(dataset=str(dataset))
            .training(**(small | training))
            .phases(offline_updates=10, online_env_steps=100)
            .learners(num_learners=num_learners)
            .debugging(seed=seed, log_level="ERROR")
        )
        config.validate()
        return config

    return make


@pytest.fixture(scope="session")
def make_learner(make_config: ConfigFactory) -> LearnerFactory:
    """Factory of learners in this process; arguments as ``make_config``'s."""

    def make(*args: Any, **kwargs: Any) -> FlowMapLearner:
        config = make_config(*args, **kwargs)
        spec = config.get_multi_rl_module_spec(spaces={"default_policy": SPACES})
        learner: FlowMapLearner = config.get_default_learner_class()(
            config=config, module_spec=spec
        )
        learner.build()
        return learner

    return make
