"""RLlib's recordings with `output_write_episodes=False`: a Parquet row is a step.

Observations must have been written as arrays: RLlib's default is to compress them into pickles,
which are never loaded. Record with `output_compress_columns=[]`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rllib_fmq.data.formats.trajectories import Trajectory

ROW_COLUMNS = ("eps_id", "obs", "actions", "rewards", "new_obs", "terminateds", "truncateds")
_VECTORS = ("obs", "actions", "new_obs")
_FLAGS = ("terminateds", "truncateds")

Columns = dict[str, NDArray[Any]]


def read_rows(files: Sequence[Path], source: Path) -> Iterator[Trajectory]:
    """Episodes of files with a row a step.

    Args:
        files: In the order in which they were written.
        source: What they belong to, for messages.
    Yields:
        A trajectory for each stretch of an episode whose rows follow each other.
    Raises:
        ValueError: Naming the file and what is wrong.
    """
    episodes: dict[str, Columns] = {}
    folders: dict[Path, list[Path]] = {}
    for file in files:
        folders.setdefault(file.parent, []).append(file)
    for members in folders.values():
        # A folder is one writing. Its files share out the rows, in order.
        written: dict[str, list[Columns]] = {}
        for file in members:
            for name, part in _by_episode(_read(file)):
                written.setdefault(name, []).append(part)
        for name, parts in written.items():
            rows = _concatenate(parts)
            known = episodes.get(name)
            # RLlib may write all rows so far again each time.
            again = known is not None and _begins_with(rows, known)
            episodes[name] = rows if known is None or again else _concatenate([known, rows])
    for name, rows in episodes.items():
        yield from _stretches(name, rows, source)


def _read(file: Path) -> Columns:
    import pyarrow.parquet as pq

    try:
        # Not through a dataset: that would take columns out of the names of folders.
        with pq.ParquetFile(file) as parquet:
            table = parquet.read(columns=list(ROW_COLUMNS))
        columns = {name: _column(table.column(name), name) for name in ROW_COLUMNS}
    except Exception as error:  # pyarrow has many
        text = " ".join(str(error).split())
        kind = "" if type(error) is ValueError else f"{type(error).__name__}: "
        raise ValueError(
            f"cannot read dataset {file} ({file.stat().st_size} bytes): {kind}{text}. It is "
            "truncated, damaged or no recording of RLlib's; copy or record it again."
        ) from error
    return columns


def _column(chunked: Any, name: str) -> NDArray[Any]:
    import pyarrow as pa
    import pyarrow.compute as pc

    array = chunked.combine_chunks()
    if isinstance(array, pa.ChunkedArray):  # none at all
        array = pa.concat_arrays(array.chunks)
    if isinstance(array.type, pa.BaseExtensionType):
        array = array.storage  # Ray's type of arrays; registered or not, it stores lists
    if array.null_count:
        raise ValueError(f"{name} lacks values in {array.null_count} rows")
    if name not in _VECTORS:
        values = np.asarray(array.to_numpy(zero_copy_only=False))
        if name in _FLAGS:
            _check_flags(values, name)
        return values
    if pa.types.is_string(array.type) or pa.types.is_binary(array.type):
        raise ValueError(
            f"{name} is compressed into pickles, which are never loaded: record with "
            "output_compress_columns=[]"
        )
    if not (pa.types.is_list(array.type) or pa.types.is_large_list(array.type)):
        raise ValueError(f"{name} holds {array.type}, expected lists of numbers")
    lengths = pc.unique(pc.list_value_length(array)).to_pylist()
    if len(lengths) > 1:
        raise ValueError(f"{name} has vectors of different sizes: {sorted(lengths)}")
    values = np.asarray(array.flatten().to_numpy(zero_copy_only=False))
    if values.dtype.kind not in "fiub":
        raise ValueError(f"{name} holds {array.type}, expected lists of numbers")
    return values.reshape(len(array), -1) if len(array) else values.reshape(0, 1)


def _check_flags(values: NDArray[Any], name: str) -> None:
    if values.dtype.kind not in "fiub":
        raise ValueError(f"{name} holds {values.dtype}, expected flags")
    odd = (values != 0) & (values != 1)
    if odd.any():
        row = int(np.argmax(odd))
        raise ValueError(f"{name} is {values[row]} at row {row}; a flag is 0 or 1")


def _by_episode(columns: Columns) -> Iterator[tuple[str, Columns]]:
    ids = columns["eps_id"]
    rest = {name: column for name, column in columns.items() if name != "eps_id"}
    for name in dict.fromkeys(ids.tolist()):
        rows = np.flatnonzero(ids == name)
        yield str(name), {key: column[rows] for key, column in rest.items()}


def _concatenate(parts: list[Columns]) -> Columns:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _begins_with(rows: Columns, known: Columns) -> bool:
    size = len(known["rewards"])
    return all(
        np.array_equal(column[:size], known[name], equal_nan=column.dtype.kind == "f")
        for name, column in rows.items()
    )


def _stretches(name: str, rows: Columns, source: Path) -> Iterator[Trajectory]:
    done = rows["terminateds"].astype(np.bool_) | rows["truncateds"].astype(np.bool_)
    if early := np.flatnonzero(done[:-1]).tolist():
        raise ValueError(
            f"unusable dataset {source}: episode {name} ends at its row {early[0]}, but has more"
        )
    # Where a row does not follow the one before it, some are missing: the trajectory is cut.
    before, after = rows["new_obs"][:-1], rows["obs"][1:]
    # Two NaN count as equal here: they are reported as what they are.
    follows = np.all((before == after) | ((before != before) & (after != after)), axis=1)
    starts = [0, *(np.flatnonzero(~follows) + 1).tolist(), len(done)]
    for start, stop in itertools.pairwise(starts):
        part = slice(start, stop)
        yield Trajectory(
            name=f"episode {name}",
            observations=np.concatenate([rows["obs"][part], rows["new_obs"][part][-1:]]),
            actions=rows["actions"][part],
            rewards=rows["rewards"][part],
            terminated=rows["terminateds"][part],
            start=start,
        )
