"""The online rows of a run's checkpoints: each row is written once, not once a checkpoint."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict
from itertools import takewhile
from typing import Any

import pyarrow.fs as pafs

from rllib_fmq.checkpointing.segments import (
    Segment,
    is_segment_file,
    read_segment,
    read_segment_file,
    write_segment,
)
from rllib_fmq.checkpointing.whole_files import sync
from rllib_fmq.learner.online_rows import ReplayCounts
from rllib_fmq.learner.replay import ReplayTable

logger = logging.getLogger(__name__)

FORMAT_VERSION = 1
SEGMENT_ROWS = 1 << 15
"""Rows of a segment at most. Segments that are full are never written again."""
SMALL_SEGMENTS = 16
"""Segments that are not full, at most."""


class ReplayStore:
    """Segments of one run's online rows in a folder.

    A checkpoint's index names the segments that hold its rows; successive checkpoints share
    them. The newest segments are small, as much as came between two checkpoints. Once they hold
    ``SEGMENT_ROWS`` rows together, or are ``SMALL_SEGMENTS``, they are written again as one. So a
    checkpoint writes less than ``SEGMENT_ROWS`` rows besides the new ones, however large the
    replay is, and n rows lie in at most n / SEGMENT_ROWS + SMALL_SEGMENTS + 1 files. A segment of
    which the ring has overwritten all rows is left out of the index; hence less than
    ``SEGMENT_ROWS`` of an index's rows are dead.

    Args:
        filesystem: Any of pyarrow's.
        folder: Path on it, which is made when something is written.
    Source: ours.
    """

    def __init__(self, filesystem: pafs.FileSystem, folder: str) -> None:
        self._filesystem = filesystem
        self._folder = folder.rstrip("/")

    def write(self, table: ReplayTable, known: Mapping[str, Any] | None) -> dict[str, Any]:
        """Write the online rows that no segment holds yet.

        Args:
            table: The replay.
            known: Index that this table's rows were last written under, or restored from; None
                for none. Its segments from the first on that is not in this folder, or of another
                size than it was, are written again.
        Returns:
            Index of all the table's online rows; plain JSON.
        Raises:
            OSError: If a file cannot be written: then none of this call is left, and what
                ``known`` names is untouched.
            ValueError: If ``known`` is no index, or a newer version's.
        """
        self._make_folder()
        kept = _worth_keeping(self._still_here(table, known), table.num_online)
        first = max(kept[-1].last if kept else 0, table.online_numbers.start)
        written: list[Segment] = []
        try:
            for rows in table.online_parts(first, SEGMENT_ROWS):
                written.append(write_segment(self._filesystem, self._folder, rows))
            if written:
                sync(self._filesystem, self._folder)
        except BaseException:
            for segment in written:  # on a full disk they would be in the next one's way
                with suppress(OSError):
                    self._filesystem.delete_file(f"{self._folder}/{segment.name}")
            raise
        return {
            "format_version": FORMAT_VERSION,
            **asdict(table.counts),
            "segments": [asdict(segment) for segment in (*kept, *written)],
        }

    def read(self, table: ReplayTable, index: Mapping[str, Any]) -> None:
        """Fill a replay with saved online rows.

        Args:
            table: With nothing but its offline rows. After an error it cannot be used.
            index: From ``write``.
        Raises:
            FileNotFoundError: If a segment is missing.
            ValueError: If the index or a segment is damaged, or does not fit the table.
        """
        counts, segments = _parse(index)
        sizes = (table.obs.shape[1], table.actions.shape[1])
        table.restore(
            counts,
            (read_segment(self._filesystem, self._folder, part, *sizes) for part in segments),
        )

    def check(self, index: Mapping[str, Any]) -> None:
        """Compare all segments with their checksums; nothing is changed.

        Args:
            index: From ``write``.
        Raises:
            FileNotFoundError: If a segment is missing.
            ValueError: If the index or a segment is damaged.
        """
        for segment in _parse(index)[1]:
            read_segment_file(self._filesystem, self._folder, segment)

    def remove_unused(self, used: Iterable[Mapping[str, Any]]) -> list[str]:
        """Delete the segments that no index names, and left-over temporary files.

        Args:
            used: All indexes that are still needed, of whatever version.
        Returns:
            Names of the deleted files.
        Raises:
            OSError: If one cannot be deleted.
        """
        needed = {segment["name"] for index in used for segment in index["segments"]}
        files = filter(is_segment_file, self._files())
        unused = sorted(name for name in files if name not in needed)
        for name in unused:
            self._filesystem.delete_file(f"{self._folder}/{name}")
        return unused

    def _make_folder(self) -> None:
        if self._filesystem.get_file_info(self._folder).type == pafs.FileType.NotFound:
            self._filesystem.create_dir(self._folder, recursive=True)
            sync(self._filesystem, self._folder.rpartition("/")[0])

    def _files(self) -> dict[str, int]:
        """Sizes of the folder's files by their names."""
        selector = pafs.FileSelector(self._folder, allow_not_found=True)
        infos = self._filesystem.get_file_info(selector)
        return {info.base_name: info.size for info in infos if info.type == pafs.FileType.File}

    def _still_here(self, table: ReplayTable, known: Mapping[str, Any] | None) -> list[Segment]:
        """The known segments that hold rows of the table, up to the first that is not here."""
        if known is None:
            return []
        counts, segments = _parse(known)
        if counts.num_offline != table.num_offline or counts.num_added > table.num_added:
            return []  # of another run, or of a later time than the table
        oldest = table.online_numbers.start
        files = self._files()
        held = [segment for segment in segments if segment.last > oldest]
        here = list(takewhile(lambda segment: files.get(segment.name) == segment.bytes, held))
        if len(here) < len(held):
            logger.warning(
                "%s/%s, which earlier checkpoints need, is missing or cut: its rows and all later "
                "ones are written anew; those checkpoints cannot be resumed.",
                self._folder,
                held[len(here)].name,
            )
        return here


