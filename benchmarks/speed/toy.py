"""An environment that costs nothing, for a look at whether everything runs."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

from benchmarks.speed.problem import QUICK

TASK = "benchmarks.speed.toy:Toy"


class Toy(gym.Env[np.ndarray, np.ndarray]):
    """Random observations of ``problem.QUICK``'s sizes; episodes of 20 steps."""

    def __init__(self, **kwargs: Any) -> None:
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (QUICK.obs_dim,), np.float32)
        self.action_space = gym.spaces.Box(-1.0, 1.0, (QUICK.action_dim,), np.float32)

    def _observation(self) -> np.ndarray:
        return self.np_random.standard_normal(QUICK.obs_dim, np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self._steps = 0
        return self._observation(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self._steps += 1
        return self._observation(), -1.0, False, self._steps == 20, {}
