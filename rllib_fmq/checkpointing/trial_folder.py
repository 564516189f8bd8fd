"""The checkpoints in the folder of a Tune trial: which is the newest, and which nobody needs."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow.fs as pafs

from rllib_fmq.checkpointing.folders import checkpoint_number, latest_whole
from rllib_fmq.checkpointing.manifest import IncompleteCheckpointError, check_whole
from rllib_fmq.checkpointing.replay_place import latest_resumable

LEFT_OVER = "unknown_to_tune"
"""File in a checkpoint that Tune has no note of, and will therefore never delete."""

logger = logging.getLogger(__name__)


class TrialFolder:
    """The folder of one trial; no other process writes into it.

    Tune takes note of a checkpoint some seconds after it was copied, and deletes only those that
    it knows. What a kill leaves behind would stay for ever, and so would its replay segments.

    Args:
        filesystem: Where it is.
        folder: Its path there.
    """

    def __init__(self, filesystem: pafs.FileSystem, folder: str) -> None:
        self._filesystem = filesystem
        self._folder = folder

    def newest_whole(self) -> str | None:
        """Path of the trial's last checkpoint that is whole; None if there is none."""
        return latest_whole(self._filesystem, list(self._checkpoints().values()))

    def newest_resumable(self) -> str | None:
        """The newest of those whose replay is there too; see ``latest_resumable``."""
        return latest_resumable(self._filesystem, list(self._checkpoints().values()))

    def newest_number(self) -> int:
        """The largest number of a checkpoint, whole or not; -1 if there is none."""
        return max(self._checkpoints(), default=-1)

    def tidy(self, known: int) -> None:
        """Remove what was cut off and mark what Tune does not know, before the trial goes on.

        Args:
            known: Number of the last checkpoint that Tune knows; -1 if it knows none. Folders up
                to this one are emptied rather than removed: Tune stumbles over missing ones.
        """
        with self._unless_it_cannot():
            for number, path in self._checkpoints().items():
                whole = self._is_whole(path)
                if number > known and whole:
                    with self._filesystem.open_output_stream(f"{path}/{LEFT_OVER}"):
                        pass
                elif number > known:
                    self._filesystem.delete_dir(path)
                elif not whole:
                    self._filesystem.delete_dir_contents(path)

    def remove_left_overs(self) -> None:
        """Remove marked checkpoints once Tune has deleted a newer one.

        A trial's checkpoints are numbered without a gap. A number that is missing above a marked
        one therefore says that Tune keeps some of them only, and would have deleted this one by
        now. Where all are kept none is missing, and nothing is removed.
        """
        with self._unless_it_cannot():
            found = self._checkpoints()
            for number, path in found.items():
                newer = [other for other in found if other > number]
                if newer and len(newer) < max(newer) - number and self._is_marked(path):
                    self._filesystem.delete_dir(path)

    def _checkpoints(self) -> dict[int, str]:
        """Paths by number."""
        selector = pafs.FileSelector(self._folder, allow_not_found=True)
        infos = self._filesystem.get_file_info(selector)
        paths = [info.path for info in infos if info.type == pafs.FileType.Directory]
        numbered = {checkpoint_number(path): path for path in paths}
        return {number: path for number, path in numbered.items() if number >= 0}

    def _is_whole(self, path: str) -> bool:
        try:
            check_whole(self._filesystem, path)
        except (FileNotFoundError, IncompleteCheckpointError):
            return False
        except ValueError:  # a newer version's, which may well be whole
            return True
        return True

    def _is_marked(self, path: str) -> bool:
        info = self._filesystem.get_file_info(f"{path}/{LEFT_OVER}")
        return bool(info.type == pafs.FileType.File)

    @contextmanager
    def _unless_it_cannot(self) -> Iterator[None]:
        """Tidying is not worth a failure."""
        try:
            yield
        except OSError as error:
            logger.warning("checkpoints that nobody needs stay in %s: %s", self._folder, error)
