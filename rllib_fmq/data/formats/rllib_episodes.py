"""Episodes that RLlib recorded: the Parquet files of its `OfflineSingleAgentEnvRunner`.

With `output_write_episodes=True`, RLlib's default, a row is a fragment of an episode, packed with
msgpack; the row-a-step form is read by `rllib_rows`. Fragments of an episode are put in order and
joined; where one is missing, the trajectory is cut. RLlib may write a fragment several times (each
time with all those before it, unless `output_max_rows_per_file` is set): it counts once.

Actions are what the policy gave out. By default RLlib maps them from [-1, 1] to the environment's
bounds, or clips them, only afterwards: record with `.environment(normalize_actions=False,
clip_actions=False)`, and let the policy or a wrapper of the environment keep to the bounds.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rllib_fmq.data.formats.rllib_rows import ROW_COLUMNS, read_rows
from rllib_fmq.data.formats.trajectories import Trajectory, to_table
from rllib_fmq.data.table import TransitionTable

SUFFIX = ".parquet"
ITEM = "item"


@dataclass(frozen=True)
class Fragment:
    """Steps `start` to `end` of an episode."""

    episode: str
    start: int
    end: int
    steps: Trajectory


class _Pickled:
    """In the place of an array of objects, which only unpickling could read."""


def is_rllib(path: Path) -> bool:
    """Whether a path is a Parquet file, or a folder that holds any."""
    if path.is_file():
        return path.suffix == SUFFIX
    return path.is_dir() and next(path.rglob(f"*{SUFFIX}"), None) is not None


def load_rllib_episodes(path: Path) -> TransitionTable:
    """Load recorded episodes.

    Args:
        path: Parquet file, or a folder with such in it, at any depth.
    Returns:
        Validated table, the episodes in the order in which they were begun.
    Raises:
        FileNotFoundError: If there is no such file, or none in the folder.
        ValueError: Naming the file, the episode and what is wrong. Nothing is unpickled.
    """
    files = sorted(path.rglob(f"*{SUFFIX}")) if path.is_dir() else [path]
    if not files or not files[0].is_file():
        raise FileNotFoundError(f"no {SUFFIX} file in {path}" if path.is_dir() else f"no {path}")
    kinds = {file: _kind(file) for file in files}
    if len(set(kinds.values())) > 1:
        other = next(file for file in files if kinds[file] != kinds[files[0]])
        raise ValueError(
            f"unusable dataset {path}: {files[0]} holds {kinds[files[0]]}, {other} "
            f"{kinds[other]}; keep them in folders of their own"
        )
    if kinds[files[0]] == "steps":
        return to_table(read_rows(files, path), str(path))
    fragments: dict[str, dict[tuple[int, int], Fragment]] = {}
    for file in files:
        for fragment in _fragments(file):
            known = fragments.setdefault(fragment.episode, {})
            place = (fragment.start, fragment.end)
            if place in known and not _same(known[place].steps, fragment.steps):
                raise ValueError(
                    f"unusable dataset {file}: {fragment.steps.name} is there twice, with "
                    "different contents"
                )
            known[place] = fragment
    joined = (part for parts in fragments.values() for part in _join(list(parts.values()), path))
    return to_table(joined, str(path))


def _kind(file: Path) -> str:
    import pyarrow.parquet as pq

    try:
        names = set(pq.read_schema(file).names)
    except Exception as error:  # pyarrow has many
        raise _unreadable(file, error) from error
    if ITEM in names:
        return "episodes"
    if names.issuperset(ROW_COLUMNS):
        return "steps"
    raise ValueError(
        f"dataset {file} was not recorded by RLlib: it has the columns "
        f"{', '.join(sorted(names)) or 'none'}; expected {ITEM!r}, or {', '.join(ROW_COLUMNS)}"
    )


def _fragments(file: Path) -> Iterator[Fragment]:
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file) as parquet:
            for batch in parquet.iter_batches(batch_size=64, columns=[ITEM]):
                for row, packed in enumerate(batch.column(0).to_pylist()):
                    try:
                        yield _unpack(packed)
                    except Exception as error:
                        raise ValueError(f"row {row}: {_text(error)}") from error
    except Exception as error:
        raise _unreadable(file, error) from error


def _unreadable(file: Path, error: Exception) -> ValueError:
    return ValueError(
        f"cannot read dataset {file} ({file.stat().st_size} bytes): {_text(error)}. It is "
        "truncated, damaged or no recording of RLlib's; copy or record it again."
    )


def _text(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if type(error) is ValueError and text else f"{type(error).__name__}: {text}"


def _unpack(packed: Any) -> Fragment:
    # Not from the package's head: msgpack_numpy, which RLlib uses, puts a decoder there that
    # unpickles.
    try:
        from msgpack._cmsgpack import unpackb
    except ImportError:
        from msgpack.fallback import unpackb

    if not isinstance(packed, bytes):
        raise ValueError(f"an episode is {type(packed).__name__}, expected bytes")
    state = unpackb(packed, object_hook=_decode, strict_map_key=False)
    if not isinstance(state, dict):
        raise ValueError(f"an episode is {type(state).__name__}, expected a dict")
    name = state.get("id_")
    start, end, done = state.get("t_started"), state.get("t"), state.get("is_terminated")
    if not isinstance(name, str) or not isinstance(start, int) or not isinstance(end, int):
        raise ValueError(f"an episode's id_, t_started, t are {name!r}, {start!r}, {end!r}")
    if done not in (False, True):
        raise ValueError(f"an episode's is_terminated is {done!r}")
    keys = _key_order(state.get("_observation_space"))
    observations = [_vector(value, keys) for value in _buffer(state, "observations")]
    actions = [_vector(value, keys) for value in _buffer(state, "actions")]
    rewards = np.asarray(_buffer(state, "rewards"), np.float64)
    steps = end - start
    if not 0 <= steps == len(actions) == len(rewards) == len(observations) - 1:
        raise ValueError(
            f"episode {name} has {len(observations)} observations, {len(actions)} actions and "
            f"{len(rewards)} rewards for its steps {start} to {end}"
        )
    terminated = np.zeros(steps, np.bool_)
    terminated[-1:] = bool(done)
    label = f"episode {name}, steps {start} to {end}"
    size = len(actions[0]) if actions else 0
    trajectory = Trajectory(
        name=label,
        observations=np.stack(observations),
        actions=np.stack(actions) if actions else np.zeros((0, size)),
        rewards=rewards,
        terminated=terminated,
    )
    return Fragment(name, start, end, trajectory)


def _decode(found: dict[Any, Any]) -> Any:
    """What `msgpack_numpy` encoded; unlike its own decoder, never a pickle."""
    if b"nd" not in found:
        return found
    if found.get(b"kind") not in (None, b"") or not isinstance(found.get(b"type"), str):
        return _Pickled()
    dtype = np.dtype(found[b"type"])
    if dtype.hasobject:
        return _Pickled()
    values = np.frombuffer(found[b"data"], dtype)
    if found[b"nd"] is False:
        return values[0]
    shape = found[b"shape"]
    if math.prod(shape) != len(values) or any(size < 0 for size in shape):
        raise ValueError(f"an array of shape {shape} has {len(values)} entries")
    return values.reshape(shape)


def _buffer(state: dict[Any, Any], name: str) -> list[Any]:
    """Entries of one of the episode's buffers, without those of the fragment before."""
    buffer = state.get(name)
    if not isinstance(buffer, dict) or not isinstance(buffer.get("lookback"), int):
        raise ValueError(f"an episode has no {name}, or in another form than RLlib 2.60's")
    entries = _entries(buffer.get("data"), name)
    if not 0 <= buffer["lookback"] <= len(entries):
        raise ValueError(f"{name} has {len(entries)} entries, lookback {buffer['lookback']}")
    return entries[buffer["lookback"] :]


