"""An environment that fails on demand, and says truly what it observed."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from ray.tune.registry import register_env

FAULTY = "rllib_fmq_tests/Faulty"
LENGTH = 7
OBS_DIM = 3


class Faulty(gym.Env[Any, np.ndarray]):
    """Seven steps of observed noise; ``config["fault"]`` happens at some of them.

    ``fault`` is one of step, reset, nan, inf_reward, huge_reward, shape, dtype, ragged, tuple,
    hang, exit; it happens at step ``at`` (reset faults at the reset) of episodes
    ``first``, ``first + every``, ... of each object, or of all together where a file ``counter``
    counts them (for environments that are made anew, or in processes of their own).
    """

    def __init__(self, config: dict[str, Any] | None = None) -> None:
        self.config = {"fault": "", "at": 3, "first": 1, "every": 3, "counter": None} | (
            config or {}
        )
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (OBS_DIM,), np.float32)
        self.action_space = gym.spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.episode = -1
        self.seeds: list[int | None] = []
        self.closed = False

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.seeds.append(seed)
        self.episode = self._count()
        self.steps = 0
        fault = self.config["fault"]
        if fault == "reset" and self._due():
            raise OSError("no connection to the robot")
        self.obs = self.np_random.standard_normal(OBS_DIM).astype(np.float32)
        return self.obs, {}

    def step(self, action: np.ndarray) -> Any:
        assert self.action_space.contains(action), action
        self.steps += 1
        self.obs = (self.np_random.standard_normal(OBS_DIM) + action.sum()).astype(np.float32)
        result = [self.obs, float(self.obs[0]), False, self.steps == LENGTH, {}]
        if self.steps == self.config["at"] and self._due():
            return self._fail(result)
        return tuple(result)

    def close(self) -> None:
        self.closed = True
        if "closing" in self.config:
            with Path(self.config["closing"]).open("a") as file:
                file.write("x")

    def _due(self) -> bool:
        past = self.episode - self.config["first"]
        return past >= 0 and past % self.config["every"] == 0

    def _count(self) -> int:
        if self.config["counter"] is None:
            return self.episode + 1
        path = Path(self.config["counter"])
        with path.open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # another process may count at the same time
            file.write("x")
            file.flush()
            return os.fstat(file.fileno()).st_size - 1

    def _fail(self, result: list[Any]) -> Any:
        fault = self.config["fault"]
        if fault == "step":
            raise ZeroDivisionError("division by zero\nin the simulator")
        if fault == "exit":
            os._exit(1)
        if fault == "hang":
            time.sleep(self.config.get("seconds", 3600))
        changes: dict[str, tuple[int, Any]] = {
            "nan": (0, np.array([0.0, np.nan, 0.0], np.float32)),
            "shape": (0, np.zeros(OBS_DIM + 1, np.float32)),
            "dtype": (0, np.array(["a"] * OBS_DIM)),
            "ragged": (0, [[1.0], [1.0, 2.0], 3.0]),
            "inf_reward": (1, float("inf")),
            "huge_reward": (1, 1e300),
            "no_reward": (1, None),
        }
        if fault in changes:
            place, value = changes[fault]
            result[place] = value
        return tuple(result[:4] if fault == "tuple" else result)


class Unrepeatable(Faulty):
    """Observations that no seed repeats."""

    def step(self, action: np.ndarray) -> Any:
        obs, *rest = super().step(action)
        return obs + np.float32(time.perf_counter() % 1.0), *rest


class Ragged(Faulty):
    """Observes a tuple of parts of different shapes."""

    def __init__(self, config: dict[str, Any] | None = None) -> None:
        super().__init__(config)
        parts = [gym.spaces.Box(-np.inf, np.inf, shape, np.float32) for shape in ((1,), (2, 1))]
        self.observation_space = gym.spaces.Tuple(parts)

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        obs, info = super().reset(**kwargs)
        return (obs[:1], obs[1:, None]), info

    def step(self, action: np.ndarray) -> Any:
        obs, *rest = super().step(action)
        return (obs[:1], obs[1:, None]), *rest


class Robot(Faulty):
    """Says of itself that actions must not be repeated."""

    metadata = {"resume_episodes": False}  # noqa: RUF012


def register_faulty() -> None:
    """Make the environment known to RLlib."""
    register_env(FAULTY, lambda config: Faulty(dict(config)))
