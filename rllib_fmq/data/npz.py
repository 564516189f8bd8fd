"""npz archives: one clear error on the way in, all or nothing on the way out."""

from __future__ import annotations

import contextlib
import lzma
import os
import tempfile
import zipfile
import zlib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

Arrays = dict[str, NDArray[Any]]

_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    OSError,
    ValueError,  # includes NumPy's refusal of pickled (object) arrays
    KeyError,
    NotImplementedError,  # a compression method that this Python lacks
)


@contextlib.contextmanager
def _archive(path: Path) -> Iterator[NpzFile]:
    if not path.is_file():
        raise FileNotFoundError(f"dataset file not found: {path}")
    try:
        archive = np.load(path, allow_pickle=False)
        if not isinstance(archive, NpzFile):
            raise ValueError("it is a single array, not an npz archive")
        with archive:
            yield archive
    except _DAMAGE as error:
        raise ValueError(
            f"cannot read dataset {path} ({path.stat().st_size} bytes): {_reason(error)}. The file "
            "is truncated, damaged or not an npz archive; generate or download it again."
        ) from error


def members_of(path: Path) -> frozenset[str]:
    """Names of the arrays in an npz archive.

    Args:
        path: File.
    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is truncated, damaged or no npz.
    """
    with _archive(path) as archive:
        return frozenset(archive.files)


def read_npz(path: Path, *, required: Collection[str], optional: Collection[str] = ()) -> Arrays:
    """Read members of an npz archive.

    Args:
        path: File.
        required: Members that must be there.
        optional: Members to read if they are there.
    Returns:
        Array per member.
    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is truncated, damaged, no npz, or lacks a member.
    """
    members = members_of(path)
    missing = [name for name in required if name not in members]
    if missing:
        raise ValueError(
            f"dataset {path} lacks {', '.join(map(repr, missing))}; "
            f"it has {', '.join(map(repr, sorted(members))) or 'nothing'}"
        )
    with _archive(path) as archive:
        return {name: archive[name] for name in (*required, *optional) if name in members}


def _reason(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def write_npz(files: Mapping[Path, Mapping[str, NDArray[Any]]]) -> None:
    """Write npz archives so that either all of them appear complete, or none.

    Every archive is first written under a temporary name in its folder. The same arrays give the
    same bytes.

    Args:
        files: Arrays per file; renamed into place in this order once all are written.
    """
    staged: list[tuple[str, Path]] = []
    try:
        for path, arrays in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
            staged.append((name, path))
            with os.fdopen(handle, "wb") as file:
                np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
            mask = os.umask(0)
            os.umask(mask)
            os.chmod(name, 0o666 & ~mask)  # mkstemp's files are private
        for name, path in staged:
            os.replace(name, path)
    finally:
        for name, _ in staged:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name)
