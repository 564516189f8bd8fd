"""The in-memory form of every dataset: primitive transitions in column arrays."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_COLUMNS = ("obs", "actions", "rewards", "terminated", "episode_end", "final_obs")


@dataclass(frozen=True)
class TransitionTable:
    """Primitive transitions, one row a step; the rows of an episode contiguous and in order.

    The next observation of a row is the next row's `obs`, or, where `episode_end` is set, the
    `final_obs` of that episode.

    Args:
        obs: Observations, shape (N, obs_dim), float32.
        actions: Actions in the environment's units, shape (N, action_dim), float32.
        rewards: Rewards, shape (N,), float32.
        terminated: The MDP ended at this step, so nothing is bootstrapped past it; shape (N,),
            bool. A recorded trajectory may go on after such a row (OGBench's play data does):
            then `episode_end` is False there.
        episode_end: Last stored row of a recorded trajectory, whether it ended, was truncated or
            was cut; shape (N,), bool.
        final_obs: Next observation of each row with `episode_end`, in order; shape (E, obs_dim),
            float32.
        source: Where the rows came from (file and task), for people to read.
        fingerprint: SHA-256 over the columns, hexadecimal.
    """

    obs: NDArray[np.float32]
    actions: NDArray[np.float32]
    rewards: NDArray[np.float32]
    terminated: NDArray[np.bool_]
    episode_end: NDArray[np.bool_]
    final_obs: NDArray[np.float32]
    source: str
    fingerprint: str

    @classmethod
    def from_columns(
        cls,
        *,
        obs: NDArray[Any],
        actions: NDArray[Any],
        rewards: NDArray[Any],
        terminated: NDArray[Any],
        episode_end: NDArray[Any],
        final_obs: NDArray[Any],
        source: str,
    ) -> TransitionTable:
        """Cast columns to the table's types, take their fingerprint, and validate the result.

        Args: as the class, in any numeric type.
        Raises:
            ValueError: As `validate`.
        """
        columns: dict[str, NDArray[Any]] = {
            "obs": np.ascontiguousarray(obs, dtype=np.float32),
            "actions": np.ascontiguousarray(actions, dtype=np.float32),
            "rewards": np.ascontiguousarray(rewards, dtype=np.float32),
            "terminated": np.ascontiguousarray(terminated, dtype=np.bool_),
            "episode_end": np.ascontiguousarray(episode_end, dtype=np.bool_),
            "final_obs": np.ascontiguousarray(final_obs, dtype=np.float32),
        }
        table = cls(**columns, source=source, fingerprint=fingerprint(columns))
        table.validate()
        return table

    @property
    def num_steps(self) -> int:
        """Number of primitive transitions, N."""
        return len(self.obs)

    @property
    def num_episodes(self) -> int:
        """Number of recorded trajectories, E."""
        return len(self.final_obs)

    @property
    def obs_dim(self) -> int:
        """Size of an observation."""
        return int(self.obs.shape[1])

    @property
    def action_dim(self) -> int:
        """Size of a primitive action."""
        return int(self.actions.shape[1])

    def validate(self) -> None:
        """Check shapes, types, finiteness and episode structure.

        Raises:
            ValueError: On the first violation, naming the source, the column and the row.
        """
        for name, ndim, dtype in (
            ("obs", 2, np.float32),
            ("actions", 2, np.float32),
            ("rewards", 1, np.float32),
            ("terminated", 1, np.bool_),
            ("episode_end", 1, np.bool_),
            ("final_obs", 2, np.float32),
        ):
            column = getattr(self, name)
            if column.ndim != ndim or column.dtype != dtype:
                self._fail(
                    f"{name} must be a {ndim}-dimensional {np.dtype(dtype).name} array, "
                    f"but has shape {column.shape} and type {column.dtype}"
                )
        if self.num_steps == 0:
            self._fail("it holds no transitions")
        for name in ("actions", "rewards", "terminated", "episode_end"):
            if len(getattr(self, name)) != self.num_steps:
                self._fail(f"{name} has {len(getattr(self, name))} rows, obs {self.num_steps}")
        if self.final_obs.shape[1] != self.obs_dim:
            self._fail(f"final_obs has size {self.final_obs.shape[1]}, obs {self.obs_dim}")
        if not self.episode_end[-1]:
            self._fail("the last row must end an episode (episode_end)")
        ends = int(self.episode_end.sum())
        if ends != self.num_episodes:
            self._fail(f"{ends} rows end an episode, but there are {self.num_episodes} final_obs")
        for name in ("obs", "actions", "rewards", "final_obs"):
            self._check_finite(name)

    def _check_finite(self, name: str) -> None:
        column = getattr(self, name)
        finite = np.isfinite(column)
        if finite.all():
            return
        index = tuple(int(i) for i in np.argwhere(~finite)[0])
        where = f"row {index[0]}" + (f", entry {index[1]}" if len(index) > 1 else "")
        self._fail(
            f"{name} is {column[index]} at {where} ({int((~finite).sum())} such values in all); "
            "remove or repair these rows"
        )

    def _fail(self, problem: str) -> None:
        raise ValueError(f"unusable dataset {self.source}: {problem}")


def fingerprint(columns: dict[str, NDArray[Any]]) -> str:
    """SHA-256 over names, types, shapes and bytes of the columns, in the table's order."""
    digest = hashlib.sha256()
    for name in _COLUMNS:
        column = columns[name]
        digest.update(f"{name}:{column.dtype.str}:{column.shape};".encode())
        digest.update(np.ascontiguousarray(column).data)
    return digest.hexdigest()
