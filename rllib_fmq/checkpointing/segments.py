"""Segments: files of consecutive online rows, written once and never changed."""

from __future__ import annotations

import hashlib
import io
import re
import secrets
import zipfile
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.fs as pafs
from numpy.typing import NDArray

from rllib_fmq.checkpointing.whole_files import write_whole
from rllib_fmq.learner.online_rows import OnlineRows

_NAME = re.compile(r"rows-\d+-\d+-[0-9a-f]{16}\.npz")
_TEMPORARY = re.compile(rf"\.{_NAME.pattern}\.tmp")
_COLUMNS = {
    "obs": (np.float32, 2),
    "actions": (np.float32, 2),
    "rewards": (np.float32, 1),
    "terminated": (np.bool_, 1),
    "joins": (np.int64, 2),
    "ends": (np.int64, 1),
    "end_obs": (np.float32, 2),
}
"""Type and number of axes of each."""


@dataclass(frozen=True)
class Segment:
    """A segment's entry in an index."""

    name: str
    """Of the file. A part of it is random: a run that was killed before its checkpoint was
    complete, and resumed, collects other rows with the same numbers."""
    first: int
    """Number of the first row (``OnlineRows``)."""
    last: int
    """Number after the last row's."""
    bytes: int
    """Of the file."""
    checksum: str
    """BLAKE2b of the file, 16 bytes in hexadecimal digits."""

    def __post_init__(self) -> None:
        numbers = (self.first, self.last, self.bytes)
        if not all(type(n) is int for n in numbers) or not 0 <= self.first < self.last:
            raise ValueError(f"segment {self.name!r} has rows {self.first!r} to {self.last!r}")
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            raise ValueError(f"{self.name!r} is no name of a segment")

    def __len__(self) -> int:
        return self.last - self.first


def is_segment_file(name: str) -> bool:
    """Whether a file has the name of a segment, or of one that was being written."""
    return bool(_NAME.fullmatch(name) or _TEMPORARY.fullmatch(name))


def write_segment(filesystem: pafs.FileSystem, folder: str, rows: OnlineRows) -> Segment:
    """Write rows into a new file, an npz archive of ``OnlineRows``' arrays.

    Args:
        filesystem: Where to.
        folder: Exists there.
        rows: At least one.
    Returns:
        The entry, without which the file cannot be read.
    Raises:
        OSError: If it cannot be written; nothing is left of it then.
    """
    buffer = io.BytesIO()
    columns = rows._asdict()
    np.savez(buffer, **{name: columns[name] for name in _COLUMNS})
    data = buffer.getvalue()
    name = f"rows-{rows.first:09d}-{rows.stop:09d}-{secrets.token_hex(8)}.npz"
    write_whole(filesystem, f"{folder}/{name}", data, temporary=f"{folder}/.{name}.tmp")
    return Segment(name, rows.first, rows.stop, len(data), _checksum(data))


def read_segment_file(filesystem: pafs.FileSystem, folder: str, segment: Segment) -> bytes:
    """Read a segment's bytes, and check that they are those that were written.

    Args:
        filesystem: Where it is.
        folder: The segments' one.
        segment: Its entry.
    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is short or damaged.
    """
    path = f"{folder}/{segment.name}"
    try:
        with filesystem.open_input_stream(path) as file:
            data: bytes = file.read()
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"the checkpoint's replay needs {path}, which is missing: copy the folder of segments "
            "along with the checkpoint, or restore another one."
        ) from error
    if len(data) != segment.bytes:
        raise _damaged(path, f"it has {len(data)} bytes instead of {segment.bytes}")
    if _checksum(data) != segment.checksum:
        raise _damaged(path, "its checksum is another")
    return data


def read_segment(
    filesystem: pafs.FileSystem, folder: str, segment: Segment, obs_dim: int, action_dim: int
) -> OnlineRows:
    """Read a segment, and check that it is the one that was written.

    Args:
        filesystem: Where it is.
        folder: The segments' one.
        segment: Its entry.
        obs_dim: Size of this run's observations.
        action_dim: Size of its actions.
    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is short or damaged, or has observations or actions of other sizes.
    """
    path = f"{folder}/{segment.name}"
    data = read_segment_file(filesystem, folder, segment)
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            columns = {name: archive[name] for name in _COLUMNS}
    except (ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise _damaged(path, f"it is no archive of rows ({error})") from error
    _check(path, segment, columns)
    sizes = (columns["obs"].shape[1], columns["actions"].shape[1])
    if sizes != (obs_dim, action_dim):
        raise ValueError(
            f"the checkpoint's replay has observations of size {sizes[0]} and actions of size "
            f"{sizes[1]}, this run {obs_dim} and {action_dim}: resume with the same environment."
        )
    return OnlineRows(first=segment.first, **columns)


def _check(path: str, segment: Segment, columns: dict[str, NDArray[Any]]) -> None:
    for name, column in columns.items():
        dtype, num_axes = _COLUMNS[name]
        if column.dtype != dtype or column.ndim != num_axes:
            raise _damaged(path, f"{name} has type {column.dtype} and shape {column.shape}")
    lengths = {len(columns[name]) for name in ("obs", "actions", "rewards", "terminated")}
    width = columns["obs"].shape[1]
    if (
        lengths != {len(segment)}
        or columns["end_obs"].shape != (len(columns["ends"]), width)
        or columns["joins"].shape[1] != 2
    ):
        raise _damaged(path, "its columns do not fit together")
    ends, (rows, following) = columns["ends"], columns["joins"].T
    inside = all(((n >= segment.first) & (n < segment.last)).all() for n in (ends, following))
    if not inside or (rows < 0).any() or (rows >= following).any() or (np.diff(ends) <= 0).any():
        raise _damaged(path, "its rows are linked to others that cannot be their next ones")


def _checksum(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def _damaged(path: str, reason: str) -> ValueError:
    return ValueError(
        f"the checkpoint's replay is damaged: {path}: {reason}. Restore another checkpoint."
    )
