"""npz archives: one clear error on the way in, all or nothing on the way out."""

from __future__ import annotations

import contextlib
import lzma
import math
import os
import tempfile
import threading
import tokenize
import zipfile
import zlib
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

Arrays = dict[str, NDArray[Any]]

_SUFFIX = ".npy"
_LONGEST = 300
_READERS = 2
"""Members decompressed at a time; more would seldom help, as one of them holds half the data."""
_CHUNK = 2**18
"""Bytes decompressed at a time: few enough to stay in the processor's cache until they are used."""
_PARSING = threading.Lock()
"""NumPy parses headers as Python literals, which in CPython 3.11 no two threads may do at once: one
of them may end in a SystemError (python/cpython#106905)."""
_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    OSError,
    ValueError,
    KeyError,
    TypeError,
    SyntaxError,
    tokenize.TokenError,
    OverflowError,
    MemoryError,
    RecursionError,
    RuntimeError,  # an encrypted member
    NotImplementedError,  # a compression method that this Python lacks
)


@contextlib.contextmanager
def _archive(path: Path) -> Iterator[zipfile.ZipFile]:
    if not path.is_file():
        raise FileNotFoundError(f"dataset file not found: {path}")
    try:
        with path.open("rb") as file:
            if file.read(len(npy.MAGIC_PREFIX)) == npy.MAGIC_PREFIX:
                raise ValueError("it is a single array, not an npz archive")
        with zipfile.ZipFile(path) as archive:
            yield archive
    except _DAMAGE as error:
        raise ValueError(
            f"cannot read dataset {path} ({path.stat().st_size} bytes): {_reason(error)}. The file "
            "is truncated, damaged or not an npz archive; generate or download it again."
        ) from error


def _members(archive: zipfile.ZipFile) -> frozenset[str]:
    for info in archive.infolist():
        # Opening compares the two places that name a member: an optional array whose name is
        # damaged in one of them must not pass for one that was never there.
        archive.open(info).close()
    return frozenset(name.removesuffix(_SUFFIX) for name in archive.namelist())


def members_of(path: Path) -> frozenset[str]:
    """Names of the arrays in an npz archive.

    Args:
        path: File.
    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is truncated, damaged or no npz.
    """
    with _archive(path) as archive:
        return _members(archive)


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
        ValueError: If the file is truncated, damaged, no npz, or lacks a member; if a member holds
            pickled objects, which are never loaded.
    """
    members = members_of(path)
    missing = [name for name in required if name not in members]
    if missing:
        raise ValueError(
            f"dataset {path} lacks {', '.join(map(repr, missing))}; "
            f"it has {', '.join(map(repr, sorted(members))) or 'nothing'}"
        )
    names = [name for name in (*required, *optional) if name in members]
    with ThreadPoolExecutor(_READERS) as pool:
        return dict(zip(names, pool.map(partial(_read_one, path), names), strict=True))


def _read_one(path: Path, name: str) -> NDArray[Any]:
    with _archive(path) as archive:  # one a thread: sharing one is not safe
        return _read_member(archive, name)


def _read_member(archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    """One array, if its header says as many bytes as the archive holds.

    Otherwise a damaged header could ask for any amount of memory, or for fewer bytes than there
    are, and then the checksum at the end would not be looked at.
    """
    try:
        info = archive.getinfo(name + _SUFFIX)
        with archive.open(info) as member:
            version = npy.read_magic(member)
            if version not in _HEADERS:
                raise ValueError(f"version {version} of the npy format")
            with _PARSING:
                shape, by_columns, dtype = _HEADERS[version](member)
            if dtype.hasobject:
                raise ValueError("it holds pickled objects, which are never loaded")
            size = member.tell() + math.prod(shape) * dtype.itemsize
            if size != info.file_size:
                raise ValueError(
                    f"its header tells {dtype} of shape {shape}, {size} bytes with the header, but "
                    f"there are {info.file_size}"
                )
            array = np.empty(shape, dtype, order="F" if by_columns else "C")
            _fill(array, member)
    except _DAMAGE as error:
        raise ValueError(f"{name!r}: {_reason(error)}") from error
    return array


def _fill(array: NDArray[Any], member: IO[bytes]) -> None:
    """Read an array's bytes, and on to the member's end, where its checksum is compared."""
    if array.nbytes:
        rest = array.ravel(order="K").view(np.uint8)
        read = member.readinto  # type: ignore[attr-defined]  # zipfile's members have it
        while len(rest):
            count = read(rest[:_CHUNK])
            if not count:
                raise EOFError(f"{len(rest)} of {array.nbytes} bytes are missing")
            rest = rest[count:]
    member.read(1)


def _reason(error: BaseException) -> str:
    text = " ".join(str(error).split())
    if len(text) > _LONGEST:  # some hold a piece of the file
        text = f"{text[:_LONGEST]} ..."
    if type(error) is ValueError and text:
        return text
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
