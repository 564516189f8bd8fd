"""HDF5 files: one clear error on the way in, and nothing read from anywhere else."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

_DAMAGE = (
    OSError,
    KeyError,
    ValueError,
    TypeError,
    RuntimeError,
    OverflowError,
    MemoryError,
    AttributeError,
)


class SchemaError(ValueError):
    """A sound file holds something else than what is expected; `open_hdf5` names the file."""


def import_h5py() -> ModuleType:
    """Import h5py.

    Raises:
        ModuleNotFoundError: If it is not installed, with the command that installs it.
    """
    try:
        import h5py
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "HDF5 datasets need the package 'h5py', which is not installed: pip install h5py",
            name=error.name,
        ) from error
    return h5py  # type: ignore[no-any-return]


@contextlib.contextmanager
def open_hdf5(path: Path) -> Iterator[Any]:
    """Open a file to read; whatever h5py makes of damage becomes one error.

    Args:
        path: File.
    Yields:
        h5py's file.
    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If reading fails within the block, or it raises one, naming the file.
    """
    h5py = import_h5py()
    if not path.is_file():
        raise FileNotFoundError(f"dataset file not found: {path}")
    try:
        with h5py.File(path, "r") as file:
            yield file
    except SchemaError as error:
        raise ValueError(f"unusable dataset {path}: {error}") from None
    except _DAMAGE as error:
        text = " ".join(str(error).split())
        if isinstance(error, KeyError):
            text = text.strip("'\"")  # its text is a literal
        kind = "" if type(error) in (ValueError, OSError) and text else f"{type(error).__name__}: "
        raise ValueError(
            f"cannot read dataset {path} ({path.stat().st_size} bytes): {kind}{text}. The file is "
            "truncated, damaged or not HDF5; copy, download or generate it again."
        ) from error


def keys_of(path: Path) -> frozenset[str]:
    """Names at the top of an HDF5 file.

    Args:
        path: File.
    Raises:
        FileNotFoundError, ValueError: As `open_hdf5`.
    """
    with open_hdf5(path) as file:
        return frozenset(map(str, file))  # a damaged name comes as bytes


def read_array(group: Any, name: str) -> NDArray[Any]:
    """Read an array after `check_array`.

    Args:
        group: h5py's group or file.
        name: Key in it.
    Returns:
        Array of numbers or flags.
    Raises:
        ValueError: Naming the key and what is wrong with it.
    """
    check_array(group, name, f"{group.name.rstrip('/')}/{name}".lstrip("/"))
    return np.asarray(group[name][()])


def get_member(group: Any, name: str, where: str) -> Any:
    """Look up a member that lies in the same file; other files are not even opened for it.

    Args:
        group: h5py's group or file.
        name: Key in it.
        where: Its name, for messages.
    Returns:
        h5py's group or dataset.
    Raises:
        ValueError: If it is a link to another file, or leads to one.
    """
    h5py = import_h5py()
    links, key = group.id.links, name.encode("utf-8", "surrogateescape")
    # Group.get(getlink=True) would look first whether the other file has it.
    if links.exists(key) and links.get_info(key).type == h5py.h5l.TYPE_EXTERNAL:
        raise SchemaError(f"{where!r} is a link to another file, {_text(links.get_val(key)[0])!r}")
    member = group[name]
    if member.file.filename != group.file.filename:  # a link within the file to such a link
        raise SchemaError(f"{where!r} leads to another file, {_text(member.file.filename)!r}")
    return member


def _text(name: bytes | str) -> str:
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else name


def check_array(group: Any, name: str, where: str) -> None:
    """Check that a key is an array of numbers that lies in this file, complete.

    Missing parts of an HDF5 array read as zeros, without an error. And a type that HDF5 can
    express but no program writes, such as a float with another exponent, is what a damaged header
    looks like: reading it would give other numbers. Both are refused.

    Args:
        group: h5py's group or file.
        name: Key in it.
        where: Its name, for messages.
    Raises:
        ValueError: Naming the key and what is wrong with it.
    """
    h5py = import_h5py()
    dataset = get_member(group, name, where)
    if not isinstance(dataset, h5py.Dataset):
        raise SchemaError(f"{where!r} is no array")
    if dataset.external or dataset.is_virtual:
        raise SchemaError(f"{where!r} keeps its values in other files")
    if dataset.shape is None or dataset.dtype.kind not in "fiub":
        raise SchemaError(f"{where!r} holds {dataset.dtype}, not numbers")
    usual = h5py.h5t.py_create(dataset.dtype, logical=True)
    if dataset.dtype.byteorder == ">" or not dataset.id.get_type().equal(usual):
        raise ValueError(f"{where!r} holds numbers of no usual type (about {dataset.dtype.str})")
    _check_extent(dataset, where)


def _check_extent(dataset: Any, where: str) -> None:
    if dataset.chunks is None:
        stored, expected, unit = dataset.id.get_storage_size(), dataset.nbytes, "bytes"
    else:
        stored, unit = dataset.id.get_num_chunks(), "blocks"
        expected = math.prod(
            math.ceil(size / chunk)
            for size, chunk in zip(dataset.shape, dataset.chunks, strict=True)
        )
    if stored != expected:
        raise ValueError(
            f"{where!r} of shape {dataset.shape} should take {expected} {unit}, but has {stored}"
        )
