"""Environments that write down what was done to them."""

from __future__ import annotations

import itertools
import os
from typing import Any

import gymnasium as gym
import numpy as np
from ray.tune.registry import register_env

SCRIPTED = "rllib_fmq_tests/Scripted"
SCRIPTED_DICT = "rllib_fmq_tests/ScriptedDict"
WANDER = "rllib_fmq_tests/Wander"
LOW, HIGH = np.array([-2.0, 0.0], np.float32), np.array([2.0, 4.0], np.float32)
LENGTHS = (4, 7, 2, 6, 1, 5)
OBS_DIM = 3


class Scripted(gym.Env[Any, np.ndarray]):
    """Episodes of known lengths that observe (own number, number of the episode, step).

    Reset with a seed, an episode lasts ``2 + seed % 7`` steps and succeeds where the seed is
    even; without, lengths follow ``LENGTHS`` and every second episode succeeds. Every third
    episode ends by truncation. Step k (from 0) pays k + 0.5.
    """

    numbers = itertools.count()

    def __init__(self, config: dict[str, Any] | None = None) -> None:
        self.observation_space: gym.Space[Any] = gym.spaces.Box(
            -np.inf, np.inf, (OBS_DIM,), np.float32
        )
        self.action_space = gym.spaces.Box(LOW, HIGH, dtype=np.float32)
        self.number = next(Scripted.numbers)
        self.actions: list[list[np.ndarray]] = []
        """Of each episode, as the environment received them."""
        self.seeds: list[int | None] = []
        """Of each reset."""

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.seeds.append(seed)
        self.actions.append([])
        episode = len(self.actions) - 1
        self.length = LENGTHS[(episode + self.number) % 6] if seed is None else 2 + seed % 7
        self.succeeds = (episode if seed is None else seed) % 2 == 0
        return self._observe(), {}

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action), action
        taken = self.actions[-1]
        taken.append(np.array(action))
        done = len(taken) == self.length
        truncates = truncated_episode(len(self.actions) - 1)
        reward = len(taken) - 1 + 0.5
        info = {"success": done and self.succeeds}
        return self._observe(), reward, done and not truncates, done and truncates, info

    def _observe(self) -> Any:
        return observation(self.number, len(self.actions) - 1, len(self.actions[-1]))


class ScriptedDict(Scripted):
    """The same, with observations in a Dict whose keys are not in alphabetical order."""

    def __init__(self, config: dict[str, Any] | None = None) -> None:
        super().__init__(config)

        def box(size: int) -> gym.Space[Any]:
            return gym.spaces.Box(-np.inf, np.inf, (size,), np.float64)

        inner = gym.spaces.Dict([("y", box(1)), ("b", box(1))])
        self.observation_space = gym.spaces.Dict([("z", box(1)), ("a", inner)])

    def _observe(self) -> Any:
        number, episode, step = super()._observe().astype(np.float64)
        # Key order of what is returned does not matter; that of the space does.
        return {
            "a": {"b": np.array([step]), "y": np.array([episode])},
            "z": np.array([number]),
        }


class Wander(gym.Env[np.ndarray, np.ndarray]):
    """Seven steps of observed noise; the return depends on every action and observation.

    Bounds of actions are no float32 numbers, and their array is a column. No success is told.
    """

    deadly_seed: int | None = None
    """A reset with this seed ends the process."""

    def __init__(self, config: dict[str, Any] | None = None) -> None:
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (OBS_DIM,), np.float64)
        self.action_space = gym.spaces.Box(-0.1, 0.3, (2, 1), np.float64)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        if seed is not None and seed == self.deadly_seed:
            os._exit(1)
        self.steps = 0
        self.obs = self.np_random.standard_normal(OBS_DIM)
        return self.obs, {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action), action
        self.steps += 1
        reward = float(self.obs[:2] @ action[:, 0])
        self.obs = self.np_random.standard_normal(OBS_DIM)
        return self.obs, reward, False, self.steps == 7, {}


def truncated_episode(episode: int) -> bool:
    return episode % 3 == 2


def observation(number: int, episode: int, step: int) -> np.ndarray:
    return np.array([number, episode, step], np.float32)


def register_scripted() -> None:
    """Make the environments known to RLlib."""
    register_env(SCRIPTED, lambda config: Scripted(dict(config)))
    register_env(SCRIPTED_DICT, lambda config: ScriptedDict(dict(config)))
    register_env(WANDER, lambda config: Wander(dict(config)))
