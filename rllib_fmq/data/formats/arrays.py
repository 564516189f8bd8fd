"""A plain dict of arrays, one row a transition: what npz, D4RL's HDF5 and your own code hold.

An episode ends where `terminated` or `truncated` is set, and with the last row; or, where there is
`episode_end`, at its rows and with the last row only: trajectories may then go on after a
terminated row, as OGBench's play data do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rllib_fmq.data.chunks import row_chunks
from rllib_fmq.data.finite import check_finite
from rllib_fmq.data.table import TransitionTable

SYNONYMS = {"terminals": "terminated", "timeouts": "truncated"}
"""D4RL's names, and ours for the same."""
NEEDED = ("observations", "actions", "rewards", "terminated")
OPTIONAL = ("truncated", "next_observations", "episode_end")
_FLAGS = ("terminated", "truncated", "episode_end")


def from_arrays(arrays: Mapping[str, ArrayLike], source: str = "arrays") -> TransitionTable:
    """Make a table of a dict of arrays.

    Without `next_observations`, a successor is the next row's observation; an episode's last row
    then has none. If it is terminated it is kept, with its own observation in the successor's
    place, which nothing reads, as nothing is bootstrapped past termination; else it is dropped.

    Args:
        arrays: `observations` (N, obs_dim), `actions` (N, action_dim) in the environment's units,
            `rewards` (N,), `terminated` (N,) and, if there are, `truncated` (N,),
            `next_observations` (N, obs_dim) and `episode_end` (N,). D4RL's names `terminals` and
            `timeouts` mean `terminated` and `truncated`. Other keys are left alone.
        source: Where they are from, for messages.
    Returns:
        Validated table, float32 and bool.
    Raises:
        ValueError: Naming the source, the array and the row.
    """
    given, called = _rename(arrays, source)
    if missing := [name for name in NEEDED if name not in given]:
        known = {ours: d4rl for d4rl, ours in SYNONYMS.items()}
        names = [
            f"{name!r} (or {known[name]!r})" if name in known else repr(name) for name in missing
        ]
        _fail(source, f"it lacks {', '.join(names)}; it has {', '.join(map(repr, sorted(arrays)))}")
    columns = {
        name: _numeric(name, called[name], given[name], source)
        for name in (*NEEDED, *OPTIONAL)
        if name in given
    }
    _check_rows(columns, called, source)
    terminated = columns["terminated"]
    ends = _episode_ends(columns, called, source)
    # Before rows are dropped, to name them as the file counts them; of those that will be, only
    # the observation is read.
    unused = ends & ~terminated if "next_observations" not in columns else None
    for name in ("observations", "actions", "rewards", "next_observations"):
        if name in columns:
            check_finite(name, columns[name], source, None if name == "observations" else unused)
    if unused is None:
        _check_successors(
            columns["observations"], columns["next_observations"], ends, called, source
        )
        kept, final_obs = None, columns["next_observations"][ends]
    else:
        kept, ends, final_obs = _without_successors(columns["observations"], unused, ends)
        if not len(ends):
            _fail(source, "no row has a successor: add 'next_observations'")
    rows: Any = slice(None) if kept is None else kept
    return TransitionTable.from_columns(
        obs=columns["observations"][rows],
        actions=columns["actions"][rows],
        rewards=columns["rewards"][rows],
        terminated=terminated[rows],
        episode_end=ends,
        final_obs=final_obs,
        source=source,
        finite=True,
    )


def to_arrays(table: TransitionTable) -> dict[str, NDArray[Any]]:
    """The inverse of `from_arrays`.

    Args:
        table: Any table.
    Returns:
        The six arrays of the plain format; also `episode_end`, where the other flags do not tell
        it: if a trajectory goes on after a terminated row.
    """
    following = np.empty_like(table.obs)
    following[:-1] = table.obs[1:]
    following[table.episode_end] = table.final_obs
    arrays: dict[str, NDArray[Any]] = {
        "observations": np.asarray(table.obs),
        "actions": np.asarray(table.actions),
        "rewards": np.asarray(table.rewards),
        "next_observations": following,
        "terminated": np.asarray(table.terminated),
        "truncated": table.episode_end & ~table.terminated,
    }
    if np.any(table.terminated & ~table.episode_end):
        arrays["episode_end"] = np.asarray(table.episode_end)
    return arrays


