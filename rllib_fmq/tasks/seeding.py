"""Make an OGBench environment obey `reset(seed=...)`.

As shipped, mazes draw start positions (and teleports) from NumPy's global generator, and every
environment warms its scene up with actions from an action space seeded by the operating system.
Both are given a generator of their own here, which a seeded reset re-seeds.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np


@contextlib.contextmanager
def global_numpy_random(state: np.random.RandomState) -> Iterator[None]:
    """Run a block with NumPy's global generator in `state`; advance `state`, restore the global.

    Args:
        state: The generator that stands in for the global one; left where the block stopped.
    """
    outer = np.random.get_state()
    np.random.set_state(state.get_state())
    try:
        yield
    finally:
        state.set_state(np.random.get_state())
        np.random.set_state(outer)


def pin_action_space(env: gymnasium.Env[Any, Any]) -> gymnasium.Space[Any]:
    """Give the innermost environment one action space for life, and return it.

    OGBench's manipulation environments build a new, unseeded Box on every access.

    Args:
        env: Any environment; its innermost instance changes class to a subclass of its own.
    Returns:
        The pinned space, whose generator the environment samples from.
    """
    base = env.unwrapped
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # float64 bounds of +-1 cast to float32 lose nothing
        space = base.action_space
    if isinstance(getattr(type(base), "action_space", None), property):
        kind = type(base)
        base.__class__ = type(kind.__name__, (kind,), {"action_space": property(lambda _: space)})
    return space


class SeededReset(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Reproducible resets, constant spaces, and `info` reduced to what training reads.

    Two rollouts from the same seed with the same actions give the same observations, whatever else
    draws from NumPy's global generator in the same process.

    Args:
        env: OGBench environment.
        full_info: Keep OGBench's info entries (about 30 arrays a step; they dominate the cost of
            sampling with vectorised runners). Otherwise info holds only `success`, a bool.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], *, full_info: bool = False) -> None:
        super().__init__(env)
        self._inner_actions = pin_action_space(env)
        # OGBench computes an observation on each access of the space: once is enough.
        self.observation_space = env.observation_space
        self.action_space = self._inner_actions
        self._random = np.random.RandomState()
        self._random_steps = getattr(env.unwrapped, "_teleport_info", None) is not None
        self._full_info = full_info

    def _reduce(self, info: dict[str, Any]) -> dict[str, Any]:
        success = bool(info.get("success", False))
        return {**info, "success": success} if self._full_info else {"success": success}

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Reset; with a seed, everything random from here on follows from it."""
        if seed is not None:
            words = np.random.SeedSequence(seed).generate_state(9)
            self._random.seed(words[:8])
            self._inner_actions.seed(int(words[8]))
        with global_numpy_random(self._random):
            observation, info = self.env.reset(seed=seed, options=options)
        return observation, self._reduce(info)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Step the environment; `info["success"]` tells whether the task was solved."""
        scope = (
            global_numpy_random(self._random) if self._random_steps else contextlib.nullcontext()
        )
        with scope:
            observation, reward, terminated, truncated, info = self.env.step(action)
        return observation, reward, bool(terminated), bool(truncated), self._reduce(info)
