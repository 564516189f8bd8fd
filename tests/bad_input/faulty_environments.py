"""Environments that cannot be trained in, each for one reason; named ``module:factory``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

BOX = spaces.Box(-1.0, 1.0, (3,), np.float32)
ACTIONS = spaces.Box(-2.0, 2.0, (1,), np.float32)
not_callable = 3
Reset = Callable[[], Any]
Step = Callable[[], Any]


class Faulty(gym.Env[Any, Any]):
    """Spaces, a reset and a step that a test chooses; Pendulum's sizes where it does not."""

    def __init__(
        self,
        observation_space: Any = BOX,
        action_space: Any = ACTIONS,
        reset: Reset | None = None,
        step: Step | None = None,
    ) -> None:
        self.observation_space = observation_space
        self.action_space = action_space
        self._reset = reset or (lambda: (np.zeros(3, np.float32), {}))
        self._step = step or (lambda: (np.zeros(3, np.float32), 0.0, True, False, {}))

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return self._reset()

    def step(self, action: Any) -> Any:
        return self._step()


def _raises(error: BaseException) -> Reset:
    def fail() -> Any:
        raise error

    return fail


def _stepping(*outcome: Any) -> Callable[[], Faulty]:
    return lambda: Faulty(step=lambda: outcome)


def _zeros(*shape: int) -> Any:
    return np.zeros(shape, np.float32)


ACTION_SPACES = {
    "discrete": spaces.Discrete(3),
    "multi_discrete": spaces.MultiDiscrete([2, 2]),
    "multi_binary": spaces.MultiBinary(3),
    "tuple": spaces.Tuple([ACTIONS, ACTIONS]),
    "dict": spaces.Dict({"a": ACTIONS}),
    "text": spaces.Text(4),
    "unbounded": spaces.Box(-np.inf, np.inf, (1,), np.float32),
    "half_bounded": spaces.Box(0.0, np.inf, (1,), np.float32),
    "no_room": spaces.Box(np.array([1.0], np.float32), np.array([1.0], np.float32)),
    "empty": spaces.Box(-1.0, 1.0, (0,), np.float32),
    "none": None,
    "not_a_space": "Box(1)",
    "whole_numbers": spaces.Box(-2, 2, (1,), np.int64),
}
OBSERVATION_SPACES = {
    "discrete": spaces.Discrete(3),
    "image": spaces.Box(0, 255, (8, 8, 3), np.uint8),
    "matrix": spaces.Box(-1.0, 1.0, (2, 3), np.float32),
    "scalar": spaces.Box(-1.0, 1.0, (), np.float32),
    "empty": spaces.Box(-1.0, 1.0, (0,), np.float32),
    "text": spaces.Text(4),
    "graph": spaces.Graph(BOX, None),
    "sequence": spaces.Sequence(BOX),
    "none": None,
    "not_a_space": 3,
}
RESETS: dict[str, Reset] = {
    "raises": _raises(RuntimeError("the simulator is gone")),
    "asserts": _raises(AssertionError("no licence")),
    "nothing": lambda: None,
    "observation_only": lambda: _zeros(3),
    "three_things": lambda: (_zeros(3), {}, False),
    "wrong_shape": lambda: (_zeros(4), {}),
    "extra_axis": lambda: (_zeros(1, 3), {}),
    "nan": lambda: (np.array([0.0, np.nan, 0.0], np.float32), {}),
    "inf": lambda: (np.array([0.0, np.inf, 0.0], np.float32), {}),
    "no_observation": lambda: (None, {}),
    "text": lambda: ("left", {}),
    "dict": lambda: ({"x": _zeros(3)}, {}),
    "objects": lambda: (np.array([None, 1, 2], object), {}),
    "ragged": lambda: ([[1.0], [1.0, 2.0]], {}),
}
STEPS: dict[str, tuple[Any, ...]] = {
    "old_style": (_zeros(3), 0.0, True, {}),
    "nothing": (None,),
    "wrong_shape": (_zeros(2), 0.0, False, False, {}),
    "nan": (np.full(3, np.nan, np.float32), 0.0, False, False, {}),
    "nan_reward": (_zeros(3), float("nan"), False, False, {}),
    "infinite_reward": (_zeros(3), float("-inf"), False, False, {}),
    "no_reward": (_zeros(3), None, False, False, {}),
    "text_reward": (_zeros(3), "good", False, False, {}),
    "two_rewards": (_zeros(3), np.zeros(2), False, False, {}),
}


def __getattr__(name: str) -> Any:
    """Factories such as ``action_discrete`` and ``reset_nan``."""
    kind, _, key = name.partition("_")
    if kind == "action" and key in ACTION_SPACES:
        return lambda: Faulty(action_space=ACTION_SPACES[key])
    if kind == "obs" and key in OBSERVATION_SPACES:
        return lambda: Faulty(observation_space=OBSERVATION_SPACES[key])
    if kind == "reset" and key in RESETS:
        return lambda: Faulty(reset=RESETS[key])
    if kind == "step" and key in STEPS:
        return _stepping(*STEPS[key])
    raise AttributeError(name)


def step_raises() -> Faulty:
    return Faulty(step=_raises(ZeroDivisionError("division by zero")))


def makes_nothing() -> None:
    return None


def makes_a_class() -> type[Faulty]:
    return Faulty


def makes_a_vector() -> Any:
    return gym.make_vec("Pendulum-v1", num_envs=2)


def fails() -> Faulty:
    raise RuntimeError("no display\nof any kind")


def fails_silently() -> Faulty:
    raise OSError


def exits() -> Faulty:
    raise SystemExit("giving up")


def needs_an_argument(robot: str) -> Faulty:
    return Faulty()


def old_environment() -> Any:
    """Something with reset and step that is no ``gymnasium.Env``."""

    class Old:
        observation_space, action_space = BOX, ACTIONS

    return Old()


def unlike() -> Faulty:
    """Sizes that no dataset of Pendulum fits."""
    space = spaces.Box(-1.0, 1.0, (7,), np.float32)
    return Faulty(
        observation_space=space,
        reset=lambda: (_zeros(7), {}),
        step=lambda: (_zeros(7), 0.0, True, False, {}),
    )


def solved(*arguments: Any) -> bool:
    return bool(arguments)
