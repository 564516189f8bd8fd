"""Which format a dataset is in, told from its contents, and the reader that belongs to it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from rllib_fmq.data.formats.columns import is_columns, load_columns
from rllib_fmq.data.formats.d4rl_hdf5 import KEYS as D4RL_KEYS
from rllib_fmq.data.formats.d4rl_hdf5 import load_d4rl
from rllib_fmq.data.formats.hdf5 import keys_of
from rllib_fmq.data.formats.minari_dataset import PREFIX as MINARI_PREFIX
from rllib_fmq.data.formats.minari_dataset import find_minari, is_minari, load_minari
from rllib_fmq.data.formats.npz import members_of
from rllib_fmq.data.formats.ogbench_npz import REQUIRED as OGBENCH_KEYS
from rllib_fmq.data.formats.ogbench_npz import load_ogbench
from rllib_fmq.data.formats.rllib_episodes import is_rllib, load_rllib_episodes
from rllib_fmq.data.formats.transitions_npz import KEYS as PLAIN_KEYS
from rllib_fmq.data.formats.transitions_npz import load_transitions
from rllib_fmq.data.table import TransitionTable
from rllib_fmq.tasks.catalog import find_task

Format = Literal["plain", "ogbench", "robomimic", "d4rl", "minari", "rllib", "columns"]

KNOWN_FORMATS = (
    f"OGBench's npz ({', '.join(OGBENCH_KEYS)}), plain npz ({', '.join(PLAIN_KEYS)}), RoboMimic's "
    f"HDF5 (data/demo_0, ...), D4RL's HDF5 ({', '.join(D4RL_KEYS)}), a folder of Minari's "
    f"(metadata.json), RLlib's recorded episodes (.parquet), a folder of ours (NAME.columns)"
)
_HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
_PARQUET_MAGIC = b"PAR1"
_HDF5_SUFFIXES = (".hdf5", ".h5", ".hdf")


def resolve(dataset: str | Path) -> Path:
    """The path that a dataset's name stands for.

    Args:
        dataset: Path, or "minari:ID".
    Raises:
        FileNotFoundError: If there is nothing of that name.
    """
    if str(dataset).startswith(MINARI_PREFIX):
        return find_minari(str(dataset))
    path = Path(dataset).expanduser()
    if not path.exists():
        raise FileNotFoundError(f"dataset not found: {path}")
    return path


def detect(path: Path) -> Format:
    """Tell a dataset's format.

    Args:
        path: File or folder.
    Raises:
        FileNotFoundError: If there is nothing of that name.
        ValueError: If it is damaged or of no known format, with what was found.
    """
    if not path.exists():
        raise FileNotFoundError(f"dataset not found: {path}")
    return _detect_folder(path) if path.is_dir() else _detect_file(path)


def _detect_folder(path: Path) -> Format:
    if is_columns(path):
        return "columns"
    if is_minari(path):
        return "minari"
    if shards_of(path):
        raise ValueError(
            f"dataset {path} is a folder of npz files: make one dataset of them with `rllib data "
            f"convert {path} {path.name}.columns --env TASK`, and name that"
        )
    if is_rllib(path):
        return "rllib"
    found = sorted(child.name for child in path.iterdir())
    if not found:
        raise ValueError(
            f"dataset folder {path} is empty: name the folder or file that holds the data. "
            f"Expected {KNOWN_FORMATS}."
        )
    raise _unknown(path, found)


def _detect_file(path: Path) -> Format:
    with path.open("rb") as file:
        start = file.read(len(_HDF5_MAGIC))
    if start.startswith(_PARQUET_MAGIC) or path.suffix == ".parquet":
        return "rllib"
    if start == _HDF5_MAGIC or path.suffix in _HDF5_SUFFIXES:
        keys = keys_of(path)
        if "data" in keys and "observations" not in keys:
            return "robomimic"
        if keys.issuperset(D4RL_KEYS):
            return "d4rl"
        raise _unknown(path, sorted(keys))
    members = members_of(path)
    if members.issuperset(PLAIN_KEYS):
        return "plain"
    if members.issuperset(OGBENCH_KEYS):
        return "ogbench"
    raise _unknown(path, sorted(members))


def _unknown(path: Path, found: list[str]) -> ValueError:
    shown = ", ".join(found[:12]) + (f" and {len(found) - 12} more" if len(found) > 12 else "")
    return ValueError(
        f"dataset {path} has no known format but {shown or 'nothing'}. Expected {KNOWN_FORMATS}."
    )


def shards_of(folder: Path) -> list[Path]:
    """The npz files of a folder that make up one dataset, in order; validation parts left out."""
    files = sorted(folder.glob("*.npz"))
    return [file for file in files if not file.stem.endswith("-val")]


def load(path: Path, env_name: str | None, *, filter_key: str | None = None) -> TransitionTable:
    """Load a dataset of any known format.

    Args:
        path: File or folder.
        env_name: Task whose rewards to take; needed for OGBench's files, which hold none.
        filter_key: RoboMimic only: name of the mask whose demonstrations to take.
    Returns:
        Validated table.
    Raises:
        FileNotFoundError, ValueError: Naming the file and what is wrong.
    """
    found = detect(path)
    if found == "robomimic":
        from rllib_fmq.data.formats.robomimic_hdf5 import load_robomimic

        task = find_task(env_name) if env_name else None
        if task is not None and task.benchmark != "robomimic":
            raise ValueError(
                f"dataset {path} is RoboMimic's, which does not belong to the task {env_name!r}"
            )
        return load_robomimic(path, task, filter_key=filter_key)
    if filter_key is not None:
        raise ValueError(
            f"a filter key ({filter_key!r}) names a mask of a RoboMimic file, but {path} is in the "
            f"format {found!r}: leave it away"
        )
    if found == "ogbench":
        if env_name is None:
            raise ValueError(
                f"dataset {path} is in OGBench's format, which holds no rewards: name the task "
                "that supplies them (--env), such as cube-single-play-singletask-task2-v0"
            )
        return load_ogbench(path, env_name)
    readers: dict[Format, Callable[[Path], TransitionTable]] = {
        "plain": load_transitions,
        "d4rl": load_d4rl,
        "minari": load_minari,
        "rllib": load_rllib_episodes,
        "columns": load_columns,
    }
    return readers[found](path)
