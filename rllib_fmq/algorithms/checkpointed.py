"""An algorithm whose checkpoints hold everything, and are whole or not there."""

from __future__ import annotations

import json
import logging
import pickle
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pyarrow.fs as pafs
import torch
from ray.rllib.algorithms.algorithm import Algorithm

from rllib_fmq.checkpointing.folders import (
    clear_errors,
    new_checkpoint,
    readable_locally,
    resolve,
    saving_alone,
    whole_folder,
)
from rllib_fmq.checkpointing.manifest import FORMAT_KEY, FORMAT_VERSION
from rllib_fmq.checkpointing.plain_pickle import ForeignPickleError, load_plain, load_plain_file
from rllib_fmq.checkpointing.policy_file import write_policy_file
from rllib_fmq.checkpointing.replay_place import (
    REPLAY_FOLDER,
    REPLAY_INDEX,
    ReplayPlace,
    find_place,
    write_index,
)
from rllib_fmq.checkpointing.trust import GIVE, GROUP, TrustNeededError, check_plain_states
from rllib_fmq.learner.flow_map_learner import LEARNER_STATE
from rllib_fmq.rollout.runner_states import collect_runner_states, restore_runner_states

RESUME_STATE = "resume_state.pkl"
"""Generators of all learners and states of all env-runners; plain data."""

logger = logging.getLogger(__name__)


