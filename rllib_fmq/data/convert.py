"""From any format that can be read to one of those that can be written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from rllib_fmq.data.formats.columns import SUFFIX as COLUMNS_SUFFIX
from rllib_fmq.data.formats.columns import is_columns, is_replaceable, load_columns, write_columns
from rllib_fmq.data.formats.d4rl_hdf5 import SUFFIXES as HDF5_SUFFIXES
from rllib_fmq.data.formats.d4rl_hdf5 import write_d4rl
from rllib_fmq.data.formats.detect import load, resolve, shards_of
from rllib_fmq.data.formats.minari_dataset import is_minari
from rllib_fmq.data.formats.transitions_npz import write_transitions
from rllib_fmq.data.table import TransitionTable

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Converted:
    """What was written.

    Args:
        path: File or folder.
        format: "plain", "d4rl" or "columns".
        transitions: Rows.
        episodes: Trajectories.
        bytes: Size on disk.
        fingerprint: Of the table.
    """

    path: Path
    format: str
    transitions: int
    episodes: int
    bytes: int
    fingerprint: str


def convert(
    dataset: str | Path,
    out: str | Path,
    *,
    env_name: str | None = None,
    filter_key: str | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Converted:
    """Convert a dataset.

    Args:
        dataset: What `load_dataset` takes, but for "auto"; or, for mapped columns, a folder of
            npz shards (those named *-val.npz are left out), of which one at a time is in memory.
        out: NAME.npz (plain), NAME.hdf5 or NAME.h5 (D4RL's), or NAME.columns (mapped columns). It
            appears under its name when it is complete.
        env_name: Task whose rewards to take; needed for OGBench's files.
        filter_key: RoboMimic only: name of the mask whose demonstrations to take.
        overwrite: Replace what is there.
        progress: Called after each input file with how many are done, how many there are, and its
            name.
    Returns:
        What was written.
    Raises:
        FileExistsError: If `out` exists and `overwrite` is off.
        FileNotFoundError, ValueError: Naming the file and what is wrong.
    """
    target = Path(out).expanduser()
    written = _format_of(target)
    source = resolve(dataset)
    if target.exists():
        if target.resolve() == source.resolve():
            raise ValueError(f"{source} cannot be converted into itself: name another output")
        if not overwrite:
            raise FileExistsError(
                f"{target} exists: replace it with --overwrite (overwrite=True), or name another"
            )
        if target.is_dir() and not (written == "columns" and is_replaceable(target)):
            raise FileExistsError(
                f"{target} is a folder that holds other things than mapped columns: left as it is"
            )
    files = _inputs(source)
    if len(files) > 1 and written != "columns":
        raise ValueError(
            f"{source} holds {len(files)} shards; they can be converted to a folder of mapped "
            f"columns only: name the output NAME{COLUMNS_SUFFIX}"
        )

    def tables() -> Iterator[TransitionTable]:
        for number, file in enumerate(files, 1):
            yield load(file, env_name, filter_key=filter_key)
            if progress is not None:
                progress(number, len(files), file.name)

    if written == "columns":
        origin = f"{source} for {env_name}" if env_name else str(source)
        write_columns(target, tables(), source=origin, env=env_name, overwrite=overwrite)
        table = load_columns(target)
    else:
        (table,) = tables()
        (write_transitions if written == "plain" else write_d4rl)(target, table)
    size = sum(file.stat().st_size for file in target.rglob("*")) if target.is_dir() else 0
    return Converted(
        path=target,
        format=written,
        transitions=table.num_steps,
        episodes=table.num_episodes,
        bytes=size or target.stat().st_size,
        fingerprint=table.fingerprint,
    )


def _format_of(target: Path) -> str:
    if target.suffix == ".npz":
        return "plain"
    if target.suffix in HDF5_SUFFIXES:
        return "d4rl"
    if target.suffix == COLUMNS_SUFFIX:
        return "columns"
    raise ValueError(
        f"cannot tell the format of {str(target)!r}: the output must end in .npz (plain), .hdf5 "
        f"(D4RL's) or {COLUMNS_SUFFIX} (a folder of mapped columns)"
    )


def _inputs(source: Path) -> list[Path]:
    if source.is_dir() and not is_columns(source) and not is_minari(source):
        return shards_of(source) or [source]
    return [source]
