"""Reader for OGBench's npz format, with single-task relabelling.

A file holds states: T+1 rows a trajectory of T transitions, the last one marked in `terminals`.
Its rewards belong to a task and are computed on loading.
"""

from __future__ import annotations

from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rllib_fmq.data.finite import check_finite
from rllib_fmq.data.formats.npz import Arrays, read_npz
from rllib_fmq.data.table import TransitionTable
from rllib_fmq.tasks.names import parse_task
from rllib_fmq.tasks.registry import import_ogbench, make_env

if TYPE_CHECKING:
    import gymnasium

REQUIRED = ("observations", "actions", "terminals", "qpos")
OPTIONAL = ("qvel", "button_states")
_RELABELLED = ("qpos", "button_states")
_CHUNK = 1 << 14
"""States relabelled, or moved, in one go: their temporaries stay in the processor's cache."""


def read_ogbench_states(path: Path, optional: Collection[str] = OPTIONAL) -> Arrays:
    """Read and check the arrays of an OGBench file.

    Args:
        path: npz file.
        optional: Further arrays to read if they are there.
    Returns:
        `observations`, `actions`, `terminals` (bool), `qpos` and what there is of `qvel` and
        `button_states`: one row a state.
    Raises:
        FileNotFoundError, ValueError: As `read_npz`; also if the arrays do not fit together.
    """
    arrays = read_npz(path, required=REQUIRED, optional=optional)
    rows = len(arrays["observations"])
    for name, array in arrays.items():
        if array.ndim < 1 or len(array) != rows:
            raise ValueError(
                f"dataset {path}: {name} has shape {array.shape}, observations {rows} rows"
            )
        if array.dtype.kind not in "fiub":
            raise ValueError(f"dataset {path}: {name} holds {array.dtype}, not numbers")
    arrays["terminals"] = arrays["terminals"].astype(np.bool_)
    if rows == 0:
        raise ValueError(f"dataset {path} is empty")
    return arrays


def transition_rows(terminals: NDArray[np.bool_]) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Which states have a successor in their trajectory.

    Args:
        terminals: Marks the last state of each trajectory, shape (R,), bool. A file cut in the
            middle of a trajectory is treated as if its last state were marked.
    Returns:
        Indices of the N states that start a transition, and whether each starts the last one of
        its trajectory, both of shape (N,).
    """
    last = terminals.copy()
    last[-1:] = True
    rows = np.flatnonzero(~last)
    return rows, last[rows + 1]


def relabel(
    env: gymnasium.Env[Any, Any], env_id: str, states: Arrays, rows: NDArray[np.intp]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Rewards and terminations of the environment's single task, by OGBench's own rule.

    Both are functions of the state before the step.

    Args:
        env: Single-task environment; it is reset.
        env_id: Its Gymnasium id.
        states: Arrays of `read_ogbench_states`.
        rows: States that start a transition, shape (N,).
    Returns:
        Rewards, shape (N,), float32, and terminations, shape (N,), bool.
    Raises:
        ValueError: If the states are those of another environment.
    """
    import_ogbench()
    from ogbench.relabel_utils import relabel_dataset

    env.reset()  # sets the task; OGBench would do it again for every part
    placed = SimpleNamespace(unwrapped=env.unwrapped, reset=lambda: None)
    rewards, terminated = np.empty(len(rows), np.float32), np.empty(len(rows), np.bool_)
    for start in range(0, len(rows), _CHUNK):
        part = slice(start, start + _CHUNK)
        selected: dict[str, Any] = {
            name: states[name][rows[part]] for name in _RELABELLED if name in states
        }
        try:
            relabel_dataset(env_id, placed, selected)
        except (IndexError, KeyError, ValueError) as error:
            raise ValueError(
                f"its states do not belong to {env_id}: qpos has size "
                f"{selected['qpos'].shape[1:]}"
                + ("" if "button_states" in selected else ", there are no button_states")
            ) from error
        rewards[part], terminated[part] = selected["rewards"], selected["masks"] == 0.0
    return rewards, terminated


def load_ogbench(path: Path, env_name: str) -> TransitionTable:
    """Load an OGBench file for one of its tasks.

    Args:
        path: npz file; no "-val" file need lie beside it.
        env_name: Single-task name, such as "cube-single-play-singletask-task2-v0".
    Returns:
        Validated table.
    Raises:
        FileNotFoundError, ValueError: Naming the file and what is wrong with it.
    """
    task = parse_task(env_name)
    if task is None:
        raise ValueError(
            f"dataset {path} is in OGBench's format, which holds no rewards, and "
            f"{env_name!r} is not an OGBench single task that could supply them"
        )
    with ThreadPoolExecutor(max_workers=1) as pool:
        # Making the environment takes about a second, during which the file is read and checked.
        making = pool.submit(make_env, env_name)
        states = read_ogbench_states(path, optional=["button_states"])
        rows, episode_end = transition_rows(states["terminals"])
        if not len(rows):
            raise ValueError(f"dataset {path} holds no transition")
        # Before rows are dropped, to name them as the file counts them. What is recorded as the
        # action of a trajectory's last state is never read.
        unused = np.ones(len(states["terminals"]), np.bool_)
        unused[rows] = False
        for name in ("observations", "actions", *_RELABELLED):
            if name in states:
                skipped = None if name == "observations" else unused
                check_finite(name, states[name], str(path), skipped)
    env = making.result()
    try:
        check_qpos(env, states["qpos"])
        rewards, terminated = relabel(env, task.gym_id, states, rows)
    except ValueError as error:
        raise ValueError(f"dataset {path} does not fit {env_name!r}: {error}") from error
    finally:
        env.close()  # type: ignore[no-untyped-call]
    for name in _RELABELLED:
        states.pop(name, None)
    final_obs = states["observations"][rows[episode_end] + 1]
    return TransitionTable.from_columns(
        obs=_keep_rows(states.pop("observations"), rows),
        actions=_keep_rows(states.pop("actions"), rows),
        rewards=rewards,
        terminated=terminated,
        episode_end=episode_end,
        final_obs=final_obs,
        source=f"{path} relabelled for {env_name}",
        finite=True,
    )


def _keep_rows(array: NDArray[Any], rows: NDArray[np.intp]) -> NDArray[Any]:
    """Move some rows, in increasing order, to the front of their array, without a copy of it."""
    for start in range(0, len(rows), _CHUNK):
        part = rows[start : start + _CHUNK]
        array[start : start + len(part)] = array[part]
    return array[: len(rows)]


def check_qpos(env: gymnasium.Env[Any, Any], qpos: NDArray[np.generic]) -> None:
    """Check that states have the size of the environment's, which relabelling indexes into.

    Args:
        env: OGBench environment; it is reset.
        qpos: Generalised positions, shape (R, nq).
    Raises:
        ValueError: If the sizes differ.
    """
    env.reset()  # manipulation environments compile their model on the first reset
    expected = int(env.unwrapped.model.nq)  # type: ignore[attr-defined]
    if qpos.ndim != 2 or qpos.shape[1] != expected:
        raise ValueError(f"its qpos has shape {qpos.shape}, the environment's size is {expected}")
