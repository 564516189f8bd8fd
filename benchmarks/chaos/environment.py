"""A tiny environment that writes down each of its steps, and a dataset of it.

Jobs name it `benchmarks.chaos.environment:make`. A step's line is in the file before the step
returns, so a log holds all that an env-runner ever experienced, whatever happened to it since.
"""

from __future__ import annotations

import hashlib
import os
import struct
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from rllib_fmq.data.formats.transitions_npz import save_transitions
from rllib_fmq.seeds import FIRST_EPISODE_SEED

ENVIRONMENT = "benchmarks.chaos.environment:make"
RECORD = struct.Struct("<QI16s2f")
FIRST_COLLECTION_SEED = FIRST_EPISODE_SEED
"""Evaluation episodes have smaller ones (docs/FAULTS.md)."""


@dataclass(frozen=True)
class Step:
    """One step of an environment."""

    seed: int
    """Of the episode."""
    index: int
    """In the episode, from 0."""
    content: bytes
    """See ``content_of``."""
    action: list[float]
    """As the environment got it: RLlib's rescaling has changed its last bits."""


def content_of(obs: Any, reward: float, terminated: bool, next_obs: Any) -> bytes:
    """Digest of all of a transition but its action, numbers as float32."""
    numbers = [np.asarray(part, np.float32).tobytes() for part in (obs, reward, next_obs)]
    numbers.append(bytes([terminated]))
    return hashlib.blake2b(b"".join(numbers), digest_size=16).digest()


class LoggedDrift(gym.Env[np.ndarray, np.ndarray]):
    """A point that is pushed about by chance; its episodes last 9 to 23 steps.

    Args:
        log: Folder for the logs, one file for each environment of each process; None: none.
        step_seconds: How long a step takes, in which nothing is computed.
    """

    def __init__(self, log: str | None = None, step_seconds: float = 0.0) -> None:
        self.observation_space = gym.spaces.Box(-np.inf, np.inf, (3,), np.float32)
        self.action_space = gym.spaces.Box(-1.0, 1.0, (2,), np.float32)
        self._step_seconds = step_seconds
        self._log = None if log is None else _new_log(Path(log))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self._seed = seed or 0
        self._index = 0
        self._length = int(self.np_random.integers(9, 24))
        self._place = self.np_random.normal(size=3).astype(np.float32)
        return self._place.copy(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        if self._step_seconds:
            time.sleep(self._step_seconds)
        before = self._place
        push = np.append(action, action.sum()) + 0.1 * self.np_random.normal(size=3)
        self._place = (0.9 * before + 0.1 * push).astype(np.float32)
        reward = -float(np.float32(np.square(self._place).sum()))
        over = self._index + 1 == self._length
        terminated = over and reward > -0.5
        if self._log is not None:
            content = content_of(before, reward, terminated, self._place)
            os.write(self._log, RECORD.pack(self._seed, self._index, content, *action))
        self._index += 1
        truncated = over and not terminated
        return self._place.copy(), reward, terminated, truncated, {"success": terminated}

    def close(self) -> None:
        if self._log is not None:
            os.close(self._log)
            self._log = None


def make(**kwargs: Any) -> LoggedDrift:
    """The environment, from the keys of `env_config`."""
    return LoggedDrift(**kwargs)


def _new_log(folder: Path) -> int:
    name = f"{os.getpid()}-{uuid.uuid4().hex[:8]}.steps"
    return os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND)


def read_log(path: Path) -> list[Step]:
    """The collection steps of one environment, in their order."""
    data = path.read_bytes()
    whole = data[: len(data) // RECORD.size * RECORD.size]
    steps = (
        Step(seed, index, content, action)
        for seed, index, content, *action in RECORD.iter_unpack(whole)
    )
    return [step for step in steps if step.seed >= FIRST_COLLECTION_SEED]


def write_dataset(path: Path, num_episodes: int = 30) -> Path:
    """Episodes of random actions, as plain npz."""
    env, rng = LoggedDrift(), np.random.default_rng(0)
    rows: dict[str, list[Any]] = {
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
    for episode in range(num_episodes):
        obs, _ = env.reset(seed=episode)
        over = False
        while not over:
            action = rng.uniform(-1, 1, 2).astype(np.float32)
            after, reward, terminated, truncated, _ = env.step(action)
            over = terminated or truncated
            values = (obs, action, reward, after, terminated, truncated)
            for column, value in zip(rows.values(), values, strict=True):
                column.append(value)
            obs = after
    return save_transitions(path, **{name: np.array(values) for name, values in rows.items()})
