"""Small problems with known answers, and their datasets, for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from ray.tune.registry import register_env

from rllib_fmq.data.formats.transitions_npz import save_transitions

TWO_MODES = "rllib_fmq_tests/TwoModes"
MODE = 0.45
BEST = 0.9
BOUND = 2.0


class TwoModes(gym.Env[np.ndarray, np.ndarray]):
    """A contextual bandit whose data have two modes, one of which is better.

    The context is a direction e = (cos p, sin p). Data lie about +-0.45 e (in units where
    actions span [-1, 1]); the reward -|a - 0.9 e|^2 is larger at the first mode and best
    beyond both, so Q's gradient points the same way everywhere in the data.
    """

    def __init__(self, config: dict[str, Any] | None = None) -> None:
        self.observation_space = gym.spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.action_space = gym.spaces.Box(-BOUND, BOUND, (2,), np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self._direction = context(self.np_random, 1)[0]
        return self._direction, {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        reward = float(value(self._direction, np.asarray(action) / BOUND))
        return self._direction, reward, True, False, {"success": reward > -0.1}


def context(rng: np.random.Generator, num: int) -> np.ndarray:
    """Directions, shape (num, 2)."""
    angle = rng.uniform(-np.pi, np.pi, num)
    return np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)


def value(direction: np.ndarray, action: np.ndarray) -> np.ndarray:
    """Reward of actions in [-1, 1]."""
    return -np.square(action - BEST * direction).sum(axis=-1)


def write_two_modes(path: Path, num: int = 4_000, seed: int = 0) -> Path:
    """A dataset of ``num`` one-step episodes from both modes, in the environment's units."""
    rng = np.random.default_rng(seed)
    obs = context(rng, num)
    sign = rng.choice([-1.0, 1.0], (num, 1))
    actions = MODE * sign * obs + 0.05 * rng.standard_normal((num, 2))
    return save_transitions(
        path,
        observations=obs,
        actions=BOUND * actions,
        rewards=value(obs, actions),
        next_observations=obs,
        terminated=np.ones(num, bool),
        truncated=np.zeros(num, bool),
    )


def register_problems() -> None:
    """Make the environments known to RLlib."""
    register_env(TWO_MODES, lambda config: TwoModes(dict(config)))
