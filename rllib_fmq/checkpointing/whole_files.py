"""Single files that appear under their name when they are complete, on any filesystem."""

from __future__ import annotations

import os
from contextlib import suppress

import pyarrow.fs as pafs

_OBJECT_STORES = ("s3", "gcs", "abfs")
"""There an upload appears when it is complete, and a move is a copy."""


def write_whole(filesystem: pafs.FileSystem, path: str, data: bytes, temporary: str) -> None:
    """Write a file that is there completely or not at all.

    Args:
        filesystem: Where to.
        path: The file; its folder exists.
        data: Its content.
        temporary: Path in the same folder under which it is written first, where files are
            visible while they are written.
    Raises:
        OSError: If it cannot be written; nothing is left of it then.
    """
    if _base(filesystem).type_name in _OBJECT_STORES:
        with filesystem.open_output_stream(path) as file:
            file.write(data)
        return
    try:
        with filesystem.open_output_stream(temporary) as file:
            file.write(data)
        sync(filesystem, temporary)
        filesystem.move(temporary, path)
    except BaseException:
        with suppress(OSError):
            filesystem.delete_file(temporary)
        raise


def sync(filesystem: pafs.FileSystem, path: str) -> None:
    """Bring a file, or a folder's names, to the disk, where the filesystem is this machine's."""
    local = _local_path(filesystem, path)
    if local is None:
        return
    handle = os.open(local, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _base(filesystem: pafs.FileSystem) -> pafs.FileSystem:
    while isinstance(filesystem, pafs.SubTreeFileSystem):
        filesystem = filesystem.base_fs
    return filesystem


def _local_path(filesystem: pafs.FileSystem, path: str) -> str | None:
    while isinstance(filesystem, pafs.SubTreeFileSystem):
        filesystem, path = filesystem.base_fs, os.path.join(filesystem.base_path, path.lstrip("/"))
    return path if isinstance(filesystem, pafs.LocalFileSystem) else None
