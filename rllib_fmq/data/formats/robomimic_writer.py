"""Writing demonstrations in RoboMimic's low_dim HDF5 layout, one at a time.

    data                    attributes: env_args (JSON), total (number of steps)
      demo_0                attributes: num_samples, and what the demonstrator adds
        obs/<key>           (T, size) float32
        next_obs/<key>      (T, size) float32
        actions             (T, action_dim) float64
        rewards, dones      (T,) float64
        states              (T, size) float64: time, qpos and qvel before each action
      demo_1 ...
    mask/<filter key>       (number of demos,) names of demos

What is written here is read by RoboMimic's own `SequenceDataset`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rllib_fmq.atomic import replacing
from rllib_fmq.data.formats.hdf5 import import_h5py
from rllib_fmq.tasks.robomimic_args import check_env_args

_COMPRESSION = {"compression": "gzip", "shuffle": True}


@dataclass(frozen=True)
class Demo:
    """One demonstration of T steps.

    Args:
        obs: Observations before each action, per key shape (T, size).
        next_obs: Observations after each action, per key shape (T, size).
        actions: Shape (T, action_dim), in [-1, 1].
        rewards: The simulator's rewards, shape (T,): 1 on success, else 0.
        dones: 1 where the demonstration ended, shape (T,).
        states: Simulator states before each action (time, qpos, qvel), shape (T, size).
        attrs: Further attributes of the group, such as {"tier": "better"}.
    """

    obs: Mapping[str, ArrayLike]
    next_obs: Mapping[str, ArrayLike]
    actions: ArrayLike
    rewards: ArrayLike
    dones: ArrayLike
    states: ArrayLike
    attrs: Mapping[str, Any] = field(default_factory=dict)


def write_robomimic(
    path: str | Path,
    demos: Iterable[Demo],
    env_args: Mapping[str, Any],
    masks: Mapping[str, Sequence[str]] | None = None,
    *,
    attrs: Mapping[str, Any] | None = None,
    compression_level: int = 4,
) -> Path:
    """Write a RoboMimic file; `demos` are written, and forgotten, as they come.

    Args:
        path: File to write, ending in .hdf5 or .h5; replaced if it exists, never left half written.
        demos: Demonstrations, named demo_0, demo_1, ... in this order.
        env_args: Their environment, such as `default_env_args` returns.
        masks: Names of demos per filter key, such as {"train": ["demo_0"]}; looked at after the
            last of `demos`, so that it may be filled while they are made.
        attrs: Further attributes of `data`, such as how the file was made.
        compression_level: gzip's, 0 (off) to 9.
    Returns:
        The file.
    Raises:
        ValueError: If a demo's arrays do not fit together, there is no demo, or a mask names a
            demo that does not exist. Nothing is written then.
    """
    path = Path(path).expanduser()
    if path.suffix not in (".hdf5", ".h5"):
        raise ValueError(f"a RoboMimic file must end in .hdf5 or .h5, got {str(path)!r}")
    if not 0 <= compression_level <= 9:
        raise ValueError(f"compression_level must be 0 to 9, got {compression_level}")
    env_args = check_env_args(env_args, source="write_robomimic")
    options = {**_COMPRESSION, "compression_opts": compression_level} if compression_level else {}
    h5py = import_h5py()
    # From this version on HDF5 has checksums for all but the values, which have gzip's.
    with replacing(path) as temporary, h5py.File(temporary, "w", libver=("v110", "v110")) as file:
        data = file.create_group("data")
        total = 0
        layout: dict[str, int] | None = None
        names: list[str] = []
        for number, demo in enumerate(demos):
            name = f"demo_{number}"
            columns = _columns(demo, name)
            widths = {key: column.shape[-1] for key, column in columns.items() if column.ndim == 2}
            if layout is not None and widths != layout:
                raise ValueError(
                    f"{name} has other arrays than demo_0: sizes {widths} instead of {layout}"
                )
            layout = widths
            group = data.create_group(name)
            for key, column in columns.items():
                group.create_dataset(key, data=column, **options)
            group.attrs.update(demo.attrs)
            group.attrs["num_samples"] = len(columns["actions"])
            total += len(columns["actions"])
            names.append(name)
        if not names:
            raise ValueError(f"no demonstrations to write to {path}")
        data.attrs.update(attrs or {})
        data.attrs["env_args"] = json.dumps(env_args, indent=4)
        data.attrs["total"] = total
        _write_masks(file, masks or {}, names)
    return path


def _columns(demo: Demo, name: str) -> dict[str, NDArray[Any]]:
    columns: dict[str, NDArray[Any]] = {
        "actions": np.asarray(demo.actions, np.float64),
        "rewards": np.asarray(demo.rewards, np.float64),
        "dones": np.asarray(demo.dones, np.float64),
        "states": np.asarray(demo.states, np.float64),
    }
    if set(demo.obs) != set(demo.next_obs) or not demo.obs:
        raise ValueError(
            f"{name}: obs and next_obs must have the same keys, at least one; "
            f"they have {sorted(demo.obs)} and {sorted(demo.next_obs)}"
        )
    for group, arrays in (("obs", demo.obs), ("next_obs", demo.next_obs)):
        for key in sorted(arrays):
            columns[f"{group}/{key}"] = np.asarray(arrays[key], np.float32)
    rows = len(columns["actions"]) if columns["actions"].ndim else 0
    if rows == 0:
        raise ValueError(f"{name} has no steps")
    for key, column in columns.items():
        ndim = 1 if key in ("rewards", "dones") else 2
        if column.ndim != ndim or len(column) != rows:
            raise ValueError(
                f"{name}: {key} must be a {ndim}-dimensional array of {rows} rows, as many as "
                f"actions has, but has shape {column.shape}"
            )
        finite = np.isfinite(column)
        if not finite.all():
            row = int(np.argwhere(~finite)[0][0])
            raise ValueError(f"{name}: {key} is not finite at row {row}")
    return columns


def _write_masks(file: Any, masks: Mapping[str, Sequence[str]], names: list[str]) -> None:
    known = set(names)
    group = file.create_group("mask")
    for key, members in masks.items():
        unknown = [member for member in members if member not in known]
        if unknown:
            raise ValueError(
                f"mask {key!r} names {unknown[0]!r}, but the demos are demo_0 to {names[-1]}"
            )
        size = max(8, *map(len, members)) if members else 8
        group.create_dataset(key, data=np.asarray(members, dtype=f"S{size}"))
