"""What is in a dataset file: the contents of `rllib data info FILE`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from rllib_fmq.data.npz import Arrays, members_of, read_npz
from rllib_fmq.data.ogbench_npz import (
    REQUIRED,
    check_qpos,
    read_ogbench_states,
    relabel,
    transition_rows,
)
from rllib_fmq.data.table import fingerprint
from rllib_fmq.data.transitions_npz import KEYS, load_transitions
from rllib_fmq.tasks.names import NUM_TASKS, OGBenchName, parse_dataset, parse_task
from rllib_fmq.tasks.registry import make_env


def describe(path: str | Path, env_name: str | None = None) -> dict[str, Any]:
    """Describe a dataset file.

    Args:
        path: npz file, in OGBench's format or the plain one.
        env_name: Task or dataset name that tells which tasks to count successes of; None takes
            the file's own name, such as cube-single-play-v0.npz.
    Returns:
        `file`, `format`, `bytes`, `transitions`, `episodes`, `episode_length` (min, mean, max, in
        transitions), `obs` and `actions` (size, dtype, min and max per entry), `arrays` (dtype and
        shape of each), `fingerprint` (SHA-256 over the transitions without any task's rewards),
        `generator` (how it was made, if the file tells), and `tasks`: for each OGBench task, the
        transitions that start in full success and the episodes that have any (the plain format
        has `returns` and `terminated` instead).
    Raises:
        FileNotFoundError, ValueError: Naming the file and what is wrong with it.
    """
    path = Path(path).expanduser()
    members = members_of(path)
    facts: dict[str, Any] = {"file": str(path), "bytes": path.stat().st_size}
    if members.issuperset(KEYS):
        facts |= _describe_plain(path)
    elif members.issuperset(REQUIRED):
        facts |= _describe_ogbench(path, env_name)
    else:
        raise ValueError(
            f"dataset {path} has no known format but {', '.join(sorted(members)) or 'nothing'}"
        )
    if "generator" in members:
        facts["generator"] = json.loads(str(read_npz(path, required=["generator"])["generator"]))
    return facts


def _describe_plain(path: Path) -> dict[str, Any]:
    table = load_transitions(path)
    arrays = read_npz(path, required=KEYS)
    starts = np.flatnonzero(np.concatenate([[True], table.episode_end[:-1]]))
    returns = np.add.reduceat(table.rewards.astype(np.float64), starts)
    return {
        "format": "plain",
        **_common(table.obs, table.actions, table.episode_end, arrays),
        "fingerprint": table.fingerprint,
        "returns": _spread(returns),
        "terminated": int(table.terminated.sum()),
    }


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
        **_common(columns["obs"], columns["actions"], episode_end, states),
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
    obs: NDArray[Any], actions: NDArray[Any], episode_end: NDArray[np.bool_], arrays: Arrays
) -> dict[str, Any]:
    lengths = np.diff(np.flatnonzero(episode_end), prepend=-1)
    return {
        "transitions": len(obs),
        "episodes": len(lengths),
        "episode_length": _spread(lengths),
        "obs": _range(obs),
        "actions": _range(actions),
        "arrays": {name: f"{array.dtype} {array.shape}" for name, array in arrays.items()},
    }


def _spread(values: NDArray[Any]) -> dict[str, float]:
    return {
        "min": float(values.min()),
        "mean": float(values.mean()),
        "max": float(values.max()),
    }


def _range(values: NDArray[Any]) -> dict[str, Any]:
    flat = values.reshape(len(values), -1)
    return {
        "size": int(flat.shape[1]),
        "dtype": str(values.dtype),
        "finite": bool(np.isfinite(flat).all()),
        "min": [float(value) for value in flat.min(axis=0)],
        "max": [float(value) for value in flat.max(axis=0)],
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
    table.add_row("arrays", "\n".join(f"{name}: {text}" for name, text in facts["arrays"].items()))
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
