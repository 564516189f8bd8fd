"""A file that is being downloaded: FILE.part, and beside it what is known of the remote file.

Both stay when a download stops, so that the next one fetches only the rest. An exclusive lock on
FILE.part keeps two processes from writing it at once.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fcntl
import json
import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import BinaryIO


@dataclasses.dataclass(frozen=True)
class RemoteFile:
    """What a server says about a file.

    Args:
        url: Address that was asked for, before redirections.
        size: Bytes; None if it is not told.
        etag: Strong entity tag, with its quotes; None if there is none.
        modified: The Last-Modified header; None if there is none.
        sha256: SHA-256 as Hugging Face tells it; None elsewhere.
    """

    url: str
    size: int | None = None
    etag: str | None = None
    modified: str | None = None
    sha256: str | None = None

    @property
    def recognisable(self) -> bool:
        """Whether it can be told later that the remote file is still the same."""
        return any((self.sha256, self.etag, self.modified))

    def same_as(self, other: RemoteFile) -> bool:
        """Whether two answers do not contradict each other.

        Args:
            other: Answer of another time. What only one of them tells is not compared, and entity
                tags are not where SHA-256s agree: servers of one network may make them differently.
        """
        if self.sha256 and other.sha256:
            return self.sha256 == other.sha256
        pairs = zip(dataclasses.astuple(self)[1:4], dataclasses.astuple(other)[1:4], strict=True)
        return all(mine == theirs for mine, theirs in pairs if mine and theirs)


class PartialFile:
    """FILE.part, locked while in use as a context manager.

    Args:
        target: The file that it becomes.
        on_wait: Called once if another process holds the lock, before waiting for it.
    Raises:
        OSError: If it cannot be written: the folder is protected, or the disk is full.
    """

    def __init__(self, target: Path, on_wait: Callable[[], None] = lambda: None) -> None:
        self.target = target
        self.path = target.with_name(f"{target.name}.part")
        self._notes = target.with_name(f"{target.name}.part.json")
        self._on_wait = on_wait
        self._file: BinaryIO | None = None
        self._made: list[Path] = []

    def __enter__(self) -> PartialFile:
        folder = self.target.parent
        self._made = [path for path in (folder, *folder.parents) if not path.exists()]
        try:
            self._file = self._open_locked()
        except OSError as error:
            raise self._unwritable(error) from error
        return self

    def _open_locked(self) -> BinaryIO:
        waited = False
        while True:
            self.target.parent.mkdir(parents=True, exist_ok=True)
            file = os.fdopen(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666), "r+b", buffering=0)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not waited:
                    self._on_wait()
                    waited = True
                fcntl.flock(file, fcntl.LOCK_EX)
            except OSError as error:
                if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP):
                    raise  # else a file system without locks: go on without
            # The one before us may have renamed or deleted the file that we waited for.
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file.fileno()), self.path.stat()):
                    return file
            file.close()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._file is not None
        remote = self.remote
        if self._is_ours() and (self.size == 0 or remote is None or not remote.recognisable):
            self.path.unlink(missing_ok=True)
            self._notes.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # not empty
                for path in self._made:
                    path.rmdir()
        self._file.close()

    def _is_ours(self) -> bool:
        with contextlib.suppress(FileNotFoundError):
            return os.path.samestat(os.fstat(self._handle.fileno()), self.path.stat())
        return False

    @property
    def _handle(self) -> BinaryIO:
        assert self._file is not None, "use it as a context manager"
        return self._file

    @property
    def size(self) -> int:
        """Bytes that are there."""
        return os.fstat(self._handle.fileno()).st_size

    @property
    def remote(self) -> RemoteFile | None:
        """What the server said that the bytes are from; None if that is not known."""
        try:
            notes = json.loads(self._notes.read_text(encoding="utf-8"))
            return RemoteFile(**notes)
        except (OSError, ValueError, TypeError):
            return None

    def start(self, remote: RemoteFile, offset: int) -> None:
        """Prepare for bytes from `offset` on.

        Args:
            remote: What the server says.
            offset: Bytes to keep, at most `size`.
        """
        try:
            self._handle.truncate(offset)
            self._handle.seek(offset)
            notes = json.dumps(dataclasses.asdict(remote), indent=1)
            self._notes.write_text(f"{notes}\n", encoding="utf-8")
        except OSError as error:
            raise self._unwritable(error) from error

    def write(self, data: bytes) -> None:
        """Append bytes.

        Args:
            data: What came.
        Raises:
            OSError: If the disk is full, say.
        """
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[self._handle.write(rest) :]
        except OSError as error:
            raise self._unwritable(error) from error

    def finish(self) -> None:
        """Give the file its name; it replaces one of that name."""
        try:
            os.fsync(self._handle.fileno())
            os.replace(self.path, self.target)
        except OSError as error:
            raise self._unwritable(error) from error
        self._notes.unlink(missing_ok=True)

    def clear(self) -> None:
        """Throw away what was downloaded."""
        self._notes.unlink(missing_ok=True)
        self._handle.truncate(0)

    def _unwritable(self, error: OSError) -> OSError:
        reason = error.strerror or str(error)
        advice = "choose another folder with --data-dir or $RLLIB_FMQ_DATA_DIR"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            advice = f"make room, or {advice}; what has come is kept, and the rest is fetched later"
        return type(error)(f"cannot write {self.path}: {reason}; {advice}")
