"""Our own plain format, for any environment: one row a transition, rewards included.

An npz archive with `observations` (N, obs_dim), `actions` (N, action_dim), `rewards` (N,),
`next_observations` (N, obs_dim), `terminated` (N,) and `truncated` (N,), in Gymnasium's meaning of
these words, the rows of an episode in order. An episode ends where either of the last two is set,
and at the end of the file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rllib_fmq.data.npz import read_npz, write_npz
from rllib_fmq.data.table import TransitionTable

KEYS = ("observations", "actions", "rewards", "next_observations", "terminated", "truncated")


def save_transitions(
    path: str | Path,
    *,
    observations: ArrayLike,
    actions: ArrayLike,
    rewards: ArrayLike,
    next_observations: ArrayLike,
    terminated: ArrayLike,
    truncated: ArrayLike,
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
    _to_table(arrays, str(path))
    write_npz({path: arrays})
    return path


def load_transitions(path: Path) -> TransitionTable:
    """Load a file in the plain format.

    Args:
        path: npz file.
    Returns:
        Validated table.
    Raises:
        FileNotFoundError, ValueError: Naming the file and what is wrong with it.
    """
    return _to_table(read_npz(path, required=KEYS), str(path))


def _to_table(arrays: dict[str, NDArray[Any]], source: str) -> TransitionTable:
    rows = len(arrays["observations"]) if arrays["observations"].ndim else 0
    for name, array in arrays.items():
        if array.ndim < 1 or len(array) != rows:
            raise ValueError(
                f"unusable dataset {source}: {name} has shape {array.shape}, "
                f"observations {arrays['observations'].shape}"
            )
    observations = arrays["observations"]
    following = arrays["next_observations"]
    if following.shape != observations.shape:
        raise ValueError(
            f"unusable dataset {source}: next_observations has shape {following.shape}, "
            f"observations {observations.shape}"
        )
    terminated = arrays["terminated"].astype(np.bool_)
    episode_end = terminated | arrays["truncated"].astype(np.bool_)
    episode_end[-1:] = True
    inner = np.flatnonzero(~episode_end)
    # The table keeps one copy of each observation, so a successor must be the next row's. Two NaN
    # count as equal here: validation reports them as what they are.
    left, right = following[inner], observations[inner + 1]
    broken = np.any((left != right) & ~((left != left) & (right != right)), axis=-1)
    if broken.any():
        row = int(inner[broken][0])
        raise ValueError(
            f"unusable dataset {source}: next_observations[{row}] differs from "
            f"observations[{row + 1}], though no episode ends there: set truncated[{row}] if the "
            "trajectory was cut"
        )
    return TransitionTable.from_columns(
        obs=observations,
        actions=arrays["actions"],
        rewards=arrays["rewards"],
        terminated=terminated,
        episode_end=episode_end,
        final_obs=following[episode_end],
        source=source,
    )
