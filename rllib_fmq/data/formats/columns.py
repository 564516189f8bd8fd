"""A table on disk: one npy file a column, mapped into memory, so that it may be larger than that.

The folder NAME.columns holds `obs.npy`, `actions.npy`, `rewards.npy`, `terminated.npy`,
`episode_end.npy`, `final_obs.npy` (the columns of `TransitionTable`) and `meta.json`: rows,
episodes, sizes, source, task, fingerprint, and size and SHA-256 of every file.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import tokenize
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from rllib_fmq.data.table import (
    COLUMNS,
    FINGERPRINT_BLOCK,
    TransitionTable,
    checksum,
    fingerprint_header,
)

SUFFIX = ".columns"
META = "meta.json"
_FORMAT, _VERSION = "rllib_fmq columns", 1
_DAMAGE = (
    OSError,
    EOFError,
    ValueError,
    TypeError,
    SyntaxError,  # these two: NumPy parses the header as Python
    tokenize.TokenError,
    OverflowError,
    MemoryError,
)


def is_columns(path: str | Path) -> bool:
    """Whether a path is a folder of mapped columns, sound or not."""
    path = Path(path)
    return path.is_dir() and (path.suffix == SUFFIX or _names_format(path / META))


def is_replaceable(folder: Path) -> bool:
    """Whether a folder holds nothing but what `write_columns` writes, sound or not."""
    names = {META, *(f"{name}.npy" for name in COLUMNS)}
    return folder.is_dir() and all(child.name in names for child in folder.iterdir())


def _names_format(meta: Path) -> bool:
    try:
        with meta.open("rb") as file:
            return _FORMAT.encode() in file.read(4096)
    except OSError:
        return False


def write_columns(
    folder: str | Path,
    tables: Iterable[TransitionTable],
    *,
    source: str,
    env: str | None = None,
    overwrite: bool = False,
) -> Path:
    """Write tables one after the other, as one dataset, never left half written.

    Memory is needed for one table at a time: give a generator that loads shard by shard.

    Args:
        folder: Folder to make; its name ends in .columns.
        tables: At least one; all of the same sizes. Each begins a new episode.
        source: Where the rows came from, for people to read.
        env: Task whose rewards the rows hold, for people to read.
        overwrite: Whether to replace such a folder if there is one.
    Returns:
        The folder.
    Raises:
        FileExistsError: If the folder exists and may not be replaced.
        ValueError: If a table is broken, or its sizes differ from the first one's.
    """
    folder = Path(folder).expanduser()
    if folder.suffix != SUFFIX:
        raise ValueError(f"a folder of columns must have a name ending in {SUFFIX}, got {folder}")
    if folder.exists() and not (overwrite and is_replaceable(folder)):
        raise FileExistsError(
            f"{folder} exists" + (" and is no folder of columns alone" if overwrite else "")
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.", suffix=".tmp"))
    try:
        shapes = _write_arrays(staging, tables, source)
        _write_meta(staging, shapes, source, env)
        mask = os.umask(0)
        os.umask(mask)
        staging.chmod(0o777 & ~mask)  # mkdtemp's folders are private
        if folder.exists():
            old = staging.with_suffix(".old")
            folder.rename(old)
            staging.rename(folder)
            shutil.rmtree(old, ignore_errors=True)
        else:
            staging.rename(folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return folder


def _write_arrays(
    folder: Path, tables: Iterable[TransitionTable], source: str
) -> dict[str, tuple[int, ...]]:
    rows = dict.fromkeys(COLUMNS, 0)
    widths: dict[str, tuple[int, ...]] = {}
    with contextlib.ExitStack() as stack:
        files = {name: stack.enter_context((folder / f"{name}.npy").open("wb")) for name in COLUMNS}
        for table in tables:
            table.validate()
            columns = table.columns()
            shapes = {name: column.shape[1:] for name, column in columns.items()}
            if not widths:
                widths = shapes
                if not (table.obs_dim and table.action_dim):
                    raise ValueError(f"dataset {table.source}: obs or actions have size 0")
                for name, file in files.items():
                    _write_header(file, name, (0, *widths[name]))
            if shapes != widths:
                raise ValueError(
                    f"dataset {table.source} has observations of size {table.obs_dim} and actions "
                    f"of size {table.action_dim}, those before it {widths['obs'][0]} and "
                    f"{widths['actions'][0]}: shards of one dataset have the same sizes"
                )
            for name, column in columns.items():
                np.ascontiguousarray(column).tofile(files[name])
                rows[name] += len(column)
            del table, columns, column  # the next table is made before these names are bound anew
        if not widths:
            raise ValueError(f"nothing to write for {source}: no table was given")
        # The number of rows is known only now; NumPy leaves room for it to grow in the header.
        shapes = {name: (rows[name], *widths[name]) for name in COLUMNS}
        for name, file in files.items():
            file.seek(0)
            _write_header(file, name, shapes[name])
    return shapes


def _write_header(file: BinaryIO, name: str, shape: tuple[int, ...]) -> None:
    descr = npy.dtype_to_descr(COLUMNS[name][1].newbyteorder("<"))
    npy.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": shape})
    file.flush()


def _write_meta(
    folder: Path, shapes: dict[str, tuple[int, ...]], source: str, env: str | None
) -> None:
    total, files = _digests(folder, shapes)
    meta: dict[str, Any] = {
        "format": _FORMAT,
        "version": _VERSION,
        "source": source,
        "env": env,
        "rows": shapes["obs"][0],
        "episodes": shapes["final_obs"][0],
        "obs_dim": shapes["obs"][1],
        "action_dim": shapes["actions"][1],
        "fingerprint": total,
        "files": {
            name: {"bytes": (folder / name).stat().st_size, "sha256": digest}
            for name, digest in files.items()
        },
    }
    meta["sha256"] = _meta_digest(meta)
    (folder / META).write_text(json.dumps(meta, indent=2) + "\n", encoding="utf-8")


def _meta_digest(meta: dict[str, Any]) -> str:
    rest = {key: value for key, value in meta.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _digests(folder: Path, shapes: dict[str, tuple[int, ...]]) -> tuple[str, dict[str, str]]:
    """The table's fingerprint and the SHA-256 of each file, in one pass over the files."""
    total, files = hashlib.sha256(), {}
    for name, (_, dtype) in COLUMNS.items():
        digest = hashlib.sha256()
        total.update(fingerprint_header(name, dtype, shapes[name]))
        with (folder / f"{name}.npy").open("rb") as file:
            _read_header(file)
            offset = file.tell()
            file.seek(0)
            digest.update(file.read(offset))
            for block in _blocks(file):
                digest.update(block)
                total.update(checksum(block))
        files[f"{name}.npy"] = digest.hexdigest()
    return total.hexdigest(), files


