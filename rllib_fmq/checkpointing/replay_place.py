"""Where the replay's segments of a run's checkpoints lie: in ``replay/`` beside them."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import pyarrow.fs as pafs

from rllib_fmq.checkpointing.folders import is_local, latest_whole

if TYPE_CHECKING:
    from rllib_fmq.checkpointing.replay_store import ReplayStore

logger = logging.getLogger(__name__)

REPLAY_INDEX = "replay_index.json"
REPLAY_FOLDER = "replay"


def address_of(filesystem: pafs.FileSystem, path: str) -> str | None:
    """Address with which any process finds a path; None if it has none.

    A filesystem with settings that an address does not carry (another endpoint than Amazon's,
    keys, a host) has none.

    Args:
        filesystem: Where it is.
        path: The path there.
    """
    if is_local(filesystem):
        return Path(path).as_uri()
    if filesystem.type_name == "s3":
        address = f"s3://{path}?region={filesystem.region}"
    elif filesystem.type_name == "gcs":
        address = f"gs://{path}"
    else:
        return None
    try:
        found, inner = pafs.FileSystem.from_uri(address)
    except (ValueError, OSError):
        return None
    return address if inner == path and found.equals(filesystem) else None


@dataclass(frozen=True)
class ReplayPlace:
    """The folder in which the checkpoints of one run lie, and their segments.

    Args:
        filesystem: Where it is.
        folder: Its path there; segments are in its folder ``replay``.
    """

    filesystem: pafs.FileSystem
    folder: str

    @property
    def segments(self) -> str:
        """Path of the segments' folder."""
        return f"{self.folder}/{REPLAY_FOLDER}"

    @property
    def address(self) -> str | None:
        """Address of the segments' folder, with which any process finds it; None if it has none."""
        return address_of(self.filesystem, self.segments)

    @property
    def local_folder(self) -> Path | None:
        """Where it is on this machine; None elsewhere."""
        return Path(self.folder) if is_local(self.filesystem) else None

    def store(self) -> ReplayStore:
        """What writes and reads the segments."""
        # Not needed to find checkpoints, which the learner does that the store is made for.
        from rllib_fmq.checkpointing.replay_store import ReplayStore

        return ReplayStore(self.filesystem, self.segments)

    def same(self, other: ReplayPlace) -> bool:
        """Whether both are one folder."""
        return self.folder == other.folder and bool(self.filesystem.equals(other.filesystem))

    def missing(self, index: Mapping[str, Any]) -> list[str]:
        """Names of an index's segments that are not here, or not of the size that was written."""
        segments = list(index["segments"])
        infos = self.filesystem.get_file_info([f"{self.segments}/{s['name']}" for s in segments])
        return [
            segment["name"]
            for segment, info in zip(segments, infos, strict=True)
            if info.type != pafs.FileType.File or info.size != segment["bytes"]
        ]

    def remove_unused(self, *indexes: Mapping[str, Any]) -> None:
        """Remove the segments that no checkpoint in this folder needs, nor any of ``indexes``."""
        try:
            self.store().remove_unused([*indexes, *self._indexes()])
        except OSError as error:
            logger.warning("unused replay segments stay in %s: %s", self.segments, error)

    def _indexes(self) -> Iterator[Mapping[str, Any]]:
        selector = pafs.FileSelector(self.folder, allow_not_found=True)
        folders = [
            info.path
            for info in self.filesystem.get_file_info(selector)
            if info.type == pafs.FileType.Directory
        ]
        for info in self.filesystem.get_file_info([f"{path}/{REPLAY_INDEX}" for path in folders]):
            if info.type == pafs.FileType.File:
                with self.filesystem.open_input_stream(info.path) as file:
                    content = file.read()
                # One that was cut off belongs to a checkpoint that nobody can restore.
                with suppress(ValueError, KeyError, TypeError):
                    yield json.loads(content)["index"]


def write_index(path: Path, place: ReplayPlace, index: Mapping[str, Any]) -> None:
    """Write a checkpoint's ``replay_index.json``.

    Args:
        path: Local file.
        place: Where the segments lie.
        index: From ``ReplayStore.write``.
    """
    with open(path, "w", encoding="utf-8") as file:
        json.dump({"address": place.address, "index": index}, file)


def find_place(content: Mapping[str, Any], near: list[ReplayPlace], checkpoint: str) -> ReplayPlace:
    """Find the segments that a checkpoint needs.

    Args:
        content: Of its ``replay_index.json``.
        near: Where to look before the address that it recorded.
        checkpoint: Its path, of the error.
    Returns:
        The first place that has all of them.
    Raises:
        FileNotFoundError: If none has.
    """
    places = [*near, *_recorded(content.get("address"))]
    for place in places:
        with suppress(OSError):
            if not place.missing(content["index"]):
                return place
    looked = ", ".join(dict.fromkeys(place.segments for place in places))
    raise FileNotFoundError(
        f"checkpoint {checkpoint} needs its replay's rows, which are missing or cut in {looked}: "
        "copy the run's folder 'replay' beside the checkpoint. To evaluate the policy, or to start "
        "another run from it (initial_checkpoint), the rows are not needed."
    )


def latest_resumable(filesystem: pafs.FileSystem, folders: list[str]) -> str | None:
    """The checkpoint from which a run can go on: the latest whole one whose replay is there.

    Segments are shared, so that one that is lost takes from several checkpoints. Whether they are
    there and of the right size is looked at, not what is in them.

    Args:
        filesystem: Where they are.
        folders: Checkpoints.
    Returns:
        Its path. Where none has its replay, that of the latest whole one, so that restoring says
        what is missing; None if none is whole.
    """
    left, passed = list(folders), dict[str, str]()
    while (latest := latest_whole(filesystem, left)) is not None:
        reason = _lacks_replay(filesystem, latest)
        if not reason:
            for why in passed.values():
                logger.warning("%s Going on from an earlier one, %s.", why, latest)
            return latest
        passed[latest] = reason
        left.remove(latest)
    return next(iter(passed), None)


def _lacks_replay(filesystem: pafs.FileSystem, checkpoint: str) -> str:
    """Which segments a whole checkpoint lacks, in a sentence; empty if it has all of them."""
    try:
        with filesystem.open_input_stream(f"{checkpoint}/{REPLAY_INDEX}") as file:
            content = json.loads(file.read())
    except FileNotFoundError:
        return ""  # format 1
    place = ReplayPlace(filesystem, str(PurePosixPath(checkpoint).parent))
    try:
        find_place(content, [place], checkpoint)
    except FileNotFoundError:
        missing = place.missing(content["index"])
        return (
            f"checkpoint {checkpoint} cannot be resumed: {len(missing)} of its replay's segments "
            f"are missing or cut, such as {place.segments}/{missing[0]}."
        )
    return ""


def _recorded(address: str | None) -> list[ReplayPlace]:
    if not address:
        return []
    try:
        filesystem, path = pafs.FileSystem.from_uri(address)
    except (ValueError, OSError):
        return []
    return [ReplayPlace(filesystem, str(PurePosixPath(path).parent))]