def _rename(
    arrays: Mapping[str, ArrayLike], source: str
) -> tuple[dict[str, ArrayLike], dict[str, str]]:
    """The arrays by our names, and what they are called where they are from, for messages."""
    given: dict[str, ArrayLike] = {}
    called = {ours: d4rl for d4rl, ours in SYNONYMS.items()} if SYNONYMS.keys() & arrays else {}
    for name, array in arrays.items():
        ours = SYNONYMS.get(name, name)
        if ours in given:
            theirs = next(key for key, value in SYNONYMS.items() if value == ours)
            _fail(source, f"it has both {theirs!r} and {ours!r}, which mean the same: keep one")
        given[ours], called[ours] = array, name
    return given, called


def _numeric(name: str, called: str, values: ArrayLike, source: str) -> NDArray[Any]:
    """The array with two dimensions if it is of vectors, one if of numbers; flags as bool."""
    try:
        array = np.asarray(values)
    except ValueError as error:
        _fail(source, f"{called} is no array: {error}")
    if array.dtype.kind not in "fiub":
        _fail(source, f"{called} holds {array.dtype}, not numbers")
    ndim = 2 if name in ("observations", "actions", "next_observations") else 1
    if ndim == 1 and array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != ndim:
        shape = "(rows, size)" if ndim == 2 else "(rows,)"
        _fail(source, f"{called} has shape {array.shape}, expected {shape}")
    if name not in _FLAGS:
        return array
    odd = (array != 0) & (array != 1)
    if odd.any():
        row = int(np.argmax(odd))
        _fail(source, f"{called} is {array[row]} at row {row}; a flag is 0 or 1")
    return array.astype(np.bool_)


def _check_rows(columns: dict[str, NDArray[Any]], called: Mapping[str, str], source: str) -> None:
    observations = columns["observations"]
    for name, column in columns.items():
        if len(column) != len(observations):
            _fail(
                source,
                f"{called[name]} has shape {column.shape}, observations {observations.shape}: "
                "rows must be as many",
            )
    if not len(observations):
        _fail(source, "it holds no transitions")
    if not (observations.shape[1] and columns["actions"].shape[1]):
        _fail(source, "observations and actions must not have size 0")
    following = columns.get("next_observations", observations)
    if following.shape != observations.shape:
        _fail(
            source,
            f"next_observations has shape {following.shape}, observations {observations.shape}",
        )


def _episode_ends(
    columns: dict[str, NDArray[Any]], called: Mapping[str, str], source: str
) -> NDArray[np.bool_]:
    truncated = columns.get("truncated")
    if truncated is None:
        truncated = np.zeros(len(columns["terminated"]), np.bool_)
    if "episode_end" in columns:
        ends: NDArray[np.bool_] = columns["episode_end"].copy()
        if (lost := truncated & ~ends).any():
            row = int(np.argmax(lost))
            _fail(source, f"{called['truncated']} is set at row {row}, episode_end is not")
    else:
        ends = columns["terminated"] | truncated
    ends[-1] = True
    return ends


def _check_successors(
    observations: NDArray[Any],
    following: NDArray[Any],
    ends: NDArray[np.bool_],
    called: Mapping[str, str],
    source: str,
) -> None:
    """The table keeps one copy of each observation, so a successor must be the next row's."""
    for start, rows in row_chunks(following[:-1]):
        stop = start + len(rows)
        differ = rows != observations[start + 1 : stop + 1]
        differ[ends[start:stop]] = False
        if differ.any():
            row = start + int(np.argmax(differ.any(axis=1)))
            _fail(
                source,
                f"next_observations[{row}] differs from observations[{row + 1}], though no episode "
                f"ends there: set {called.get('truncated', 'truncated')}[{row}] if the trajectory "
                "was cut",
            )


def _without_successors(
    observations: NDArray[Any], dropped: NDArray[np.bool_], ends: NDArray[np.bool_]
) -> tuple[NDArray[np.intp], NDArray[np.bool_], NDArray[Any]]:
    """Rows to keep, where they end an episode, and the observations after these ends."""
    kept = np.flatnonzero(~dropped)
    last = ends.copy()
    last[:-1] |= dropped[1:]
    last = last[kept]
    rows = kept[last]
    after = np.where(ends[rows], rows, rows + 1)
    return kept, last, observations[after]


def _fail(source: str, problem: str) -> NoReturn:
    raise ValueError(f"unusable dataset {source}: {problem}")
