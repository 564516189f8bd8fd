"""D4RL's HDF5: `observations`, `actions`, `rewards`, `terminals`, `timeouts`, one row a step.

`terminals` is Gymnasium's terminated, `timeouts` truncated; an episode ends at either.
`next_observations` is optional, and many files lack it. Then the last row of a timed-out or cut
episode has no successor and is dropped, as D4RL's own reader does; the last row of a terminated one
stays, as nothing is bootstrapped past it. `infos` and `metadata` are left alone.

What is written here has `next_observations` always and, for trajectories that go on after a
terminated row, `episode_end`, which other readers leave alone. It carries HDF5's checksums.
"""

from __future__ import annotations

from pathlib import Path

from rllib_fmq.atomic import replacing
from rllib_fmq.data.formats.arrays import SYNONYMS, from_arrays, to_arrays
from rllib_fmq.data.formats.hdf5 import SchemaError, import_h5py, open_hdf5, read_array
from rllib_fmq.data.table import TransitionTable

KEYS = ("observations", "actions", "rewards", "terminals")
OPTIONAL = ("timeouts", "next_observations", "episode_end")
SUFFIXES = (".hdf5", ".h5")
_FLOATS = {"observations", "actions", "next_observations"}
_CHUNK_ROWS = 4096


def load_d4rl(path: Path) -> TransitionTable:
    """Load a D4RL file.

    Args:
        path: HDF5 file.
    Returns:
        Validated table.
    Raises:
        FileNotFoundError, ValueError: Naming the file, the key, the row and what is wrong.
    """
    with open_hdf5(path) as file:
        if missing := [key for key in KEYS if key not in file]:
            raise SchemaError(
                f"it lacks {', '.join(map(repr, missing))}; it has {', '.join(map(repr, file))}"
            )
        arrays = {key: read_array(file, key) for key in (*KEYS, *OPTIONAL) if key in file}
        for key in sorted(_FLOATS & arrays.keys()):
            if arrays[key].dtype.kind != "f":
                raise SchemaError(f"{key!r} holds {arrays[key].dtype}, expected floating point")
    return from_arrays(arrays, str(path))


def write_d4rl(path: str | Path, table: TransitionTable) -> Path:
    """Write a table as a D4RL file; `load_d4rl` reads the same table.

    Args:
        path: File to write, ending in .hdf5 or .h5; replaced if it exists, never left half
            written.
        table: Any table.
    Returns:
        The file.
    Raises:
        ValueError: If the name ends otherwise.
    """
    path = Path(path).expanduser()
    if path.suffix not in SUFFIXES:
        raise ValueError(f"the file must end in {' or '.join(SUFFIXES)}, got {str(path)!r}")
    h5py = import_h5py()
    theirs = {ours: name for name, ours in SYNONYMS.items()}
    # From this version on HDF5 has checksums for all but the values, which have their own.
    with replacing(path) as staged, h5py.File(staged, "w", libver=("v110", "v110")) as file:
        for name, array in to_arrays(table).items():
            file.create_dataset(
                theirs.get(name, name),
                data=array,
                chunks=(min(len(array), _CHUNK_ROWS), *array.shape[1:]),
                compression="gzip",
                compression_opts=4,
                shuffle=True,
                fletcher32=True,
            )
        file.attrs["source"] = table.source
    return path
