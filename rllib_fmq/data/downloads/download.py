"""Download the official file of a task's dataset, from the first mirror that delivers it."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import requests
from rich.console import Console
from rich.filesize import decimal
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from rllib_fmq.atomic import replacing
from rllib_fmq.data.downloads.integrity import check_dataset, sha256_of, state_of
from rllib_fmq.data.downloads.locate import data_dirs, dataset_task, ways_to_get
from rllib_fmq.data.downloads.mirrors import addresses, data_files
from rllib_fmq.data.downloads.partial import PartialFile
from rllib_fmq.data.downloads.transfer import MirrorError, Watcher, transfer
from rllib_fmq.tasks.catalog import Task

OFFLINE_VARIABLE = "RLLIB_FMQ_OFFLINE"


class UndeliveredError(Exception):
    """No mirror delivered a file; the message says why."""


def download(
    task_or_dataset: str,
    *,
    data_dir: str | Path | None = None,
    mirrors: Sequence[str] | None = None,
    sha256: str | None = None,
    overwrite: bool = False,
    progress: bool = True,
    offline: bool | None = None,
) -> Path:
    """Download a task's dataset: OGBench's NAME.npz and NAME-val.npz, or RoboMimic's HDF5 file.

    A file appears under its name when it is complete and its SHA-256 (from the user, or as
    Hugging Face announces it) or else its size and its contents were checked; FILE.sha256 is
    written beside it. What has come of a file whose download stops is kept as FILE.part, and the
    next download goes on there. Mirrors are tried in turn.

    Args:
        task_or_dataset: Task, or name of an OGBench dataset, such as "cube-dbl-t3", "can" or
            "cube-double-play-v0".
        data_dir: Folder to put `Task.dataset_file` in; None is $RLLIB_FMQ_DATA_DIR or else
            ~/.ogbench/data.
        mirrors: Base addresses to use in place of $RLLIB_FMQ_MIRRORS and of the built-in ones.
        sha256: SHA-256 that the (training) file must have, 64 hexadecimal digits.
        overwrite: Replace files that are there; otherwise they are kept.
        progress: Show a progress bar, and say what happens, on standard error.
        offline: Fail at once if a file is missing; None is what $RLLIB_FMQ_OFFLINE says.
    Returns:
        The (training) file.
    Raises:
        ValueError: If there is no such dataset, an argument is malformed, or a file that is there
            is damaged or has another SHA-256.
        FileExistsError: If a file is there that was generated here.
        FileNotFoundError: If a file cannot be had, with what each mirror said and other ways.
        OSError: If a file cannot be written.
    """
    task = dataset_task(task_or_dataset)
    folder = data_dirs(data_dir)[0]
    if sha256 is not None:
        sha256 = _checked_sha256(sha256)
    done: list[Path] = []
    for file in data_files(task):
        try:
            path = fetch_file(
                task,
                file,
                folder,
                mirrors=mirrors,
                sha256=None if done else sha256,
                overwrite=overwrite,
                progress=progress,
                offline=offline,
            )
        except UndeliveredError as error:
            if done:
                raise FileNotFoundError(
                    f"{done[0]} is complete, but its validation part {folder / file}, which only "
                    f"OGBench's own loader needs, is not there: {error}"
                ) from error
            raise FileNotFoundError(
                f"no dataset {file} in {folder}: {error}. {ways_to_get(task, folder)}"
            ) from error
        done.append(path)
    return done[0]


def fetch_file(
    task: Task,
    file: str,
    folder: Path,
    *,
    mirrors: Sequence[str] | None = None,
    sha256: str | None = None,
    overwrite: bool = False,
    progress: bool = True,
    offline: bool | None = None,
) -> Path:
    """Download one file of a dataset, unless it is there.

    Args:
        task: Record of a task on the dataset.
        file: One of `data_files(task)`.
        folder: Data folder.
        mirrors: As for `download`, and so are the following.
        sha256: SHA-256 that this file must have.
        overwrite: Replace it if it is there.
        progress: Show a progress bar and remarks.
        offline: Fail at once if it is not there.
    Returns:
        `folder / file`.
    Raises:
        UndeliveredError: If no mirror delivers it, or downloading is switched off.
        ValueError, FileExistsError, OSError: As for `download`.
    """
    target = folder / file
    urls = addresses(task, file, mirrors)
    with contextlib.closing(_Display(target.name, progress)) as display:
        if not overwrite and _is_there(target, sha256):
            display.say(f"{target}: already there")
            return target
        if _is_offline(offline):
            raise UndeliveredError(f"downloading is switched off (${OFFLINE_VARIABLE})")
        with PartialFile(target, on_wait=display.say_waiting) as part:
            if not overwrite and _is_there(target, sha256):  # another process has got it
                display.say(f"{target}: already there")
                return target
            if part.size and part.remote is not None:
                urls.sort(key=part.remote.url.__ne__)  # first the one that the part is from
            try:
                digest = _from_first_mirror(urls, part, sha256, display)
            except KeyboardInterrupt:
                display.say(f"{part.path} is kept: the next download goes on there")
                raise
            part.finish()
            with replacing(target.with_name(f"{target.name}.sha256")) as staged:
                staged.write_text(f"{digest}  {target.name}\n", encoding="utf-8")
            display.say(f"{target}: {decimal(target.stat().st_size)}, SHA-256 {digest}")
    return target


def _is_there(target: Path, sha256: str | None) -> bool:
    state = state_of(target)
    if state == "damaged":
        raise ValueError(f"{target} is there but damaged: delete it, or download with --overwrite")
    if state == "generated":
        raise FileExistsError(
            f"{target} is there, but was generated, not downloaded: --overwrite replaces it by the "
            "official file, --data-dir puts that into another folder"
        )
    if state == "official" and sha256 is not None and sha256_of(target) != sha256:
        raise ValueError(
            f"{target} is there, but its SHA-256 is {sha256_of(target)}, not {sha256}; --overwrite "
            "replaces it"
        )
    return state == "official"


def _from_first_mirror(
    urls: Sequence[str], part: PartialFile, sha256: str | None, display: _Display
) -> str:
    """Fill the part from the first address that delivers; returns its SHA-256."""
    failures: dict[str, str] = {}
    unreachable: dict[str, str] = {}
    with requests.Session() as session:
        for url in urls:
            host = urlsplit(url).netloc
            if host in unreachable:  # one of its addresses was asked already
                continue
            display.say(f"{'going on with' if part.size else 'downloading'} {url}")
            try:
                remote = transfer(session, url, part, sha256=sha256, watcher=display.watcher)
                return _verified(part, sha256 or remote.sha256)
            except MirrorError as error:
                display.say(f"  {error}")
                if error.unreachable:
                    unreachable[host] = str(error)
                else:
                    failures[url] = str(error)
    raise UndeliveredError(_summary(failures, unreachable))


def _verified(part: PartialFile, expected: str | None) -> str:
    """SHA-256 of the part, if it is what it should be; otherwise it is thrown away."""
    digest = sha256_of(part.path)
    try:
        if expected is not None and digest != expected:
            raise ValueError(f"what came has SHA-256 {digest}, not {expected}")
        check_dataset(part.path, kind=part.target.suffix, contents=expected is None)
    except ValueError as error:
        part.clear()
        raise MirrorError(str(error)) from error
    return digest


def _summary(failures: Mapping[str, str], unreachable: Mapping[str, str]) -> str:
    by_reason: dict[str, list[str]] = {}
    named = {f"from {host}": reason for host, reason in unreachable.items()}
    for name, reason in {**failures, **named}.items():
        by_reason.setdefault(reason, []).append(name)
    parts = [
        f"downloading {' and '.join(names)} failed: {reason}" for reason, names in by_reason.items()
    ]
    return "; ".join(parts) + ("" if failures else " (is this machine offline?)")


def _is_offline(offline: bool | None) -> bool:
    if offline is not None:
        return offline
    return os.environ.get(OFFLINE_VARIABLE, "").strip().lower() not in ("", "0", "false", "no")


def _checked_sha256(text: str) -> str:
    digits = text.strip().lower()
    if not re.fullmatch(r"[0-9a-f]{64}", digits):
        raise ValueError(f"a SHA-256 has 64 hexadecimal digits, got {text!r}")
    return digits


class _Display:
    """Remarks on standard error, and on a terminal a progress bar; or nothing.

    Args:
        name: File to name in front of the bar.
        visible: Whether to show anything.
    """

    def __init__(self, name: str, visible: bool) -> None:
        self._name = name
        self._visible = visible
        self._console = Console(stderr=True)
        self._bar: Progress | None = None
        self._shown = TaskID(0)
        self.watcher = Watcher(self._start, self._advance)

    def say(self, remark: str) -> None:
        if self._visible:
            self._console.print(remark, markup=False, highlight=False, soft_wrap=True)

    def say_waiting(self) -> None:
        self.say(f"{self._name}: another process downloads it; waiting")

    def close(self) -> None:
        if self._bar is not None:
            self._bar.stop()

    def _start(self, done: int, total: int | None) -> None:
        if not (self._visible and self._console.is_terminal):
            return
        if self._bar is None:
            self._bar = Progress(
                TextColumn("[bold]{task.description}"),
                BarColumn(bar_width=10),  # all of it fits into 100 columns
                DownloadColumn(),
                TransferSpeedColumn(),
                TimeRemainingColumn(),
                console=self._console,
            )
            self._bar.start()
            self._shown = self._bar.add_task(self._name, total=total)
        self._bar.reset(self._shown, total=total, completed=done)

    def _advance(self, count: int) -> None:
        if self._bar is not None:
            self._bar.advance(self._shown, count)
