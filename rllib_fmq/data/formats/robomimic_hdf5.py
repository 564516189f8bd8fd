"""RoboMimic's low_dim HDF5, read one demonstration at a time (layout: `robomimic_writer`).

An observation is the concatenation of the keys that RoboMimic's own low_dim policies use. Rewards
are the stored ones (1 on success, else 0) plus a shift. A row with success is terminated, a
demonstration's last row ends its episode.

`next_obs` supplies what follows a demonstration's last row. In files without it that row has no
successor: it is dropped, unless it is terminated, as nothing is bootstrapped past that.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rllib_fmq.data.formats.hdf5 import import_h5py, open_hdf5, read_array
from rllib_fmq.data.table import TransitionTable
from rllib_fmq.tasks.catalog import Task
from rllib_fmq.tasks.robomimic_args import (
    EnvArgs,
    check_env_args,
    check_obs_keys,
    low_dim_keys,
    num_robots,
)

REWARD_SHIFT = -1.0
"""Added to stored rewards where no task says otherwise: -1 a step, 0 on success."""

_DEMO = re.compile(r"demo_(\d+)")
_HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_LARGEST_ACTION = 1.0 + 1e-6


class _Unusable(Exception):
    """What is wrong with a file that can be read; becomes a ValueError that names the file."""


def is_robomimic(path: Path) -> bool:
    """Whether a file is HDF5 with RoboMimic's group of demonstrations; reads a few bytes of it.

    Args:
        path: Any path.
    """
    if not path.is_file():
        return False
    with path.open("rb") as file:
        if file.read(len(_HDF5_SIGNATURE)) != _HDF5_SIGNATURE:
            return False
    try:
        with open_hdf5(path) as file:
            return "env_args" in _group(file, "data").attrs
    except (ValueError, _Unusable):
        return False


def read_env_args(path: str | Path) -> EnvArgs:
    """Description of a file's environment.

    Args:
        path: HDF5 file.
    Returns:
        Dict with `env_name` and `env_kwargs`.
    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is damaged, no RoboMimic file, or of another simulator than robosuite.
    """
    path = Path(path).expanduser()
    try:
        with open_hdf5(path) as file:
            return _env_args(_group(file, "data"))
    except _Unusable as error:
        raise ValueError(f"unusable dataset {path}: {error}") from None


def filter_keys(path: Path) -> dict[str, int]:
    """Filter keys of a file, and how many demonstrations each selects.

    Args:
        path: HDF5 file.
    Raises:
        FileNotFoundError, ValueError: As `read_env_args`.
    """
    try:
        with open_hdf5(path) as file:
            return {key: len(_mask(file, key)) for key in _mask_names(file)}
    except _Unusable as error:
        raise ValueError(f"unusable dataset {path}: {error}") from None


def load_robomimic(
    path: Path,
    task: Task | None = None,
    *,
    filter_key: str | None = None,
    obs_keys: Sequence[str] | None = None,
    reward_shift: float | None = None,
) -> TransitionTable:
    """Load the demonstrations of a RoboMimic file, in the order of their numbers.

    Beside the table itself, only one demonstration is in memory at a time.

    Args:
        path: HDF5 file.
        task: Task that the file must belong to; its reward shift is used.
        filter_key: Take only the demonstrations of this mask, such as "train".
        obs_keys: Observations to concatenate, in order; by default `low_dim_keys`.
        reward_shift: Added to the stored rewards; by default the task's, or `REWARD_SHIFT`.
    Returns:
        Validated table.
    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is damaged or unusable, naming file, demonstration, key and row; if it is
            of another environment than the task; if there is no such filter key.
    """
    path = Path(path).expanduser()
    if reward_shift is None:
        reward_shift = REWARD_SHIFT if task is None else task.reward_shift
    source = str(path) if filter_key is None else f"{path} (demonstrations of {filter_key!r})"
    try:
        with open_hdf5(path) as file:
            data = _group(file, "data")
            env_args = _env_args(data)
            _check_task(env_args, task)
            keys = (
                low_dim_keys(num_robots(env_args)) if obs_keys is None else check_obs_keys(obs_keys)
            )
            names = _select(file, data, filter_key)
            columns = _columns(data, names, keys)
    except _Unusable as error:
        raise ValueError(f"unusable dataset {path}: {error}") from None
    if task is not None and obs_keys is None and columns["obs"].shape[1] != task.obs_dim:
        raise ValueError(
            f"unusable dataset {path}: its observations {', '.join(keys)} have "
            f"{columns['obs'].shape[1]} numbers, those of the task {task.name!r} {task.obs_dim}"
        )
    columns["rewards"] += np.float32(reward_shift)
    return TransitionTable.from_columns(**columns, source=source)


def _columns(data: Any, names: list[str], keys: tuple[str, ...]) -> dict[str, Any]:
    """Columns of a table, rewards unshifted, filled demonstration by demonstration."""
    lengths = {name: _num_steps(_group(data, name), name) for name in names}
    total, filled = sum(lengths.values()), 0
    columns: dict[str, NDArray[Any]] = {}
    ends: list[int] = []
    final_obs: list[NDArray[np.float32]] = []
    for name in names:
        rows, final = _demonstration(_group(data, name), name, keys, lengths[name])
        for column, array in rows.items():
            if column not in columns:
                columns[column] = np.empty((total, *array.shape[1:]), np.float32)
            if array.shape[1:] != columns[column].shape[1:]:
                raise _Unusable(
                    f"the {column} of {name} have {array.shape[1]} numbers, those of {names[0]} "
                    f"{columns[column].shape[1]}"
                )
        steps = lengths[name]
        if final is None:
            final = rows["obs"][-1].copy()
            steps -= rows["rewards"][-1] <= 0
        if steps:
            for column, array in rows.items():
                columns[column][filled : filled + steps] = array[:steps]
            filled += steps
            ends.append(filled - 1)
            final_obs.append(final)
    if not filled:
        raise _Unusable("no step is left: it lacks next_obs, and each demonstration has one step")
    episode_end = np.zeros(filled, np.bool_)
    episode_end[ends] = True
    kept = {column: array[:filled] for column, array in columns.items()}
    return {
        **kept,
        "terminated": kept["rewards"] > 0,
        "episode_end": episode_end,
        "final_obs": np.stack(final_obs),
    }


def _num_steps(demo: Any, name: str) -> int:
    _member(demo, "actions", name)
    shape = getattr(demo["actions"], "shape", None)
    if not shape:
        raise _Unusable(f"{name}/actions is no array of rows")
    steps = int(shape[0])
    if steps == 0:
        raise _Unusable(f"{name} has no steps")
    if "num_samples" in demo.attrs and demo.attrs["num_samples"] != steps:
        raise _Unusable(
            f"{name} says it has {demo.attrs['num_samples']} steps, but has {steps} actions"
        )
    return steps


def _demonstration(
    demo: Any, name: str, keys: tuple[str, ...], steps: int
) -> tuple[dict[str, NDArray[np.float32]], NDArray[np.float32] | None]:
    """Rows of one demonstration per column, and what follows its last row, if that is known."""
    actions = _read(demo, "actions", name, steps, ndim=2)
    outside = np.abs(actions) > _LARGEST_ACTION
    if outside.any():
        row, entry = (int(i) for i in np.argwhere(outside)[0])
        raise _Unusable(
            f"{name}/actions is {actions[row, entry]:g} at row {row}, entry {entry}: actions must "
            "lie in [-1, 1]"
        )
    rewards = _read(demo, "rewards", name, steps, ndim=1)
    odd = (rewards != 0.0) & (rewards != 1.0)
    if odd.any():
        row = int(np.flatnonzero(odd)[0])
        raise _Unusable(
            f"{name}/rewards is {rewards[row]:g} at row {row}: rewards must be 1 on success, else "
            "0 (take the file without shaped rewards)"
        )
    obs = _observations(_group(demo, "obs"), f"{name}/obs", keys, steps)
    final = None
    if "next_obs" in demo:
        following = _observations(_group(demo, "next_obs"), f"{name}/next_obs", keys, steps)
        if following.shape != obs.shape:
            raise _Unusable(
                f"{name}/next_obs has {following.shape[1]} numbers a row, obs {obs.shape[1]}"
            )
        final = following[-1].copy()  # a view would keep all of it in memory
    return {"obs": obs, "actions": actions, "rewards": rewards}, final


def _observations(group: Any, where: str, keys: tuple[str, ...], rows: int) -> NDArray[np.float32]:
    parts = [_read(group, key, where, rows, ndim=2) for key in keys]
    return np.concatenate(parts, axis=1)


def _read(group: Any, key: str, where: str, rows: int, *, ndim: int) -> NDArray[np.float32]:
    if key not in group:
        _member(group, key, where)
    try:
        stored = read_array(group, key)
    except ValueError as error:
        raise _Unusable(str(error)) from error
    found = stored.shape
    if ndim == 2 and stored.ndim == 1:
        stored = stored[:, None]
    if stored.ndim != ndim or len(stored) != rows or not stored.size:
        raise _Unusable(
            f"{where}/{key} must be a {ndim}-dimensional array of {rows} rows, as many as the "
            f"actions have, but has shape {found}"
        )
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes Inf, and is refused
        array = stored.astype(np.float32)
    finite = np.isfinite(array)
    if not finite.all():
        index = tuple(int(i) for i in np.argwhere(~finite)[0])
        entry = f", entry {index[1]}" if len(index) > 1 else ""
        raise _Unusable(
            f"{where}/{key} is {stored[index]} at row {index[0]}{entry}; remove or repair this "
            "demonstration"
        )
    return array


def _group(parent: Any, name: str) -> Any:
    where = parent.name.removeprefix("/").removeprefix("data/")
    _member(parent, name, where)
    try:
        group = parent[name]
    except KeyError as error:
        raise _Unusable(f"{where}/{name} leads nowhere ({error.args[0]})") from error
    if not isinstance(group, import_h5py().Group):
        raise _Unusable(f"{where}/{name} is no group".removeprefix("/"))
    return group


def _member(group: Any, name: str, where: str) -> None:
    """Check that there is such a member, in this very file."""
    h5py = import_h5py()
    link = group.get(name, getlink=True) if name in group.keys() else None  # noqa: SIM118
    if link is None:
        members = sorted(group)
        shown = ", ".join(members[:12]) + (", ..." if len(members) > 12 else "")
        raise _Unusable(f"{where or 'the file'} lacks {name!r}; it has {shown or 'nothing'}")
    if isinstance(link, h5py.ExternalLink):
        raise _Unusable(
            f"{where}/{name} is a link to another file, {link.filename!r}; copy its contents into "
            "this file"
        )


def _env_args(data: Any) -> EnvArgs:
    text = data.attrs.get("env_args")
    if isinstance(text, bytes):
        text = text.decode("utf-8", "replace")
    if not isinstance(text, str):
        raise _Unusable("'data' has no attribute 'env_args' that describes the environment")
    try:
        return check_env_args(json.loads(text), source="its attribute env_args")
    except json.JSONDecodeError as error:
        raise _Unusable(f"its attribute env_args is not JSON: {error}") from error
    except ValueError as error:
        raise _Unusable(str(error)) from error


def _check_task(env_args: EnvArgs, task: Task | None) -> None:
    if task is not None and env_args["env_name"] != task.environment:
        raise _Unusable(
            f"it was recorded in {env_args['env_name']!r}, but the task {task.name!r} is "
            f"{task.environment!r}"
        )


def _select(file: Any, data: Any, filter_key: str | None) -> list[str]:
    """Names of the demonstrations to read, in the order of their numbers."""
    if filter_key is None:
        names = list(data)
    else:
        known = _mask_names(file)
        if filter_key not in known:
            raise _Unusable(
                f"it has no filter key {filter_key!r}; it has "
                f"{', '.join(map(repr, known)) or 'none'}"
            )
        names = _mask(file, filter_key)
    where = "it" if filter_key is None else f"mask/{filter_key}"
    if not names:
        raise _Unusable(f"{where} holds no demonstrations")
    for name in names:
        if _DEMO.fullmatch(name) is None:
            raise _Unusable(f"{where} names {name!r}, but demonstrations are named demo_0, demo_1")
        if name not in data.keys():  # noqa: SIM118
            raise _Unusable(f"{where} names {name!r}, which is not in the file")
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise _Unusable(f"{where} names {twice!r} twice")
    return sorted(names, key=lambda name: int(name.removeprefix("demo_")))


def _mask_names(file: Any) -> list[str]:
    return sorted(_group(file, "mask")) if "mask" in file else []


def _mask(file: Any, key: str) -> list[str]:
    h5py = import_h5py()
    masks = _group(file, "mask")
    _member(masks, key, "mask")
    mask = masks[key]
    if not isinstance(mask, h5py.Dataset) or mask.ndim != 1:
        raise _Unusable(f"mask/{key} is no list of names")
    if h5py.check_string_dtype(mask.dtype) is None or mask.external or mask.is_virtual:
        raise _Unusable(f"mask/{key} holds {mask.dtype}, not names of demonstrations")
    return [name.decode("utf-8", "replace") for name in mask[()]]