class CheckpointedAlgorithm(Algorithm):
    """RLlib's checkpoints, completed by replay, generators and env-runners, and made atomic.

    See docs/CHECKPOINTS.md for what they hold and where.
    """

    checkpoint_notes: dict[str, Any]
    """Plain JSON that every checkpoint's manifest carries; restored with it."""
    last_checkpoint: str
    """Path of the last checkpoint that was saved or restored; empty before the first."""

    def setup(self, config: Any) -> None:
        """Build runners and learners."""
        self.checkpoint_notes = {}
        self.last_checkpoint = ""
        self._replay_written: tuple[ReplayPlace, dict[str, Any]] | None = None
        super().setup(config)

    def ask_learners(self, ask: Callable[[Any], Any]) -> list[Any]:
        """Call a function on every learner.

        Args:
            ask: Gets the learner.
        Returns:
            What it returned, in the order of the learners.
        Raises:
            Exception: The first one that it raised, which RLlib would swallow.
        """
        answers = []
        for result in self.learner_group.foreach_learner(
            ask, healthy_only=False, mark_healthy=True
        ):
            answer = result.get()
            if not result.ok:
                cause = getattr(answer, "cause", None)
                raise cause if isinstance(cause, Exception) else answer
            answers.append(answer)
        return answers

    def get_metadata(self) -> dict[str, Any]:
        """RLlib's, and the format of our checkpoints."""
        metadata: dict[str, Any] = super().get_metadata()
        return metadata | {FORMAT_KEY: FORMAT_VERSION}

    def save_to_path(
        self,
        path: str | Path | None = None,
        *,
        state: dict[str, Any] | None = None,
        filesystem: pafs.FileSystem | None = None,
        use_msgpack: bool = False,
    ) -> str:
        """Save everything; the replay's rows go into the folder ``replay`` beside ``path``.

        Args:
            path: Folder or address; a checkpoint that is there is replaced. None: a new temporary
                folder.
            state: RLlib's part, from ``get_state``; None: the present one. The rest is always
                the present one.
            filesystem: Where ``path`` is; None: told by the path.
            use_msgpack: Must be False: RLlib's reader of msgpack unpickles parts of it.
        Returns:
            The checkpoint's path on its filesystem.
        Raises:
            ValueError: If ``path`` is a file, a folder with other things or named "replay", or if
                the state is not plain data, which could not be restored.
            OSError: If it could not be written.
            FloatingPointError: If the networks are not finite.
        """
        if use_msgpack:
            raise ValueError(
                "use_msgpack=True: checkpoints of this package hold no msgpack, which RLlib's "
                "reader may unpickle; leave it away."
            )
        if path is None:
            path = Path(tempfile.mkdtemp(prefix="rllib-fmq-")) / "checkpoint"
        filesystem, folder = resolve(path, filesystem)
        if PurePosixPath(folder).name == REPLAY_FOLDER:
            raise ValueError(
                f"cannot save a checkpoint to {folder}: a folder of that name holds the replay of "
                "the checkpoints beside it; name another one."
            )
        place = ReplayPlace(filesystem, str(PurePosixPath(folder).parent))
        self._save(filesystem, folder, place, state)
        return folder

    def _save(
        self,
        filesystem: pafs.FileSystem,
        folder: str,
        place: ReplayPlace,
        state: dict[str, Any] | None,
    ) -> None:
        if not all(self.ask_learners(_is_finite)):
            raise FloatingPointError(
                f"the networks are not finite: training diverged.{self.last_good()}"
            )
        with clear_errors(folder), saving_alone(place.local_folder):
            try:
                with new_checkpoint(filesystem, folder, self.checkpoint_notes) as staged:
                    super().save_to_path(str(staged), state=state)
                    self.check_learners("save_error", "save")
                    index = self._write_replay(place)
                    write_index(staged / REPLAY_INDEX, place, index)
                    self._write_resume_state(staged / RESUME_STATE)
                    write_policy_file(pafs.LocalFileSystem(), str(staged), self)
                    _check_restorable(staged, folder)
            except BaseException:
                known = self._known_in(place)
                place.remove_unused(*([] if known is None else [known]))
                raise
            place.remove_unused(index)
        self._replay_written = (place, index)
        self.last_checkpoint = folder

    def _known_in(self, place: ReplayPlace) -> dict[str, Any] | None:
        """The index that was last written or read there."""
        if self._replay_written is None:
            return None
        where, index = self._replay_written
        return index if where.same(place) else None

    def _write_replay(self, place: ReplayPlace) -> dict[str, Any]:
        store = place.store()
        known = self._known_in(place)
        index: dict[str, Any]
        # Every learner has the same rows, and the first one is where the others are told apart.
        (index,) = filter(
            None,
            self.ask_learners(
                lambda learner: learner.save_replay(store, known) if _rank(learner) == 0 else None
            ),
        )
        if missing := place.missing(index):
            raise OSError(
                f"{place.segments} lacks {missing[0]}, which the learner has written: learners on "
                "other machines need a folder that all of them share"
            )
        return index

    def _write_resume_state(self, path: Path) -> None:
        generators = dict(
            self.ask_learners(lambda learner: (_rank(learner), learner.generator_state()))
        )
        state = {
            "generators": [generators[rank] for rank in sorted(generators)],
            "runners": collect_runner_states(self.env_runner_group),
        }
        with open(path, "wb") as file:
            pickle.dump(state, file)

    def restore_from_path(
        self,
        path: str | Path,
        *args: Any,
        component: str | None = None,
        filesystem: pafs.FileSystem | None = None,
        trust: bool = False,
        **kwargs: Any,
    ) -> None:
        """Go on exactly where a checkpoint was saved.

        Args:
            path: Folder or address.
            *args: RLlib's.
            component: Restore only this part, which ``path`` then is; see RLlib.
            filesystem: Where ``path`` is; None: told by the path.
            trust: Let RLlib unpickle whatever the files hold; otherwise only plain state. A single
                component is not checked.
            **kwargs: RLlib's.
        Raises:
            FileNotFoundError: If there is no checkpoint, or the replay's rows are missing.
            TrustNeededError: If a state file could run code.
            ValueError: If it is incomplete, of a newer version, or does not fit this run.
        """
        filesystem, folder = resolve(path, filesystem)
        if component is not None:
            super().restore_from_path(
                folder, *args, component=component, filesystem=filesystem, **kwargs
            )
            return
        folder, manifest = whole_folder(filesystem, folder)
        with readable_locally(filesystem, folder, manifest) as local:
            # Before anything changes here.
            if not trust:
                check_plain_states(local)
            self._check_dataset(local)
            found = None if manifest is None else self._find_replay(local, filesystem, folder)
            self._replay_written = None
            try:
                super().restore_from_path(str(local), *args, **kwargs)
                if found is not None:
                    self._restore_rest(local, *found)
            except Exception:
                logger.error(
                    "restoring %s failed half-way: this algorithm is neither what it was nor what "
                    "was saved. Build another one before you go on.",
                    folder,
                )
                raise
        if manifest is not None:
            self.checkpoint_notes = dict(manifest.notes)
        self.last_checkpoint = folder

    def _check_dataset(self, local: Path) -> None:
        with suppress(ForeignPickleError, FileNotFoundError, KeyError, TypeError):
            # What is missing or needs trust here is RLlib's to read, or to complain of.
            saved = load_plain_file(local / GROUP / "learner" / "state.pkl")[LEARNER_STATE]
            self.ask_learners(lambda learner: learner.check_dataset(saved["dataset_fingerprint"]))

    def _find_replay(
        self, local: Path, filesystem: pafs.FileSystem, folder: str
    ) -> tuple[ReplayPlace, dict[str, Any]]:
        """Where the rows lie, whose checksums have been compared, and their index."""
        replay = json.loads((local / REPLAY_INDEX).read_text(encoding="utf-8"))
        own = self._trial_place()
        near = [ReplayPlace(filesystem, str(PurePosixPath(folder).parent))]
        place = find_place(replay, near if own is None else [*near, own], folder)
        place.store().check(replay["index"])
        return place, replay["index"]

    def _restore_rest(self, local: Path, place: ReplayPlace, index: dict[str, Any]) -> None:
        store = place.store()
        self.ask_learners(lambda learner: learner.load_replay(store, index))
        self._replay_written = (place, index)
        with open(local / RESUME_STATE, "rb") as file:
            state = load_plain(file)
        generators = [np.asarray(generator) for generator in state["generators"]]
        as_before = len(generators) == max(1, len(self.learner_group))
        self.ask_learners(
            lambda learner: learner.set_generator_state(
                generators[_rank(learner)] if as_before else None
            )
        )
        going_on = restore_runner_states(self.env_runner_group, state["runners"])
        self.ask_learners(lambda learner: learner.keep_open_episodes(going_on))

    def check_learners(self, attribute: str, what: str) -> None:
        """Bring up what a learner noted as wrong.

        Args:
            attribute: Of the learner; empty if nothing was wrong.
            what: It was to do with the checkpoint.
        Raises:
            OSError: If one could not because the operating system refused; with its ``errno``.
            ValueError: If one could not for another reason.
        """
        # RLlib takes a remote learner that fails here out of service and goes on without it.
        errors = [e for e in self.ask_learners(lambda learner: getattr(learner, attribute)) if e]
        if errors:
            message = (
                f"{len(errors)} of {max(1, len(self.learner_group))} learners could not {what} the "
                f"checkpoint: {errors[0].message}"
            )
            number = errors[0].number
            raise ValueError(message) if number is None else OSError(number, message)

    def last_good(self) -> str:
        """The sentence of an error that names the last good checkpoint."""
        if not self.last_checkpoint:
            return " No checkpoint was saved before."
        return f" The last good checkpoint is {self.last_checkpoint}."

    def _trial_place(self) -> ReplayPlace | None:
        """The folder of Tune's trial, into which the rows go at once; None outside of Tune."""
        if self._storage is None:
            return None
        return ReplayPlace(self._storage.storage_filesystem, self._storage.trial_fs_path)


def _check_restorable(staged: Path, folder: str) -> None:
    """Refuse state that a later restore would refuse, while the run can still be mended."""
    try:
        check_plain_states(staged)
    except (TrustNeededError, ValueError) as error:
        reason = str(error).replace(f"{staged}/", "").removesuffix(f"; {GIVE}")
        raise ValueError(
            f"cannot save a checkpoint to {folder}, which could not be restored: {reason}. State "
            "of callbacks, connectors and modules must be numbers, strings, arrays, lists and "
            "dicts."
        ) from error


def _rank(learner: Any) -> int:
    return int(torch.distributed.get_rank()) if learner.distributed else 0


def _is_finite(learner: Any) -> bool:
    parameters = learner.flow_module.parameters()
    return bool(torch.stack([torch.isfinite(p).all() for p in parameters]).all())
