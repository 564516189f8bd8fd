"""Whether a file is a whole and intact dataset, and whether it was generated here."""

from __future__ import annotations

import hashlib
import lzma
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any, Literal

State = Literal["official", "generated", "missing", "damaged"]

SCRIPTED_FOLDER = "scripted"
"""Folder of the RoboMimic demonstrations that scripts made: robomimic/<task>/scripted/."""

_HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_NPZ_MEMBERS = ("observations", "actions", "terminals")
_CHUNK = 1 << 20
_ZIP_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    OSError,  # a position outside of the file
    ValueError,
    RuntimeError,  # encrypted, or (NotImplementedError) compressed in an unknown way
)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file.

    Args:
        path: File.
    Returns:
        64 hexadecimal digits.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def check_dataset(path: Path, *, kind: str, contents: bool) -> None:
    """Check that a file is a dataset in its benchmark's format, and not cut short.

    Args:
        path: File.
        kind: ".npz" (OGBench) or ".hdf5" (RoboMimic); the name of a partial file does not tell.
        contents: Read everything: the checksums of an npz's members, all arrays of an HDF5 file.
            Otherwise only what a truncated or foreign file lacks.
    Raises:
        ValueError: What is wrong with it, without its name.
    """
    if kind == ".npz":
        _check_npz(path, contents)
    else:
        _check_hdf5(path, contents)


def _check_npz(path: Path, contents: bool) -> None:
    if not zipfile.is_zipfile(path):
        raise ValueError(f"no npz archive, or a truncated one ({_beginning(path)})")
    try:
        with zipfile.ZipFile(path) as archive:
            members = _members(archive)
            damaged = archive.testzip() if contents else None
    except _ZIP_DAMAGE as error:
        raise ValueError(f"damaged ({' '.join(str(error).split())})") from error
    if damaged is not None:
        raise ValueError(f"damaged: its member {damaged!r} does not have the stored checksum")
    lacking = [name for name in _NPZ_MEMBERS if name not in members]
    if lacking:
        raise ValueError(f"no OGBench dataset: it lacks {', '.join(map(repr, lacking))}")


def _members(archive: zipfile.ZipFile) -> set[str]:
    return {name.removesuffix(".npy") for name in archive.namelist()}


def _check_hdf5(path: Path, contents: bool) -> None:
    with path.open("rb") as file:
        signature = file.read(len(_HDF5_SIGNATURE))
    if signature != _HDF5_SIGNATURE:
        raise ValueError(f"no HDF5 file ({_beginning(path)})")
    try:
        import h5py
    except ModuleNotFoundError:
        return  # whoever reads the file needs h5py, and checks it then
    try:
        with h5py.File(path, "r", locking=False) as file:
            data = file.get("data")
            if not isinstance(data, h5py.Group) or "env_args" not in data.attrs or not len(data):
                raise ValueError("no RoboMimic dataset: it lacks the demonstrations in 'data'")
            if contents:
                data.visititems(_read_fully)
    except (OSError, RuntimeError, KeyError) as error:
        raise ValueError(f"damaged or truncated ({' '.join(str(error).split())})") from error


def _read_fully(name: str, item: Any) -> None:
    if hasattr(item, "shape"):
        item[()]


def _beginning(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(16)
    return f"it begins with {start!r}" if start else "it is empty"


def state_of(path: Path) -> State:
    """What a file is, told from its header and its place.

    Args:
        path: Where a dataset would be.
    Returns:
        "official": a dataset that does not say it was generated; "generated"; "damaged": one that
        does not open; or "missing".
    """
    if not path.is_file():
        return "missing"
    try:
        check_dataset(path, kind=path.suffix, contents=False)
    except (ValueError, OSError):
        return "damaged"
    return "generated" if is_generated(path) else "official"


def is_generated(path: Path) -> bool:
    """Whether `rllib data generate` made a file.

    Args:
        path: Any dataset that opens.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            return "generator" in _members(archive)
    if path.parent.name == SCRIPTED_FOLDER:
        return True
    import h5py

    if not h5py.is_hdf5(path):
        return False
    with h5py.File(path, "r", locking=False) as file:
        return "data" in file and "generator" in file["data"].attrs