def _blocks(file: BinaryIO) -> Iterator[bytes]:
    while block := file.read(FINGERPRINT_BLOCK):
        yield block


def load_columns(folder: str | Path, *, verify: bool = False) -> TransitionTable:
    """Map a folder of columns into memory, read-only.

    Sizes, types and shapes of all files are checked against `meta.json`, and the number of
    episodes against `episode_end`; no other column is read.

    Args:
        folder: Folder of `write_columns`.
        verify: Whether to read everything once and compare it with the checksums too, which
            finds damage that leaves the sizes as they were.
    Returns:
        Table whose columns are maps of the files.
    Raises:
        FileNotFoundError: If the folder, or a file in it, is missing.
        ValueError: If a file is truncated or damaged, naming it.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise FileNotFoundError(f"dataset folder not found: {folder}")
    meta = _read_meta(folder)
    rows, episodes = meta["rows"], meta["episodes"]
    obs_dim, action_dim = meta["obs_dim"], meta["action_dim"]
    shapes: dict[str, tuple[int, ...]] = {
        "obs": (rows, obs_dim),
        "actions": (rows, action_dim),
        "rewards": (rows,),
        "terminated": (rows,),
        "episode_end": (rows,),
        "final_obs": (episodes, obs_dim),
    }
    columns = {
        name: _map(folder / f"{name}.npy", dtype, shapes[name], meta["files"])
        for name, (_, dtype) in COLUMNS.items()
    }
    source = f"{folder} ({meta['source']})"
    table = TransitionTable(**columns, source=source, fingerprint=meta["fingerprint"])
    table.validate_structure()
    if verify:
        total, files = _digests(folder, shapes)
        for name, digest in files.items():
            if digest != meta["files"][name]["sha256"]:
                _damaged(folder / name, f"its SHA-256 is {digest[:12]}..., not the one written")
        if total != meta["fingerprint"]:
            _damaged(folder / META, "its fingerprint is not that of the columns")
        table.validate()
    return table


def _read_meta(folder: Path) -> dict[str, Any]:
    path = folder / META
    try:
        meta = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{folder} has no {META}: it is no folder of columns, or was not copied whole"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        _damaged(path, f"{type(error).__name__}: {error}", error)
    if not isinstance(meta, dict) or meta.get("format") != _FORMAT:
        _damaged(path, f"it does not say format {_FORMAT!r}")
    if meta.get("version") != _VERSION:
        raise ValueError(
            f"{path} has version {meta.get('version')!r} of the format, this package reads "
            f"{_VERSION}: convert the dataset again (rllib data convert)"
        )
    if meta.get("sha256") != _meta_digest(meta):
        _damaged(path, "its contents do not agree with its own checksum")
    return meta


def _map(
    path: Path, dtype: np.dtype[Any], shape: tuple[int, ...], files: dict[str, Any]
) -> NDArray[Any]:
    if not path.is_file():
        raise FileNotFoundError(f"{path.parent} lacks {path.name}: copy or convert it again")
    wanted = files[path.name]["bytes"]
    if (size := path.stat().st_size) != wanted:
        _damaged(path, f"it has {size} bytes instead of {wanted}")
    try:
        with path.open("rb") as file:
            found = _read_header(file)
            offset = file.tell()
    except _DAMAGE as error:
        _damaged(path, f"{type(error).__name__}: {error}", error)
    if found != (shape, False, dtype):
        _damaged(path, f"it holds {found[2]} of shape {found[0]}, expected {dtype} of {shape}")
    if offset + dtype.itemsize * int(np.prod(shape)) != size:
        _damaged(path, f"its {size} bytes do not hold {dtype} of shape {shape}")
    column: NDArray[Any] = np.memmap(path, dtype=dtype, mode="r", offset=offset, shape=shape)
    return column


def _read_header(file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = npy.read_magic(file)
    if version != (1, 0):
        raise ValueError(f"version {version} of the npy format")
    header: tuple[tuple[int, ...], bool, np.dtype[Any]] = npy.read_array_header_1_0(file)
    return header


def _damaged(path: Path, problem: str, cause: BaseException | None = None) -> NoReturn:
    raise ValueError(
        f"cannot read dataset file {path}: {' '.join(problem.split())}. It is truncated or "
        "damaged; copy it again or convert the dataset again (rllib data convert)."
    ) from cause
