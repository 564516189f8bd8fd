"""Files that appear under their name when they are complete, or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def sync(path: Path) -> None:
    """Have a file's content, or a folder's names, on the disk before anything else happens.

    Args:
        path: File or folder.
    """
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Write a file under a temporary name in its folder, then rename it.

    Args:
        path: File to write; its folder is made if need be, and the temporary name has the same
            extension.
    Yields:
        The temporary path to write to. If the block raises, nothing is left of it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}.", suffix=path.suffix)
    os.close(handle)
    try:
        yield Path(name)
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(name, 0o666 & ~mask)  # mkstemp's files are private
        sync(Path(name))
        os.replace(name, path)
        sync(path.parent)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(name)