def _entries(data: Any, name: str) -> list[Any]:
    """One entry a step; finished episodes may hold arrays, in the structure of a Dict space."""
    if isinstance(data, Mapping):
        parts = {key: _entries(part, f"{name}/{key}") for key, part in data.items()}
        return [
            dict(zip(parts, values, strict=True)) for values in zip(*parts.values(), strict=True)
        ]
    if isinstance(data, _Pickled):
        raise ValueError(f"{name} are pickled objects, which are never loaded")
    if not isinstance(data, list | np.ndarray):
        raise ValueError(f"{name} is {type(data).__name__}, expected a list")
    return list(data)


def _key_order(space: Any) -> Any:
    """Order of the keys of a Dict space, nested as it is; None for others."""
    if isinstance(space, dict) and space.get("space") == "dict":
        return {key: _key_order(part) for key, part in space["spaces"].items()}
    return None


def _vector(value: Any, keys: Any) -> NDArray[Any]:
    if isinstance(value, dict):
        order = keys if isinstance(keys, dict) else dict.fromkeys(sorted(value))
        return np.concatenate([_vector(value[key], part) for key, part in order.items()])
    if isinstance(value, _Pickled):
        raise ValueError("an entry is a pickled object, which is never loaded")
    array = np.asarray(value)
    if array.ndim != 1 or array.dtype.kind not in "fiub":
        raise ValueError(
            f"an entry is {array.dtype} of shape {array.shape}; observations and actions must be "
            "vectors of numbers, or dicts of such"
        )
    return array


def _same(left: Trajectory, right: Trajectory) -> bool:
    return all(
        np.array_equal(getattr(left, name), getattr(right, name), equal_nan=True)
        for name in ("observations", "actions", "rewards", "terminated")
    )


def _join(fragments: list[Fragment], path: Path) -> Iterator[Trajectory]:
    """Fragments of one episode that follow each other, as one trajectory each time."""
    run: list[Fragment] = []
    for fragment in sorted(fragments, key=lambda part: (part.start, part.end)):
        if fragment.start == fragment.end:
            continue
        if run and fragment.start < run[-1].end:
            raise ValueError(
                f"unusable dataset {path}: {run[-1].steps.name} and {fragment.steps.name} overlap"
            )
        if run and fragment.start > run[-1].end:
            yield _concatenate(run)
            run = []
        if run and not _continues(run[-1], fragment):
            raise ValueError(
                f"unusable dataset {path}: {fragment.steps.name} does not begin where "
                f"{run[-1].steps.name} ends"
            )
        run.append(fragment)
    if run:
        yield _concatenate(run)


def _continues(earlier: Fragment, later: Fragment) -> bool:
    return not earlier.steps.terminated[-1] and np.array_equal(
        earlier.steps.observations[-1], later.steps.observations[0], equal_nan=True
    )


def _concatenate(run: list[Fragment]) -> Trajectory:
    steps = [fragment.steps for fragment in run]
    return Trajectory(
        name=f"episode {run[0].episode}",
        observations=np.concatenate(
            [steps[0].observations, *(part.observations[1:] for part in steps[1:])]
        ),
        actions=np.concatenate([part.actions for part in steps]),
        rewards=np.concatenate([part.rewards for part in steps]),
        terminated=np.concatenate([part.terminated for part in steps]),
        start=run[0].start,
    )
