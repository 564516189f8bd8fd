"""From the name of a dataset to a table, and from its units to [-1, 1]."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.spaces import Box
from numpy.typing import ArrayLike, NDArray

from rllib_fmq.data.downloads.locate import locate
from rllib_fmq.data.formats.detect import load, resolve
from rllib_fmq.data.table import TransitionTable, row_chunks

_BOUND_TOLERANCE = 1e-3


def load_dataset(
    dataset: str | Path,
    env_name: str,
    *,
    data_dir: str | None = None,
    download: bool = True,
    filter_key: str | None = None,
) -> TransitionTable:
    """Load a dataset for a task.

    The contents tell the format: OGBench's npz (relabelled with the task's rewards), RoboMimic's
    or D4RL's HDF5, Minari's, RLlib's recorded episodes, the plain npz of `save_transitions`, or a
    folder of mapped columns.

    Args:
        dataset: Path of a file or folder; "minari:ID" for a Minari dataset on this machine; or
            "auto": the task's file in `data_dir`, $RLLIB_FMQ_DATA_DIR or ~/.ogbench/data, whichever
            has it first, else downloaded.
        env_name: Task, such as "cube-single-play-singletask-task2-v0".
        data_dir: Folder that "auto" looks in first and downloads to.
        download: Whether "auto" may download.
        filter_key: RoboMimic only: name of the mask whose demonstrations to take, such as "train".
    Returns:
        Validated table.
    Raises:
        FileNotFoundError: If there is no such file; for "auto", with commands that make one.
        ValueError: If the file is damaged, incomplete, of no known format, or does not belong to
            the task.
    """
    if not isinstance(dataset, str | Path):
        raise ValueError(
            f"a dataset is one path, got {type(dataset).__name__}: make one of several files with "
            "`rllib data convert FOLDER NAME.columns`, and name that"
        )
    if str(dataset) == "auto":
        path = locate(env_name, data_dir=data_dir, download=download)
    else:
        path = resolve(dataset)
    return load(path, env_name, filter_key=filter_key)


def check_fits(table: TransitionTable, observation_space: Any, action_space: Any) -> None:
    """Check that a dataset belongs to an environment.

    Args:
        table: Dataset.
        observation_space: Box with a one-dimensional shape (flattened).
        action_space: Bounded Box with a one-dimensional shape (flattened).
    Raises:
        ValueError: If sizes differ, or an action lies outside the bounds by more than 1e-3.
    """
    for name, size, space in (
        ("observations", table.obs_dim, observation_space),
        ("actions", table.action_dim, action_space),
    ):
        if not isinstance(space, Box) or len(space.shape) != 1:
            raise ValueError(f"{name} need a one-dimensional Box space, got {space}")
        if size != space.shape[0]:
            raise ValueError(
                f"dataset {table.source} has {name} of size {size}, but the environment's have "
                f"size {space.shape[0]}: use the dataset of this environment"
            )
    low = np.asarray(action_space.low, np.float32)
    high = np.asarray(action_space.high, np.float32)
    first, bad = None, 0
    for start, actions in row_chunks(table.actions):
        outside = (actions < low - _BOUND_TOLERANCE) | (actions > high + _BOUND_TOLERANCE)
        if not outside.any():
            continue
        if first is None:
            row, entry = (int(i) for i in np.argwhere(outside)[0])
            first = (start + row, entry)
        bad += int(outside.any(axis=1).sum())
    if first is not None:
        row, entry = first
        raise ValueError(
            f"dataset {table.source} has action {table.actions[row, entry]} at row {row}, entry "
            f"{entry}, outside the environment's bounds [{low[entry]}, {high[entry]}] "
            f"({bad} such rows in all); actions must be in the "
            "environment's units"
        )


def scale_actions(actions: ArrayLike, low: ArrayLike, high: ArrayLike) -> NDArray[np.float32]:
    """Map actions from the environment's bounds to [-1, 1], clipped.

        scaled = (a - (low + high) / 2) / ((high - low) / 2)

    Args:
        actions: Actions in the environment's units, shape (..., action_dim).
        low: Lower bounds, shape (action_dim,).
        high: Upper bounds, shape (action_dim,).
    Returns:
        Scaled actions, float32, same shape as `actions`. For bounds of -1 and 1, the same numbers.
    Raises:
        ValueError: If a bound is infinite or the bounds leave no room.
    """
    centre, half = _centre_and_half(low, high)
    scaled = (np.asarray(actions, np.float32) - centre) / half
    return np.asarray(np.clip(scaled, -1.0, 1.0), np.float32)


def unscale_actions(actions: ArrayLike, low: ArrayLike, high: ArrayLike) -> NDArray[np.float32]:
    """Map actions from [-1, 1] to the environment's bounds; the inverse of `scale_actions`.

    Args:
        actions: Scaled actions, clipped to [-1, 1], shape (..., action_dim).
        low: Lower bounds, shape (action_dim,).
        high: Upper bounds, shape (action_dim,).
    Returns:
        Actions in the environment's units and within its bounds, float32.
    Raises:
        ValueError: If a bound is infinite or the bounds leave no room.
    """
    centre, half = _centre_and_half(low, high)
    unscaled = np.clip(np.asarray(actions, np.float32), -1.0, 1.0) * half + centre
    # Rounding may step over a bound by one unit in the last place, and spaces check `contains`.
    bounded = np.clip(unscaled, np.asarray(low, np.float32), np.asarray(high, np.float32))
    return np.asarray(bounded, np.float32)


def _centre_and_half(
    low: ArrayLike, high: ArrayLike
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    lower, upper = np.asarray(low, np.float64), np.asarray(high, np.float64)
    if not (np.isfinite(lower).all() and np.isfinite(upper).all() and (lower < upper).all()):
        raise ValueError(
            f"actions can be scaled between finite bounds with low < high only, got low {lower} "
            f"and high {upper}"
        )
    return ((lower + upper) / 2).astype(np.float32), ((upper - lower) / 2).astype(np.float32)
