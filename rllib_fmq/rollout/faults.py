"""What an environment may do wrong, and the checks that find it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

STEP_ERROR = "step_error"
RESET_ERROR = "reset_error"
BAD_OBSERVATION = "bad_observation"
NONFINITE_OBSERVATION = "nonfinite_observation"
BAD_REWARD = "bad_reward"
NONFINITE_REWARD = "nonfinite_reward"
TIMEOUT = "timeout"
CRASH = "crash"

_LARGEST = float(np.finfo(np.float32).max)
"""The replay is in float32: what is larger would be infinite there."""

Step = tuple[Any, float, bool, bool, dict[str, Any]]


class EnvFault(RuntimeError):
    """An environment failed.

    Args:
        kind: One of this file's kinds.
        message: What happened, in one line.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(f"the environment failed ({kind}): {message}")
        self.kind = kind
        self.message = message

    def __reduce__(self) -> tuple[type[EnvFault], tuple[str, str]]:
        """Pickle would call the class with the whole text alone."""
        return type(self), (self.kind, self.message)


class EnvFaultLimitError(RuntimeError):
    """Environments failed so often that the run stops; the message names the last fault."""


def describe(error: BaseException) -> str:
    """An exception in one line, with its type."""
    text = " ".join(str(error).split())
    name = type(error).__name__
    return f"{name}: {text}" if text else name


def _shown(value: Any) -> str:
    """The beginning of its ``repr``, in one line."""
    return " ".join(f"{value!r:.80}".split())


def check_reset(space: gym.Space[Any], result: Any) -> tuple[Any, dict[str, Any]]:
    """Check what ``reset`` returned.

    Args:
        space: Of single observations.
        result: As returned.
    Returns:
        Observation (a copy) and info.
    Raises:
        EnvFault: If it is not a pair, or the observation does not fit or is not finite.
    """
    try:
        obs, info = result
    except (TypeError, ValueError):
        raise EnvFault(RESET_ERROR, "reset() must return (observation, info)") from None
    return check_observation(space, obs), _check_info(RESET_ERROR, info)


def check_step(space: gym.Space[Any], result: Any) -> Step:
    """Check what ``step`` returned.

    Args:
        space: Of single observations.
        result: As returned.
    Returns:
        Observation (a copy), reward, terminated, truncated, info.
    Raises:
        EnvFault: If anything has the wrong form or is not finite in float32.
    """
    try:
        obs, reward, terminated, truncated, info = result
    except (TypeError, ValueError):
        raise EnvFault(
            STEP_ERROR,
            "step() must return (observation, reward, terminated, truncated, info)",
        ) from None
    return (
        check_observation(space, obs),
        check_reward(reward),
        _check_flag("terminated", terminated),
        _check_flag("truncated", truncated),
        _check_info(STEP_ERROR, info),
    )


def _check_flag(name: str, flag: Any) -> bool:
    try:
        return bool(flag)
    except Exception as error:
        raise EnvFault(STEP_ERROR, f"{name} is no bool: {describe(error)}") from None


def _check_info(kind: str, info: Any) -> dict[str, Any]:
    if info is not None and not isinstance(info, Mapping):
        raise EnvFault(kind, f"info is a {type(info).__name__}, expected a dict")
    return dict(info or {})


def check_reward(reward: Any) -> float:
    """A reward as a number.

    Raises:
        EnvFault: If it is not one number, or not finite in float32.
    """
    try:
        array = np.asarray(reward, dtype=np.float64)
    except Exception:  # whatever conversions of the environment's own raise
        raise EnvFault(BAD_REWARD, f"reward {_shown(reward)} is not a number") from None
    if reward is None or array.size != 1:
        raise EnvFault(
            BAD_REWARD, f"reward {_shown(reward)} of shape {array.shape}, expected one number"
        )
    value = float(array.item())
    if not abs(value) <= _LARGEST:
        raise EnvFault(NONFINITE_REWARD, f"reward {value}")
    return value


def check_observation(space: gym.Space[Any], obs: Any) -> Any:
    """An observation as an array (or Dict or Tuple of them) of the space's shape and type.

    Args:
        space: Its ``low`` and ``high`` are not checked: many environments leave them.
        obs: As the environment returned it.
    Returns:
        A copy.
    Raises:
        EnvFault: If shape or type do not fit, or a number is not finite in float32.
    """
    try:
        return _checked_observation(space, obs)
    except EnvFault:
        raise
    except Exception as error:  # ragged, or whatever conversions of the environment's own raise
        raise EnvFault(BAD_OBSERVATION, f"{type(obs).__name__}: {describe(error)}") from None


def _checked_observation(space: gym.Space[Any], obs: Any) -> Any:
    if isinstance(space, gym.spaces.Box):
        return _box_observation(space, obs)
    if isinstance(space, gym.spaces.Dict):
        if not isinstance(obs, Mapping) or not set(space.spaces) <= set(obs):
            keys = sorted(map(str, obs)) if isinstance(obs, Mapping) else type(obs).__name__
            raise EnvFault(
                BAD_OBSERVATION, f"observation {keys}, expected the keys {sorted(space.spaces)}"
            )
        return {key: check_observation(part, obs[key]) for key, part in space.spaces.items()}
    if isinstance(space, gym.spaces.Tuple):
        if not isinstance(obs, tuple | list) or len(obs) != len(space.spaces):
            raise EnvFault(
                BAD_OBSERVATION,
                f"observation {_shown(obs)}, expected a tuple of {len(space.spaces)} parts",
            )
        parts = zip(space.spaces, obs, strict=True)
        return tuple(check_observation(part, value) for part, value in parts)
    if not space.contains(obs):
        raise EnvFault(BAD_OBSERVATION, f"observation {_shown(obs)} is not in {space}")
    return obs


def _box_observation(space: gym.spaces.Box, obs: Any) -> NDArray[Any]:
    array = np.asarray(obs)
    if array.shape != space.shape:
        raise EnvFault(
            BAD_OBSERVATION, f"observation of shape {array.shape}, expected {space.shape}"
        )
    if not np.can_cast(array.dtype, np.dtype(space.dtype), "same_kind"):
        raise EnvFault(
            BAD_OBSERVATION, f"observation of type {array.dtype}, expected {space.dtype}"
        )
    if array.dtype.kind == "f" and not (np.abs(array) <= _LARGEST).all():
        bad = int(np.flatnonzero(~(np.abs(array) <= _LARGEST))[0])
        raise EnvFault(NONFINITE_OBSERVATION, f"observation[{bad}] is {array.ravel()[bad]}")
    with np.errstate(over="ignore"):
        converted = np.array(array, dtype=space.dtype)
    # A smaller type may not hold what the environment's own type holds.
    lost = ~np.isfinite(converted) if converted.dtype.kind == "f" else converted != array
    if lost.any():
        bad = int(np.flatnonzero(lost)[0])
        raise EnvFault(
            NONFINITE_OBSERVATION if converted.dtype.kind == "f" else BAD_OBSERVATION,
            f"observation[{bad}] is {array.ravel()[bad]}, which {space.dtype} does not hold",
        )
    return converted
