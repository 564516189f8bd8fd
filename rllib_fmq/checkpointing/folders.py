"""A checkpoint's folder appears under its name when it is complete, or not at all."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import re
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow.fs as pafs

from rllib_fmq.checkpointing.manifest import (
    MANIFEST,
    RLLIB_METADATA,
    IncompleteCheckpointError,
    Manifest,
    NewerFormatError,
    check_whole,
    read_manifest,
    write_manifest,
)
from rllib_fmq.errors import root_cause

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_NUMBERED = re.compile(r"checkpoint_(\d{6,})")
"""Tune's names."""


def resolve(
    path: str | Path, filesystem: pafs.FileSystem | None = None
) -> tuple[pafs.FileSystem, str]:
    """Where a path or address leads.

    Args:
        path: A path, or an address such as ``s3://bucket/run/checkpoint``.
        filesystem: Where ``path`` is; None: told by the path.
    Returns:
        The filesystem, and the folder's path on it without a slash at the end.
    """
    text = str(path)
    if filesystem is not None:
        return filesystem, text.rstrip("/")
    if "://" in text:
        found, inner = pafs.FileSystem.from_uri(text)
        return found, inner.rstrip("/")
    return pafs.LocalFileSystem(), str(Path(text).expanduser().resolve())


def is_local(filesystem: pafs.FileSystem) -> bool:
    """Whether folders there can be renamed and synced by the operating system."""
    return isinstance(filesystem, pafs.LocalFileSystem)


