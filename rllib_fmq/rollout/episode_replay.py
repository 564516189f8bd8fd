"""The wrapper around each sub-environment: explicit seeds, faults, and episodes that resume."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector.utils import create_empty_array
from numpy.typing import NDArray

from rllib_fmq.rollout.checked_env import CheckedEnv, Env
from rllib_fmq.rollout.faults import EnvFault, Step
from rllib_fmq.seeds import episode_seed

FAULT_KIND = "rllib_fmq_fault_kind"
"""In a step's or reset's info where the environment failed: the fault's kind."""
FAULT_MESSAGE = "rllib_fmq_fault_message"
MAY_RESUME = "resume_episodes"
"""In an environment's ``metadata``: False where actions must never be repeated (a robot)."""


def may_resume(env: Env) -> bool:
    """Whether an environment lets its actions be repeated."""
    return bool((env.metadata or {}).get(MAY_RESUME, True))


@dataclass(frozen=True)
class SeedPlace:
    """Where a sub-environment stands: what its episodes' seeds are derived from."""

    entropy: int
    """The run's seed, or fresh entropy; >= 0."""
    evaluating: bool
    worker_index: int
    generation: int
    """Another one where a runner starts anew, so that no seed comes again."""

    def seed(self, env_index: int, episode: int) -> int:
        """The reset seed of an episode of one sub-environment."""
        place = (int(self.evaluating), self.worker_index, env_index, self.generation)
        return episode_seed(self.entropy, *place, episode)


class ReplayableEnv(CheckedEnv):
    """Never raises, numbers and seeds its episodes, and can repeat the running one.

    A fault ends the episode by truncation, with the last good observation, reward 0, and the
    fault in the info; the next reset makes the environment anew. After a reset that failed
    there is one step, which ends the episode at once. Where a seed is passed to ``reset``, it
    is used.

    Args:
        make: Makes the environment.
        env_index: Place in the vector.
        place: What the seeds are derived from.
        remember: Whether actions are kept, to repeat them on another machine.
        timeout_s: See ``CheckedEnv``.
    """

    def __init__(
        self,
        make: Callable[[], Env],
        env_index: int,
        place: SeedPlace,
        *,
        remember: bool,
        timeout_s: float | None = None,
    ) -> None:
        super().__init__(make, timeout_s)
        self._env_index, self._place = env_index, place
        self._remember = remember and may_resume(self)
        self._episode = -1
        self._seed = 0
        self._actions: list[NDArray[Any]] = []
        self._obs: Any = None
        self._running = False
        self._broken = False
        self._reset_next = False

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start the next episode; see the class for faults."""
        self._episode += 1
        self._reset_next = self._running = False
        self._seed = self._place.seed(self._env_index, self._episode) if seed is None else seed
        self._actions = []
        try:
            self._repair()
            self._obs, info = super().reset(seed=self._seed, options=options)
        except EnvFault as fault:
            self._obs = _zeros(self.observation_space)
            return self._obs, self._failed(fault)
        self._running = True
        return self._obs, info

    def step(self, action: Any) -> Step:
        """One step; the first one after a restore without a running episode is a reset."""
        if self._reset_next:
            obs, info = self.reset()
            return obs, 0.0, False, False, info
        if self._broken:
            return self._obs, 0.0, False, True, {}
        if self._remember:  # before the step: some environments change their action in place
            self._actions.append(np.array(action))
        try:
            result = super().step(action)
        except EnvFault as fault:
            return self._obs, 0.0, False, True, self._failed(fault)
        self._obs = result[0]
        self._running = not (result[2] or result[3])
        return result

    def replay_state(self) -> dict[str, Any]:
        """Number of the last episode, and what repeats it if it is running: plain data."""
        running = None
        if self._running and self._remember:
            running = {
                "seed": self._seed,
                "actions": [np.array(action) for action in self._actions],
                "observation": _leaves(self._obs),
            }
        return {"episode": self._episode, "running": running}

    def replay(self, states: Sequence[Mapping[str, Any]]) -> bool:
        """Go on where a sub-environment of another process stopped.

        Args:
            states: What ``replay_state`` gave, of all sub-environments of the vector.
        Returns:
            Whether the running episode goes on: repeating it gave the same observation, bit
            for bit. If not, the next step is the reset of the next episode.
        """
        state = states[self._env_index]
        self._episode, running = state["episode"], state["running"]
        self._reset_next = not (self._remember and running and self._repeat(running))
        if self._reset_next:
            self._running = False
        return not self._reset_next

    def _repeat(self, running: Mapping[str, Any]) -> bool:
        self._seed, self._actions = running["seed"], list(running["actions"])
        try:
            self._repair()
            obs, _ = super().reset(seed=self._seed)
            for action in self._actions:
                obs, _, terminated, truncated, _ = super().step(np.array(action))
                if terminated or truncated:
                    return False
        except EnvFault:
            self._broken = True
            return False
        self._obs, self._running = obs, True
        here, stored = _leaves(obs), running["observation"]
        return len(here) == len(stored) and all(map(np.array_equal, here, stored))

    def _repair(self) -> None:
        if self._broken:
            self.renew()
            self._broken = False

    def _failed(self, fault: EnvFault) -> dict[str, Any]:
        self._broken, self._running = True, False
        return {FAULT_KIND: fault.kind, FAULT_MESSAGE: fault.message}


def _zeros(space: gym.Space[Any]) -> Any:
    batch = gym.vector.utils.batch_space(space, 1)
    return next(iter(gym.vector.utils.iterate(batch, create_empty_array(space, 1))))


def _leaves(obs: Any) -> list[Any]:
    if isinstance(obs, Mapping):
        return [leaf for key in sorted(obs) for leaf in _leaves(obs[key])]
    if isinstance(obs, tuple | list):  # its parts may be of different shapes
        return [leaf for part in obs for leaf in _leaves(part)]
    return [np.array(obs)]