def _worth_keeping(segments: list[Segment], num_online: int) -> list[Segment]:
    """Those that are not written again: all, or only the full ones."""
    full = list(takewhile(lambda segment: len(segment) >= SEGMENT_ROWS, segments))
    small = segments[len(full) :]
    if small and (len(small) >= SMALL_SEGMENTS or num_online - small[0].first >= SEGMENT_ROWS):
        return full
    return segments


def _parse(index: Mapping[str, Any]) -> tuple[ReplayCounts, list[Segment]]:
    """Read an index, which may be any JSON.

    Raises:
        ValueError: If it is not one that ``ReplayStore.write`` returned.
    """
    try:
        version = int(index["format_version"])
        if version <= FORMAT_VERSION:
            counts = ReplayCounts(
                **{name: int(index[name]) for name in ("num_offline", "num_added")},
                **{name: int(index[name]) for name in ("capacity", "on_disk")},
                open={str(name): int(row) for name, row in index["open"].items()},
            )
            segments = [Segment(**entry) for entry in index["segments"]]
            _check_cover(counts, segments)
            return counts, segments
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(
            f"the checkpoint's index of its replay is damaged ({error!r}): restore another one."
        ) from error
    raise ValueError(
        f"the checkpoint's replay has format {version}, and this version of rllib_fmq reads "
        f"formats up to {FORMAT_VERSION}: upgrade it."
    )


def _check_cover(counts: ReplayCounts, segments: list[Segment]) -> None:
    num_online = counts.num_added - counts.num_offline
    oldest = max(0, num_online - (counts.capacity - counts.on_disk))
    borders = [oldest, *(segment.last for segment in segments)]
    firsts = [segment.first for segment in segments]
    joined = firsts[1:] == borders[1:-1] and all(first <= oldest for first in firsts[:1])
    if not joined or borders[-1] != num_online or not 0 <= oldest <= num_online:
        raise ValueError(f"its segments do not hold the rows {oldest} to {num_online}")
    if any(not 0 <= row < num_online for row in counts.open.values()):
        raise ValueError("an unfinished episode ends with a row that it does not have")
