"""The one form of every dataset: primitive transitions in column arrays."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rllib_fmq.data.finite import describe_not_finite, find_not_finite

COLUMNS: Mapping[str, tuple[int, np.dtype[Any]]] = {
    "obs": (2, np.dtype(np.float32)),
    "actions": (2, np.dtype(np.float32)),
    "rewards": (1, np.dtype(np.float32)),
    "terminated": (1, np.dtype(np.bool_)),
    "episode_end": (1, np.dtype(np.bool_)),
    "final_obs": (2, np.dtype(np.float32)),
}
"""Number of dimensions and type of each column, in the order of the fingerprint."""
FINGERPRINT_BLOCK = 1 << 20


@dataclass(frozen=True)
class TransitionTable:
    """Primitive transitions, one row a step; the rows of an episode contiguous and in order.

    The next observation of a row is the next row's `obs`, or, where `episode_end` is set, the
    `final_obs` of that episode. The columns lie in memory, or are read-only maps of files
    (`load_columns`), of which the system keeps in memory what is in use.

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
        fingerprint: What `fingerprint` gives for the columns.
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
        finite: bool = False,
    ) -> TransitionTable:
        """Cast columns to the table's types, take their fingerprint, and validate the result.

        Args: as the class, in any numeric type; and
            finite: The numbers are known to be finite in float32: a reader that has looked at
                them in their file, where it can name key and row, spares the table a second look.
        Raises:
            ValueError: As `validate`.
        """
        given = {
            "obs": obs,
            "actions": actions,
            "rewards": rewards,
            "terminated": terminated,
            "episode_end": episode_end,
            "final_obs": final_obs,
        }
        columns: dict[str, NDArray[Any]] = {
            name: np.ascontiguousarray(given[name], dtype) for name, (_, dtype) in COLUMNS.items()
        }
        table = cls(**columns, source=source, fingerprint=fingerprint(columns))
        if finite:
            table.validate_structure()
        else:
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

    @property
    def mapped(self) -> bool:
        """Whether the rows stay on disk and are read as they are used."""
        return isinstance(self.obs, np.memmap)

    def columns(self) -> dict[str, NDArray[Any]]:
        """The columns by name, in the order of the fingerprint."""
        return {name: getattr(self, name) for name in COLUMNS}

    def place(self, row: int) -> str:
        """Where a row is, for messages: "row R (episode E, step S)", all counted from 0.

        Args:
            row: Index of a transition, 0 <= row < N.
        """
        before = self.episode_end[:row]
        episode = int(np.count_nonzero(before))
        # The start of the episode is looked for from the row backwards.
        step = int(np.argmax(before[::-1])) if episode else row
        return f"row {row} (episode {episode}, step {step})"

    def validate(self) -> None:
        """Check shapes, types, finiteness and episode structure, a few rows at a time.

        Raises:
            ValueError: On the first violation, naming the source, the column and the row.
        """
        self.validate_structure()
        for name, (_, dtype) in COLUMNS.items():
            if dtype.kind == "f":
                self._check_finite(name)

    def validate_structure(self) -> None:
        """Check shapes, types and episode structure; of the columns, only `episode_end` is read.

        Raises:
            ValueError: On the first violation, naming the source and the column.
        """
        for name, (ndim, dtype) in COLUMNS.items():
            column = getattr(self, name)
            if column.ndim != ndim or column.dtype != dtype:
                self._fail(
                    f"{name} must be a {ndim}-dimensional {dtype.name} array, "
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
        ends = int(np.count_nonzero(self.episode_end))
        if ends != self.num_episodes:
            self._fail(f"{ends} rows end an episode, but there are {self.num_episodes} final_obs")

    def _check_finite(self, name: str) -> None:
        column = getattr(self, name)
        found = find_not_finite(column)
        if found is not None:
            row = found[0][0]
            # A row of final_obs is an episode, not a step.
            place = f"row {row} (episode {row})" if name == "final_obs" else self.place(row)
            self._fail(describe_not_finite(name, column, found, place))

    def _fail(self, problem: str) -> None:
        raise ValueError(f"unusable dataset {self.source}: {problem}")


def fingerprint(columns: Mapping[str, NDArray[Any]]) -> str:
    """What tells one dataset from another.

    SHA-256 over name, type, shape and block checksums (`checksum`) of each column, in the table's
    order. SHA-256 of all bytes would take a third of the time that reading them takes.

    Args:
        columns: All of `COLUMNS`.
    Returns:
        64 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for name in COLUMNS:
        column = np.ascontiguousarray(columns[name])
        digest.update(fingerprint_header(name, column.dtype, column.shape))
        data = column.reshape(-1).view(np.uint8)
        for start in range(0, len(data), FINGERPRINT_BLOCK):
            digest.update(checksum(data[start : start + FINGERPRINT_BLOCK].data))
    return digest.hexdigest()


def checksum(block: bytes | memoryview) -> bytes:
    """CRC-32 of a block of `FINGERPRINT_BLOCK` bytes of a column, or of what is left of it."""
    return zlib.crc32(block).to_bytes(4, "little")


def fingerprint_header(name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    """What goes into the fingerprint before the checksums of a column."""
    return f"{name}:{dtype.str}:{shape};".encode()
