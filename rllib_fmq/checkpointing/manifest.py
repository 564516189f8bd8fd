"""The list of a checkpoint's files, written last: where it fits, the checkpoint is whole."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

import pyarrow.fs as pafs

from rllib_fmq._version import __version__

MANIFEST = "manifest.json"
RLLIB_METADATA = "rllib_checkpoint.json"
FORMAT_KEY = "rllib_fmq_format"
"""In RLlib's metadata, so that a checkpoint without its manifest is not taken for an old one."""
FORMAT_VERSION = 2
"""1: no manifest, and the replay's rows inside the learner's state."""


@dataclass(frozen=True)
class Manifest:
    """What a whole checkpoint holds.

    Attributes:
        format_version: ``FORMAT_VERSION`` of the code that wrote it.
        package_version: Version of this package that wrote it.
        saved_at: Seconds since 1970.
        files: Of each file, by its path in the checkpoint: ``[bytes, sha256]``.
        notes: What the caller of the save wanted to keep with it; plain JSON.
    """

    format_version: int
    package_version: str
    saved_at: float
    files: Mapping[str, tuple[int, str]]
    notes: Mapping[str, Any]


class IncompleteCheckpointError(ValueError):
    """A folder looks like a checkpoint, but its manifest or a file is missing, cut or changed."""


class NewerFormatError(ValueError):
    """A newer version of this package wrote the checkpoint."""


def write_manifest(folder: Path, notes: Mapping[str, Any]) -> Manifest:
    """List the files of a local folder in its manifest.

    Args:
        folder: With everything else of the checkpoint in it.
        notes: See ``Manifest``.
    Returns:
        What was written.
    """
    files = {
        path.relative_to(folder).as_posix(): _local_entry(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path != folder / MANIFEST
    }
    manifest = Manifest(FORMAT_VERSION, __version__, time.time(), files, dict(notes))
    (folder / MANIFEST).write_text(json.dumps(asdict(manifest), indent=1), encoding="utf-8")
    return manifest


def read_manifest(filesystem: pafs.FileSystem, folder: str) -> Manifest | None:
    """Read a checkpoint's manifest; the files that it lists are not looked at.

    Args:
        filesystem: Where the checkpoint is.
        folder: Its path there.
    Returns:
        The manifest; None for a checkpoint of format 1, which has none.
    Raises:
        FileNotFoundError: If the folder holds no checkpoint.
        IncompleteCheckpointError: If the manifest is missing or damaged.
        ValueError: If a newer version wrote it.
    """
    text = _read(filesystem, f"{folder}/{MANIFEST}")
    if text is None:
        if _is_format_1(filesystem, folder):
            return None
        if not _exists(filesystem, f"{folder}/learner_group"):
            raise FileNotFoundError(f"no checkpoint in {folder}.")
        raise _incomplete(folder, f"it has no {MANIFEST}")
    try:
        content = json.loads(text)
        version = int(content["format_version"])
        if version > FORMAT_VERSION:
            raise NewerFormatError(
                f"checkpoint {folder} has format {version}, made by version "
                f"{content.get('package_version')}: this version ({__version__}) reads up to "
                f"{FORMAT_VERSION}; upgrade rllib-fmq."
            )
        files = {
            _inside(name): (int(n), str(digest)) for name, (n, digest) in content["files"].items()
        }
        saved_at, notes = float(content["saved_at"]), dict(content["notes"])
        return Manifest(version, str(content["package_version"]), saved_at, files, notes)
    except NewerFormatError:
        raise
    except (
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        OverflowError,
        RecursionError,
    ) as error:
        reason = " ".join(str(error).split())
        raise _incomplete(folder, f"its {MANIFEST} is damaged ({reason})") from error


def check_whole(filesystem: pafs.FileSystem, folder: str) -> Manifest | None:
    """Read a checkpoint's manifest and compare every file that it lists.

    Args:
        filesystem: Where the checkpoint is.
        folder: Its path there.
    Returns:
        The manifest; None for a checkpoint of format 1, of which nothing can be compared.
    Raises:
        FileNotFoundError: If the folder holds no checkpoint.
        IncompleteCheckpointError: If a file is missing, or is not the one that was written.
        ValueError: If a newer version wrote it.
    """
    manifest = read_manifest(filesystem, folder)
    if manifest is None:
        return None
    for name, (size, digest) in manifest.files.items():
        path = f"{folder}/{name}"
        info = filesystem.get_file_info(path)
        if info.type != pafs.FileType.File:
            raise _incomplete(folder, f"{name} is missing")
        if info.size != size:
            raise _incomplete(folder, f"{name} has {info.size} bytes, not {size}")
        with filesystem.open_input_stream(path) as file:
            if _digest(file) != digest:
                raise _incomplete(folder, f"{name} is not the one that was saved")
    return manifest


def _inside(name: str) -> str:
    """A file's path, which may not lead out of the checkpoint."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise ValueError(f"it lists {name!r}")
    return name


def _is_format_1(filesystem: pafs.FileSystem, folder: str) -> bool:
    text = _read(filesystem, f"{folder}/{RLLIB_METADATA}")
    if text is None or not _exists(filesystem, f"{folder}/learner_group"):
        return False
    try:
        return FORMAT_KEY not in json.loads(text)
    except ValueError:
        return False


def _incomplete(folder: str, reason: str) -> IncompleteCheckpointError:
    return IncompleteCheckpointError(
        f"checkpoint {folder} is incomplete: {reason}. Its save or copy was interrupted, or it was "
        "changed since: use an earlier one."
    )


def _local_entry(path: Path) -> tuple[int, str]:
    with open(path, "rb") as file:
        return path.stat().st_size, _digest(file)


def _digest(file: IO[bytes] | Any) -> str:
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


def _read(filesystem: pafs.FileSystem, path: str) -> bytes | None:
    if filesystem.get_file_info(path).type != pafs.FileType.File:
        return None
    with filesystem.open_input_stream(path) as file:
        content: bytes = file.read()
    return content


def _exists(filesystem: pafs.FileSystem, path: str) -> bool:
    return bool(filesystem.get_file_info(path).type != pafs.FileType.NotFound)
