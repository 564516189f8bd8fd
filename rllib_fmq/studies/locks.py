"""One process at a time."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def locked(folder: Path, what: str) -> Iterator[None]:
    """Hold a folder's lock; it ends with the process, however that ends.

    Args:
        folder: It is made if need be; its file ``.lock`` is what is locked.
        what: Of the error, such as "study 'x'".
    Raises:
        ValueError: If another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(
                f"{what} is being run by another process in {folder}: wait for it, or end it; "
                "trials of a driver that was killed may take a while to end."
            ) from error
        yield
