"""Checkpoints of an algorithm that is a trial of Ray Tune: never lost, never mixed, never in part.

Tune copies a folder that the algorithm fills into the trial's storage, and takes a note of it some
seconds later. A kill may come at any time between.
"""

from __future__ import annotations

import copy
import tempfile
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow.fs as pafs
from ray.tune import Checkpoint

from rllib_fmq.algorithms.checkpointed import CheckpointedAlgorithm
from rllib_fmq.checkpointing.folders import checkpoint_number, clear_errors
from rllib_fmq.checkpointing.trial_folder import TrialFolder


class TuneTrial(CheckpointedAlgorithm):
    """What Tune's hooks do with our checkpoints; outside of Tune they are RLlib's."""

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Fill the folder that Tune, or ``save``, gives."""
        place = self._trial_place()
        if place is None:
            super().save_checkpoint(checkpoint_dir)
        else:
            self._save(pafs.LocalFileSystem(), checkpoint_dir, place, None)

    def save(self, checkpoint_dir: str | None = None) -> Any:
        """RLlib's; a checkpoint that Tune could not copy leaves nothing behind."""
        storage, trial = self._storage, self._trial_folder()
        if storage is None or trial is None:
            # Rows lie beside the checkpoint: not in the folder of all temporary files.
            folder = checkpoint_dir or str(
                Path(tempfile.mkdtemp(prefix="rllib-fmq-"), "checkpoint")
            )
            return super().save(folder)
        # Tune counts those that it knows, and would give a number again after a kill.
        newest = max(storage.current_checkpoint_index, trial.newest_number())
        storage.current_checkpoint_index = newest + 1
        target, good = str(storage.checkpoint_fs_path), self.last_checkpoint
        storage.current_checkpoint_index = newest  # Tune adds one itself
        with clear_errors(target):
            try:
                result = super().save(checkpoint_dir)
            except OSError:
                self.last_checkpoint = good
                with suppress(OSError):
                    storage.storage_filesystem.delete_dir(target)
                raise
        trial.remove_left_overs()
        self.last_checkpoint = result.checkpoint.path
        return result

    def has_own_checkpoint(self) -> bool:
        """Whether this trial has a whole checkpoint, from which it then goes on."""
        trial = self._trial_folder()
        return trial is not None and trial.newest_whole() is not None

    def train(self) -> dict[str, Any]:
        """One iteration, of a killed trial from its last checkpoint even if Tune knows none."""
        trial = self._trial_folder()
        if trial is not None and not self._restored and self._iterations_since_restore == 0:
            trial.tidy(known=-1)
            newest = trial.newest_resumable()
            if newest is not None:
                self.restore_from_path(newest, filesystem=self._storage.storage_filesystem)
        result: dict[str, Any] = super().train()
        return result

    def restore(self, checkpoint_path: Any) -> None:
        """RLlib's; where Tune names one of this trial, from the newest that can be resumed.

        Tune may not know the newest one yet, or still know one that it has deleted.
        """
        named = getattr(checkpoint_path, "checkpoint", checkpoint_path)
        trial, place = self._trial_folder(), self._trial_place()
        newest = None
        if trial and place and isinstance(named, Checkpoint):
            own = str(PurePosixPath(named.path).parent) == place.folder
            newest = trial.newest_resumable() if own else None
        if not (trial and place and newest):
            super().restore(checkpoint_path)
            return
        trial.tidy(known=checkpoint_number(named.path))
        target = Checkpoint(newest, filesystem=place.filesystem)
        if named is checkpoint_path:
            super().restore(target)
        else:
            result = copy.copy(checkpoint_path)  # with the metrics that Tune knows
            result.checkpoint = target
            super().restore(result)
        self.last_checkpoint = newest

    def _trial_folder(self) -> TrialFolder | None:
        place = self._trial_place()
        return None if place is None else TrialFolder(place.filesystem, place.folder)
