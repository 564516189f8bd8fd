"""Minari's datasets: a folder, or the id of one that is on this machine."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces

from rllib_fmq.data.formats.hdf5 import check_array, get_member, open_hdf5
from rllib_fmq.data.formats.trajectories import Trajectory, flatten_rows, to_table
from rllib_fmq.data.table import TransitionTable

PREFIX = "minari:"
METADATA = "metadata.json"
FOLDER_VARIABLE = "MINARI_DATASETS_PATH"
_DEFAULT_FOLDER = "~/.minari/datasets"
_HDF5_NAME = "main_data.hdf5"
_ARRAYS = ("observations", "actions", "rewards", "terminations", "truncations")
_NEEDED = {
    "total_episodes": int,
    "total_steps": int,
    "data_format": str,
    "dataset_id": str,
    "observation_space": str,
    "action_space": str,
}


def find_minari(name: str) -> Path:
    """Folder of a dataset by its id; nothing is downloaded.

    Args:
        name: Such as "D4RL/door/human-v2", with or without "minari:" before it.
    Returns:
        The folder that holds its data.
    Raises:
        FileNotFoundError: If it is not on this machine, with the command that downloads it.
        ValueError: If it is no id.
    """
    name = name.removeprefix(PREFIX)
    root = Path(os.environ.get(FOLDER_VARIABLE) or Path(_DEFAULT_FOLDER).expanduser())
    if not name or name.startswith("/") or ".." in name.split("/"):
        raise ValueError(f"{name!r} is no Minari dataset id, such as D4RL/door/human-v2")
    folder = root / name
    if data_folder(folder) is None:
        raise FileNotFoundError(
            f"no Minari dataset {name!r} in {root}: get it with `minari download {name}`, or say "
            f"in {FOLDER_VARIABLE} where it is; `minari list local` shows what is there"
        )
    return folder


def data_folder(path: Path) -> Path | None:
    """The folder with a dataset's metadata: the one given, or `data` in it; None if neither."""
    for folder in (path, path / "data"):
        if (folder / METADATA).is_file():
            return folder
    return None


def is_minari(path: Path) -> bool:
    """Whether a folder is laid out as Minari's datasets are."""
    return data_folder(path) is not None


def load_minari(path: Path) -> TransitionTable:
    """Load a Minari dataset.

    Dict observations are flattened as `gymnasium.spaces.flatten` does; `infos` are left alone.

    Args:
        path: Folder of the dataset.
    Returns:
        Validated table; an episode of the dataset is one of the table.
    Raises:
        ModuleNotFoundError: If Minari is not installed, with the command that installs it.
        FileNotFoundError, ValueError: Naming the folder, the episode and what is wrong.
    """
    minari = _import_minari()
    folder = data_folder(path)
    if folder is None:
        raise FileNotFoundError(f"no Minari dataset in {path}: it lacks {METADATA}")
    metadata = _read_metadata(folder)
    if metadata["data_format"] == "hdf5":
        _check_hdf5(folder / _HDF5_NAME)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = minari.MinariDataset(folder)
            trajectories = list(_episodes(dataset, metadata))
    except Exception as error:  # whatever h5py, pyarrow and Minari make of damage
        text = " ".join(str(error).split())
        kind = "" if type(error) is ValueError else f"{type(error).__name__}: "
        raise ValueError(
            f"cannot read Minari dataset {folder}: {kind}{text}. It is damaged or incomplete, or "
            "its spaces cannot be used; copy or download it again."
        ) from error
    steps = sum(len(trajectory.rewards) for trajectory in trajectories)
    if steps != metadata["total_steps"]:
        raise ValueError(
            f"cannot read Minari dataset {folder}: its episodes have {steps} steps, its {METADATA} "
            f"says {metadata['total_steps']}; copy or download it again"
        )
    return to_table(trajectories, str(folder))


def _import_minari() -> Any:
    try:
        import minari
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"Minari datasets need the package {error.name!r}, which is not installed: pip install "
            "'rllib-fmq[minari]'",
            name=error.name,
        ) from error
    return minari


def _read_metadata(folder: Path) -> dict[str, Any]:
    path = folder / METADATA
    try:
        metadata = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(
            f"cannot read {path}: {type(error).__name__}: {error}; copy or download the dataset "
            "again"
        ) from error
    if not isinstance(metadata, dict):
        raise ValueError(f"cannot read {path}: it holds no object")
    for key, kind in _NEEDED.items():
        # Without its spaces, Minari would make the environment that the file names.
        if not isinstance(metadata.get(key), kind):
            raise ValueError(
                f"cannot read {path}: {key!r} is {metadata.get(key)!r}, expected {kind.__name__}"
            )
    for key in ("env_spec", "eval_env_spec"):
        spec = metadata.get(key)
        if spec is not None and not isinstance(spec, str):
            raise ValueError(f"cannot read {path}: {key!r} is no text")
    return metadata


def _check_hdf5(path: Path) -> None:
    """Refuse what h5py would read as zeros, as other numbers, or from elsewhere."""
    with open_hdf5(path) as file:
        for name in file:
            group = get_member(file, name, name)
            for key in _ARRAYS:
                if key in list(group):
                    _check_node(group, key, f"{name}/{key}")


def _check_node(group: Any, key: str, where: str) -> None:
    node = get_member(group, key, where)
    if not hasattr(node, "shape"):
        for part in node:
            _check_node(node, part, f"{where}/{part}")
    else:
        check_array(group, key, where)


def _episodes(dataset: Any, metadata: dict[str, Any]) -> Iterator[Trajectory]:
    expected = metadata["total_episodes"]
    space = _in_order(dataset.observation_space, json.loads(metadata["observation_space"]))
    found = 0
    for episode in dataset.iterate_episodes():
        name = f"episode {episode.id}"
        rewards = np.asarray(episode.rewards)
        terminations = np.asarray(episode.terminations)
        truncations = np.asarray(episode.truncations)
        _check_flags(name, terminations, truncations, len(rewards) if rewards.ndim else 0)
        yield Trajectory(
            name=name,
            observations=flatten_rows(space, episode.observations, f"{name}: observations"),
            actions=flatten_rows(dataset.action_space, episode.actions, f"{name}: actions"),
            rewards=rewards,
            terminated=terminations,
        )
        found += 1
    if found != expected:
        raise ValueError(f"{found} episodes are there, {METADATA} says {expected}")


def _in_order(space: spaces.Space[Any], described: dict[str, Any]) -> spaces.Space[Any]:
    """The space with its keys in the order of the recorded environment's, which flattening follows.

    Minari stores them in that order, but reads them into a dict that Gymnasium sorts.
    """
    if not isinstance(space, spaces.Dict):
        return space
    parts = described["subspaces"]
    return spaces.Dict([(key, _in_order(space[key], part)) for key, part in parts.items()])


def _check_flags(name: str, terminations: Any, truncations: Any, steps: int) -> None:
    for label, flags in (("terminations", terminations), ("truncations", truncations)):
        if flags.shape != (steps,):
            raise ValueError(f"{name}: {label} have shape {flags.shape}, expected ({steps},)")
        if not np.isin(flags, (0, 1)).all():
            raise ValueError(f"{name}: {label} hold {flags.dtype}, expected flags")
    early = np.flatnonzero(truncations[:-1])
    if len(early):
        raise ValueError(f"{name}: truncations are set at step {early[0]}, before its last one")
