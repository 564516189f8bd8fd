"""Our own plain format, for any environment: one row a transition, rewards included.

An npz archive with `observations` (N, obs_dim), `actions` (N, action_dim), `rewards` (N,),
`next_observations` (N, obs_dim), `terminated` (N,) and `truncated` (N,), in Gymnasium's meaning of
these words, the rows of an episode in order. An episode ends where either of the last two is set,
and at the end of the file; with a seventh array, `episode_end` (N,), it ends there instead.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rllib_fmq.data.formats.arrays import from_arrays, to_arrays
from rllib_fmq.data.formats.npz import read_npz, write_npz
from rllib_fmq.data.table import TransitionTable

KEYS = ("observations", "actions", "rewards", "next_observations", "terminated", "truncated")
OPTIONAL = ("episode_end",)


def save_transitions(
    path: str | Path,
    *,
    observations: ArrayLike,
    actions: ArrayLike,
    rewards: ArrayLike,
    next_observations: ArrayLike,
    terminated: ArrayLike,
    truncated: ArrayLike,
    episode_end: ArrayLike | None = None,
) -> Path:
    """Write a dataset of your own that `load_dataset` reads.

    Args:
        path: File to write, ending in .npz; replaced if it exists, never left half written.
        observations: Shape (N, obs_dim).
        actions: Shape (N, action_dim), in the environment's units.
        rewards: Shape (N,).
        next_observations: Shape (N, obs_dim); within an episode, equal to the next row's
            observation.
        terminated: The MDP ended at this step, shape (N,).
        truncated: The episode was cut after this step, shape (N,).
        episode_end: Last rows of recorded trajectories, shape (N,), for trajectories that go on
            after a terminated row; None: wherever a row is terminated or truncated.
    Returns:
        The file.
    Raises:
        ValueError: If the arrays do not form a usable dataset.
    """
    path = Path(path).expanduser()
    if path.suffix != ".npz":
        raise ValueError(f"dataset file must end in .npz, got {str(path)!r}")
    arrays: dict[str, NDArray[Any]] = {
        "observations": np.asarray(observations, np.float32),
        "actions": np.asarray(actions, np.float32),
        "rewards": np.asarray(rewards, np.float32),
        "next_observations": np.asarray(next_observations, np.float32),
        "terminated": np.asarray(terminated, np.bool_),
        "truncated": np.asarray(truncated, np.bool_),
    }
    if episode_end is not None:
        arrays["episode_end"] = np.asarray(episode_end, np.bool_)
    from_arrays(arrays, str(path))
    write_npz({path: arrays})
    return path


def write_transitions(path: str | Path, table: TransitionTable) -> Path:
    """Write a table in the plain format; `load_transitions` reads the same table.

    Args:
        path: As `save_transitions`.
        table: Any table.
    Returns:
        The file.
    """
    return save_transitions(path, **to_arrays(table))


def load_transitions(path: Path) -> TransitionTable:
    """Load a file in the plain format.

    Args:
        path: npz file.
    Returns:
        Validated table.
    Raises:
        FileNotFoundError, ValueError: Naming the file and what is wrong with it.
    """
    return from_arrays(read_npz(path, required=KEYS, optional=OPTIONAL), str(path))
