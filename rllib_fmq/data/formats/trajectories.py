"""Recorded trajectories, one after the other, and the table that they make."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from rllib_fmq.data.finite import describe_not_finite, find_not_finite
from rllib_fmq.data.table import TransitionTable


@dataclass(frozen=True)
class Trajectory:
    """n steps that follow each other, and the n + 1 observations around them.

    Args:
        name: For messages, such as "episode 3".
        observations: Shape (n + 1, obs_dim).
        actions: Shape (n, action_dim).
        rewards: Shape (n,).
        terminated: The MDP ended at this step, shape (n,), bool.
        start: Number of its first row in what the name names, for messages.
    """

    name: str
    observations: NDArray[Any]
    actions: NDArray[Any]
    rewards: NDArray[Any]
    terminated: NDArray[Any]
    start: int = 0

    def check(self) -> None:
        """Check shapes, types and finiteness.

        Raises:
            ValueError: Naming the trajectory, the array and the row.
        """
        steps = len(self.rewards) if self.rewards.ndim == 1 else -1
        for name, ndim, rows in (
            ("rewards", 1, steps),
            ("observations", 2, steps + 1),
            ("actions", 2, steps),
            ("terminated", 1, steps),
        ):
            array = getattr(self, name)
            if array.dtype.kind not in "fiub":
                raise ValueError(f"{self.name}: {name} hold {array.dtype}, not numbers")
            if array.ndim != ndim or len(array) != rows or array.size < rows:
                raise ValueError(
                    f"{self.name}: {name} have shape {array.shape}, but rewards "
                    f"{self.rewards.shape}; expected n rewards, n actions, n flags and n + 1 "
                    "observations, of at least one number"
                )
            if (found := find_not_finite(array)) is not None:
                place = f"row {self.start + found[0][0]}"
                raise ValueError(f"{self.name}: {describe_not_finite(name, array, found, place)}")


def to_table(trajectories: Iterable[Trajectory], source: str) -> TransitionTable:
    """Put trajectories together.

    Args:
        trajectories: Of one environment; those without a step are left out.
        source: Where they are from, for messages.
    Returns:
        Validated table.
    Raises:
        ValueError: Naming the source, the trajectory and what is wrong.
    """
    parts: dict[str, list[NDArray[Any]]] = {
        name: [] for name in ("obs", "actions", "rewards", "terminated", "final_obs")
    }
    lengths: list[int] = []
    sizes: tuple[int, int] | None = None
    for trajectory in trajectories:
        try:
            trajectory.check()
        except ValueError as error:
            raise ValueError(f"unusable dataset {source}: {error}") from error
        if not len(trajectory.rewards):
            continue
        here = (trajectory.observations.shape[1], trajectory.actions.shape[1])
        sizes = sizes or here
        if here != sizes:
            raise ValueError(
                f"unusable dataset {source}: {trajectory.name} has observations of size {here[0]} "
                f"and actions of size {here[1]}, those before it {sizes[0]} and {sizes[1]}"
            )
        observations = trajectory.observations.astype(np.float32)
        parts["obs"].append(observations[:-1])
        parts["final_obs"].append(observations[-1:])
        parts["actions"].append(trajectory.actions.astype(np.float32))
        parts["rewards"].append(trajectory.rewards.astype(np.float32))
        parts["terminated"].append(trajectory.terminated.astype(np.bool_))
        lengths.append(len(trajectory.rewards))
    if not lengths:
        raise ValueError(f"unusable dataset {source}: it holds no transitions")
    episode_end = np.zeros(sum(lengths), np.bool_)
    episode_end[np.cumsum(lengths) - 1] = True
    columns: dict[str, Any] = {name: np.concatenate(arrays) for name, arrays in parts.items()}
    return TransitionTable.from_columns(
        **columns, episode_end=episode_end, source=source, finite=True
    )


def flatten_rows(space: spaces.Space[Any], values: Any, name: str) -> NDArray[Any]:
    """Many elements of a space as vectors, in the order of `gymnasium.spaces.flatten`.

    Args:
        space: Box, or Dict of such.
        values: Arrays in the space's structure, each with a first axis over the elements.
        name: For messages.
    Returns:
        Shape (rows, flattened size).
    Raises:
        ValueError: If the space is of another kind, or values have another shape.
    """
    if isinstance(space, spaces.Dict):
        if not isinstance(values, Mapping) or not space.spaces:
            raise ValueError(f"{name} are no Dict, as their space says")
        if missing := [key for key in space.spaces if key not in values]:
            raise ValueError(f"{name} lack {missing[0]!r}")
        parts = [flatten_rows(part, values[key], f"{name}/{key}") for key, part in space.items()]
        if len({len(part) for part in parts}) != 1:
            raise ValueError(f"{name} have parts of {sorted({len(part) for part in parts})} rows")
        return np.concatenate(parts, axis=1)
    if not isinstance(space, spaces.Box):
        raise ValueError(
            f"{name} are in a {type(space).__name__} space; Boxes and Dicts of Boxes can be used"
        )
    array = np.asarray(values)
    if array.dtype != space.dtype or array.shape[1:] != space.shape or not array.ndim:
        raise ValueError(
            f"{name} hold {array.dtype} of shape {array.shape}, their space says {space.dtype} of "
            f"shape (rows, {', '.join(map(str, space.shape))})"
        )
    return array.reshape(len(array), -1)