@contextmanager
def new_checkpoint(
    filesystem: pafs.FileSystem, folder: str, notes: Mapping[str, Any]
) -> Iterator[Path]:
    """Fill a local folder that becomes the checkpoint when the block ends well.

    On this machine it is written beside its place, synced, and renamed; an existing checkpoint
    is exchanged for it. Elsewhere the files are copied, the manifest last; while an existing
    checkpoint is overwritten a whole copy lies beside it, which ``whole_folder`` finds.

    Args:
        filesystem: Where the checkpoint is to be.
        folder: Its path there. A checkpoint that is there is replaced, with all that was put
            into its folder since.
        notes: Go into the manifest.
    Yields:
        The folder to fill.
    Raises:
        ValueError: If there is a file, or a folder with other things.
        OSError: If it cannot be written.
    """
    _check_place(filesystem, folder)
    with ExitStack() as stack:
        if is_local(filesystem):
            target = Path(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            for left_over in target.parent.glob(f".{target.name}.partial-*"):
                shutil.rmtree(left_over, ignore_errors=True)
            staged = Path(tempfile.mkdtemp(prefix=f".{target.name}.partial-", dir=target.parent))
        else:
            staged = Path(tempfile.mkdtemp(prefix="rllib-fmq-checkpoint-"))
        stack.callback(shutil.rmtree, staged, ignore_errors=True)
        yield staged
        manifest = write_manifest(staged, notes)
        if is_local(filesystem):
            _publish_locally(staged, target)
        else:
            _publish_elsewhere(staged, filesystem, folder, manifest)


def whole_folder(filesystem: pafs.FileSystem, folder: str) -> tuple[str, Manifest | None]:
    """Where a checkpoint can be read whole.

    Args:
        filesystem: Where it is.
        folder: Its path there.
    Returns:
        ``folder``, or where a save that replaced it was interrupted, the copy beside it; and the
        manifest, None for a checkpoint of format 1.
    Raises:
        FileNotFoundError: If there is no checkpoint.
        IncompleteCheckpointError: If there is none that is whole.
        ValueError: If a newer version wrote it.
    """
    try:
        return folder, check_whole(filesystem, folder)
    except (FileNotFoundError, IncompleteCheckpointError):
        spare = _spare(folder)
        with suppress(FileNotFoundError, IncompleteCheckpointError):
            return spare, check_whole(filesystem, spare)
        raise


def checkpoint_number(folder: str) -> int:
    """The number that Tune gave to a checkpoint; -1 for a folder with another name."""
    match = _NUMBERED.fullmatch(PurePosixPath(folder).name)
    return int(match[1]) if match else -1


def latest_whole(filesystem: pafs.FileSystem, folders: list[str]) -> str | None:
    """The one of some checkpoints that was saved last and is whole; None if none is.

    Those that lie in one folder are of one trial: their numbers tell which is the last, since a
    clock may be set back. Of several trials, the one whose last checkpoint is the latest is taken.
    """
    trials: dict[PurePosixPath, list[tuple[int, float, str]]] = defaultdict(list)
    for folder in folders:
        with suppress(FileNotFoundError, IncompleteCheckpointError):
            manifest = read_manifest(filesystem, folder)
            saved_at = manifest.saved_at if manifest else _modified(filesystem, folder)
            entry = (checkpoint_number(folder), saved_at, folder)
            trials[PurePosixPath(folder).parent].append(entry)
    left = [sorted(trial) for trial in trials.values()]
    while left:
        latest = max(left, key=lambda trial: trial[-1][1])
        folder = latest.pop()[2]
        with suppress(IncompleteCheckpointError):
            check_whole(filesystem, folder)
            return folder
        left = [trial for trial in left if trial]
    return None


@contextmanager
def readable_locally(
    filesystem: pafs.FileSystem, folder: str, manifest: Manifest | None
) -> Iterator[Path]:
    """A checkpoint as a folder of this machine: RLlib reads others only in part.

    Args:
        filesystem: Where it is.
        folder: Its path there.
        manifest: Lists its files; None for a checkpoint of format 1.
    Yields:
        The folder itself, or a copy of the listed files that goes away again.
    """
    if is_local(filesystem):
        yield Path(folder)
        return
    with tempfile.TemporaryDirectory(prefix="rllib-fmq-checkpoint-") as name:
        for file in [*manifest.files, MANIFEST] if manifest else [""]:
            (Path(name) / file).parent.mkdir(parents=True, exist_ok=True)
            pafs.copy_files(
                f"{folder}/{file}".rstrip("/"),
                str(Path(name) / file),
                source_filesystem=filesystem,
                destination_filesystem=pafs.LocalFileSystem(),
            )
        yield Path(name)


def _check_place(filesystem: pafs.FileSystem, folder: str) -> None:
    info = filesystem.get_file_info(folder)
    if info.type == pafs.FileType.File:
        raise ValueError(f"cannot save a checkpoint to {folder}: it is a file; name a folder.")
    if info.type == pafs.FileType.NotFound:
        return
    content = filesystem.get_file_info(pafs.FileSelector(folder))
    names = {PurePosixPath(entry.path).name for entry in content}
    if names and RLLIB_METADATA not in names and not _has_our_manifest(filesystem, folder):
        raise ValueError(
            f"cannot save a checkpoint to {folder}: the folder holds other things, such as "
            f"{min(names)!r}, which it would replace; name a new folder."
        )


def _has_our_manifest(filesystem: pafs.FileSystem, folder: str) -> bool:
    try:
        return read_manifest(filesystem, folder) is not None
    except NewerFormatError:
        return True
    except (FileNotFoundError, IncompleteCheckpointError):
        return False


@contextmanager
def saving_alone(folder: Path | None) -> Iterator[None]:
    """Wait until no other process saves a checkpoint into a local folder; then hold it.

    Args:
        folder: It is made if need be. None: elsewhere than on this machine, where nothing can be
            held.
    """
    if folder is None:
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # a network filesystem without locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        with suppress(OSError):  # also for processes that were forked meanwhile
            fcntl.flock(handle, fcntl.LOCK_UN)
        os.close(handle)


class UnwritableError(OSError):
    """A checkpoint could not be written; the message says why."""


@contextmanager
def clear_errors(folder: str) -> Iterator[None]:
    """Say in one line why a checkpoint could not be written.

    Args:
        folder: Where it was to be.
    Raises:
        UnwritableError: In place of the system's.
    """
    reasons = {
        errno.ENOSPC: "the disk is full: make room",
        errno.EDQUOT: "your disk quota is used up: make room",
        errno.EFBIG: "files may not be so large there (ulimit -f): raise the limit",
        errno.EROFS: "the disk is read-only: name another folder",
        errno.EACCES: "no permission to write there: name another folder",
        errno.EPERM: "no permission to write there: name another folder",
        errno.ENOTDIR: "a part of the path is a file: name another folder",
        errno.EEXIST: "a part of the path is a file: name another folder",
    }
    try:
        yield
    except UnwritableError:
        raise
    except OSError as error:
        cause = getattr(error, "cause", None) or error  # Ray's, of a remote learner
        reason = reasons.get(getattr(cause, "errno", None) or 0, root_cause(error))
        raise UnwritableError(
            f"cannot save a checkpoint to {folder}: {reason}. Nothing of it was kept; earlier "
            "checkpoints are untouched."
        ) from error


def _publish_locally(staged: Path, target: Path) -> None:
    _sync(staged)
    mask = os.umask(0)
    os.umask(mask)
    os.chmod(staged, 0o777 & ~mask)  # mkdtemp's folders are private
    spare = Path(_spare(str(target)))
    if not target.exists() or not any(target.iterdir()):
        os.replace(staged, target)
    elif not _exchange(staged, target):
        shutil.rmtree(spare, ignore_errors=True)
        os.rename(target, spare)
        os.rename(staged, target)
    _sync_folder(target.parent)
    shutil.rmtree(spare, ignore_errors=True)


def _publish_elsewhere(
    staged: Path, filesystem: pafs.FileSystem, folder: str, manifest: Manifest
) -> None:
    spare = _spare(folder)
    replacing = filesystem.get_file_info(f"{folder}/{MANIFEST}").type == pafs.FileType.File
    if replacing:
        _upload(staged, filesystem, spare, manifest)
        filesystem.delete_file(f"{folder}/{MANIFEST}")
    # What the new manifest does not list would be read along with it.
    filesystem.delete_dir_contents(folder, missing_dir_ok=True)
    try:
        _upload(staged, filesystem, folder, manifest)
    except BaseException:
        if not replacing:
            with suppress(OSError):
                filesystem.delete_dir(folder)
        raise
    if filesystem.get_file_info(spare).type != pafs.FileType.NotFound:
        filesystem.delete_dir(spare)


def _upload(staged: Path, filesystem: pafs.FileSystem, folder: str, manifest: Manifest) -> None:
    # RLlib's metadata first, by which the next save knows a part of a checkpoint as ours.
    names = sorted(manifest.files, key=lambda name: name != RLLIB_METADATA)
    for name in [*names, MANIFEST]:
        path = f"{folder}/{name}"
        filesystem.create_dir(str(PurePosixPath(path).parent), recursive=True)
        with (
            open(staged / name, "rb") as source,
            filesystem.open_output_stream(path) as target,
        ):
            shutil.copyfileobj(source, target, 1 << 20)


def _exchange(one: Path, other: Path) -> bool:
    """Let two folders change names in one step; False where the system cannot."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    done: int = rename(_AT_FDCWD, bytes(one), _AT_FDCWD, bytes(other), _RENAME_EXCHANGE)
    return done == 0


def _sync(folder: Path) -> None:
    for path in [*folder.rglob("*"), folder]:
        _sync_folder(path)


def _sync_folder(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _spare(folder: str) -> str:
    path = PurePosixPath(folder)
    return str(path.parent / f".{path.name}.spare")


def _modified(filesystem: pafs.FileSystem, folder: str) -> float:
    info = filesystem.get_file_info(f"{folder}/learner_group")
    return float(info.mtime.timestamp()) if info.mtime else 0.0
