"""What is in a dataset: the contents of `rllib data info FILE`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from rllib_fmq.data.formats.columns import load_columns
from rllib_fmq.data.formats.detect import Format, detect, load, resolve
from rllib_fmq.data.formats.hdf5 import open_hdf5
from rllib_fmq.data.formats.npz import Arrays, members_of, read_npz
from rllib_fmq.data.formats.ogbench_npz import (
    check_qpos,
    read_ogbench_states,
    relabel,
    transition_rows,
)
from rllib_fmq.data.formats.transitions_npz import KEYS, OPTIONAL
from rllib_fmq.data.table import TransitionTable, fingerprint
from rllib_fmq.tasks.names import NUM_TASKS, OGBenchName, parse_dataset, parse_task
from rllib_fmq.tasks.registry import make_env

_BLOCK_ROWS = 1 << 18
_FORMAT_NAMES: dict[Format, str] = {
    "ogbench": "ogbench",
    "plain": "plain",
    "robomimic": "robomimic",
    "d4rl": "d4rl",
    "minari": "minari",
    "rllib": "rllib episodes",
    "columns": "mapped columns",
}


def describe(path: str | Path, env_name: str | None = None) -> dict[str, Any]:
    """Describe a dataset.

    Args:
        path: What `load_dataset` takes, but for "auto".
        env_name: Task or dataset name that tells which tasks to count successes of in an OGBench
            file; None takes the file's own name, such as cube-single-play-v0.npz. Else, a task
            that the dataset must belong to.
    Returns:
        `file`, `format`, `bytes`, `transitions`, `episodes`, `episode_length` (min, mean, max, in
        transitions), `obs` and `actions` (size, dtype, min and max per entry), `fingerprint`
        (SHA-256 over the transitions; of OGBench's without any task's rewards), `arrays` (npz:
        dtype and shape of each), `generator` (how it was made, if the file tells). OGBench's
        have `tasks`: for each, the transitions that start in full success and the episodes that
        have any. The others have `returns` and `terminated`; RoboMimic's also `environment`,
        `successful` (episodes) and `masks` (demonstrations in each).
    Raises:
        FileNotFoundError, ValueError: Naming the file and what is wrong with it.
    """
    place = resolve(path)
    found = detect(place)
    parts = [file for file in place.rglob("*") if file.is_file()] if place.is_dir() else [place]
    facts: dict[str, Any] = {
        "file": str(place),
        "bytes": sum(file.stat().st_size for file in parts),
    }
    if found == "ogbench":
        facts |= _describe_ogbench(place, env_name)
    else:
        facts["format"] = _FORMAT_NAMES[found]
        facts |= _describe_table(
            # Mapped columns are read in full here anyway: damage is found, not described.
            load_columns(place, verify=True) if found == "columns" else load(place, env_name)
        )
    if found == "plain":
        facts["arrays"] = _arrays(read_npz(place, required=KEYS, optional=OPTIONAL))
    if found == "robomimic":
        facts |= _describe_demonstrations(place, facts)
    if found in ("ogbench", "plain") and "generator" in members_of(place):
        facts["generator"] = _generator(place)
    return facts


def _generator(path: Path) -> Any:
    return _parse_generator(path, str(read_npz(path, required=["generator"])["generator"]))


def _parse_generator(path: Path, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ValueError(f"cannot read dataset {path}: its 'generator' is no JSON") from error


def _describe_table(table: TransitionTable) -> dict[str, Any]:
    ends = np.flatnonzero(table.episode_end)
    starts = np.concatenate([[0], ends[:-1] + 1])
    returns = np.add.reduceat(table.rewards, starts, dtype=np.float64)
    return {
        **_common(table.obs, table.actions, table.episode_end),
        "fingerprint": table.fingerprint,
        "returns": _spread(returns),
        "terminated": int(table.terminated.sum()),
    }


def _describe_demonstrations(path: Path, facts: dict[str, Any]) -> dict[str, Any]:
    from rllib_fmq.data.formats.robomimic_hdf5 import filter_keys, read_env_args

    described = {
        "environment": read_env_args(path)["env_name"],
        "successful": facts["terminated"],  # success ends a demonstration
        "masks": filter_keys(path),
    }
    with open_hdf5(path) as file:
        made = file["data"].attrs.get("generator")
    if made is not None:
        described["generator"] = _parse_generator(path, str(made))
    return described


def _describe_ogbench(path: Path, env_name: str | None) -> dict[str, Any]:
    states = read_ogbench_states(path)
    rows, episode_end = transition_rows(states["terminals"])
    if not len(rows):
        raise ValueError(f"dataset {path} holds no transition")
    columns: Arrays = {
        "obs": states["observations"][rows],
        "actions": states["actions"][rows],
        "rewards": np.zeros(0, np.float32),
        "terminated": np.zeros(0, np.bool_),
        "episode_end": episode_end,
        "final_obs": states["observations"][rows[episode_end] + 1],
    }
    facts = {
        "format": "ogbench",
        **_common(columns["obs"], columns["actions"], episode_end),
        "arrays": _arrays(states),
        "fingerprint": fingerprint(columns),
    }
    stem = path.stem.removesuffix("-val")
    name = parse_dataset(env_name or stem) or parse_task(env_name or stem)
    if env_name is not None and name is None:
        raise ValueError(f"{env_name!r} is no OGBench task or dataset")
    if name is not None:
        try:
            facts["tasks"] = dict(_successes(name, states, rows, episode_end))
        except ValueError as error:
            raise ValueError(
                f"dataset {path} does not fit {name.environment!r}: {error}"
            ) from error
    return facts


def _successes(
    name: OGBenchName, states: Arrays, rows: NDArray[np.intp], episode_end: NDArray[np.bool_]
) -> Iterator[tuple[str, dict[str, int]]]:
    """Per task: transitions that start in full success, and episodes that have any."""
    episode = np.concatenate([[0], np.cumsum(episode_end)[:-1]])
    gym_id = OGBenchName(name.environment, None, 1, name.version).gym_id
    env = make_env(gym_id)
    try:
        check_qpos(env, states["qpos"])
        for number in range(1, NUM_TASKS + 1):
            # A reset takes up the task of this number; five environments would take five compiles.
            env.unwrapped._reward_task_id = number  # type: ignore[attr-defined]
            _, solved = relabel(env, gym_id, states, rows)
            yield (
                f"task{number}",
                {"transitions": int(solved.sum()), "episodes": len(np.unique(episode[solved]))},
            )
    finally:
        env.close()  # type: ignore[no-untyped-call]


def _common(
    obs: NDArray[Any], actions: NDArray[Any], episode_end: NDArray[np.bool_]
) -> dict[str, Any]:
    lengths = np.diff(np.flatnonzero(episode_end), prepend=-1)
    return {
        "transitions": len(obs),
        "episodes": len(lengths),
        "episode_length": _spread(lengths),
        "obs": _range(obs),
        "actions": _range(actions),
    }


def _arrays(arrays: Arrays) -> dict[str, str]:
    return {name: f"{array.dtype} {array.shape}" for name, array in arrays.items()}


def _spread(values: NDArray[Any]) -> dict[str, float]:
    return {
        "min": float(values.min()),
        "mean": float(values.mean()),
        "max": float(values.max()),
    }


def _range(values: NDArray[Any]) -> dict[str, Any]:
    """Block by block: mapped columns may be larger than memory."""
    flat = values.reshape(len(values), -1)
    blocks = [flat[start : start + _BLOCK_ROWS] for start in range(0, len(flat), _BLOCK_ROWS)]
    low = np.min([block.min(axis=0) for block in blocks], axis=0)
    high = np.max([block.max(axis=0) for block in blocks], axis=0)
    return {
        "size": int(flat.shape[1]),
        "dtype": str(values.dtype),
        "finite": all(bool(np.isfinite(block).all()) for block in blocks),
        "min": [float(value) for value in low],
        "max": [float(value) for value in high],
    }


def info_table(facts: dict[str, Any]) -> Table:
    """Lay out the result of `describe` for a terminal.

    Args:
        facts: Result of `describe`.
    Returns:
        A rich table of two columns.
    """
    table = Table(title=facts["file"], show_header=False, title_justify="left")
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    table.add_row("format", facts["format"])
    table.add_row("size", f"{facts['bytes'] / 1e6:.1f} MB")
    if "environment" in facts:
        table.add_row("environment", facts["environment"])
    table.add_row("transitions", f"{facts['transitions']:,}")
    table.add_row("episodes", f"{facts['episodes']:,}")
    table.add_row("episode length", _spread_text(facts["episode_length"]))
    for name, label in (("obs", "observations"), ("actions", "actions")):
        part = facts[name]
        text = f"{part['size']} x {part['dtype']}, from {min(part['min']):.4g} to "
        text += f"{max(part['max']):.4g}" + ("" if part["finite"] else ", NOT ALL FINITE")
        table.add_row(label, text)
    for task, counts in facts.get("tasks", {}).items():
        text = f"{counts['transitions']:,} transitions in {counts['episodes']:,} episodes"
        table.add_row(f"{task} solved", text)
    if "returns" in facts:
        table.add_row("return", _spread_text(facts["returns"]))
        table.add_row("terminated", f"{facts['terminated']:,} transitions")
    if "successful" in facts:
        table.add_row("successful", f"{facts['successful']:,} of {facts['episodes']:,} episodes")
    if facts.get("masks"):
        counts = [f"{name}: {count:,} episodes" for name, count in facts["masks"].items()]
        table.add_row("filter keys", "\n".join(counts))
    if "arrays" in facts:
        arrays = [f"{name}: {text}" for name, text in facts["arrays"].items()]
        table.add_row("arrays", "\n".join(arrays))
    if "generator" in facts:
        made = facts["generator"]
        table.add_row("generator", "\n".join(f"{name}: {value}" for name, value in made.items()))
    label = "fingerprint" + (" (without rewards)" if facts["format"] == "ogbench" else "")
    table.add_row(label, facts["fingerprint"])
    return table


def _spread_text(spread: dict[str, float]) -> str:
    return f"min {spread['min']:.6g}, mean {spread['mean']:.6g}, max {spread['max']:.6g}"


def format_info(facts: dict[str, Any], width: int = 100) -> str:
    """The table of `info_table` as plain text.

    Args:
        facts: Result of `describe`.
        width: Columns of the terminal.
    """
    console = Console(width=width, color_system=None)
    with console.capture() as capture:
        console.print(info_table(facts))
    return capture.get()
