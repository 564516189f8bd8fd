"""Which checkpoint is meant by the name of a folder."""

from __future__ import annotations

import re
from pathlib import Path

from pyarrow.fs import LocalFileSystem

from rllib_fmq.checkpointing.folders import latest_whole, whole_folder
from rllib_fmq.checkpointing.manifest import MANIFEST
from rllib_fmq.checkpointing.replay_place import latest_resumable
from rllib_fmq.checkpointing.trust import GROUP

_CHECKPOINT_NAME = re.compile(r"checkpoint(_\d+)?")


def find_checkpoint(path: str | Path, *, to_resume: bool = False) -> Path:
    """Resolve a checkpoint, a Tune trial folder or an experiment folder to one checkpoint.

    Args:
        path: A checkpoint; or a trial folder, whose latest checkpoint is taken; or an
            experiment folder, of whose trials the one that was saved last is taken.
        to_resume: Of a trial's or experiment's checkpoints, prefer those whose replay is there.
    Returns:
        Absolute path of a checkpoint folder that is whole.
    Raises:
        FileNotFoundError: If there is none.
        ValueError: If ``path`` is a checkpoint that is incomplete, or of a newer version.
    """
    folder = Path(path).expanduser().resolve()
    local = LocalFileSystem()
    if _is_checkpoint(folder) or not folder.exists():
        try:
            return Path(whole_folder(local, str(folder))[0])
        except FileNotFoundError as error:
            raise FileNotFoundError(f"checkpoint not found: {path} does not exist.") from error
    left_out = 0
    if folder.is_dir():
        for depth in ("*", "*/*"):
            found = [
                str(candidate)
                for candidate in folder.glob(depth)
                if _CHECKPOINT_NAME.fullmatch(candidate.name) and _is_checkpoint(candidate)
            ]
            newest = (latest_resumable if to_resume else latest_whole)(local, found)
            if newest is not None:
                return Path(newest)
            left_out += len(found)
    incomplete = f" Left out: {left_out} whose save or copy was interrupted." if left_out else ""
    raise FileNotFoundError(
        f"no checkpoint in {path}: expected a folder that holds algorithm_state.pkl and "
        "learner_group/, or a trial or experiment folder with checkpoint_* in it. Runs write one "
        f"at their end, and with --checkpoint-freq N every N iterations.{incomplete}"
    )


def _is_checkpoint(folder: Path) -> bool:
    return (folder / GROUP).is_dir() or (folder / MANIFEST).is_file()
