"""What kills leave in a trial's folder: which checkpoint counts, and which go."""

from __future__ import annotations

import json
import pickle
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow.fs as pafs
import pytest
from ray.tune import Checkpoint
from ray.tune.trainable import Trainable

from rllib_fmq.algorithms.checkpointed import _check_restorable
from rllib_fmq.algorithms.tune_trial import TuneTrial
from rllib_fmq.checkpointing.folders import new_checkpoint
from rllib_fmq.checkpointing.manifest import MANIFEST
from rllib_fmq.checkpointing.replay_place import REPLAY_INDEX, ReplayPlace, write_index
from rllib_fmq.checkpointing.trial_folder import LEFT_OVER, TrialFolder
from rllib_fmq.rollout.checkpoints import find_checkpoint

LOCAL = pafs.LocalFileSystem()


def save(trial: Path, number: int, segments: dict[str, int] | None = None) -> Path:
    """A checkpoint, and the sizes of its replay's segments."""
    folder = trial / f"checkpoint_{number:06d}"
    with new_checkpoint(LOCAL, str(folder), {}) as staged:
        if segments is not None:
            listed = [{"name": name, "bytes": size} for name, size in segments.items()]
            write_index(staged / REPLAY_INDEX, ReplayPlace(LOCAL, str(trial)), {"segments": listed})
        (staged / "rllib_checkpoint.json").write_text('{"rllib_fmq_format": 2}')
        (staged / "learner_group").mkdir()
    return folder


def cut(checkpoint: Path) -> None:
    (checkpoint / MANIFEST).unlink()


def names(trial: Path) -> list[str]:
    return sorted(path.name[-1] for path in trial.glob("checkpoint_*"))


def trial_folder(path: Path) -> TrialFolder:
    return TrialFolder(LOCAL, str(path))


def test_the_last_number_counts_whatever_the_clock_said(tmp_path: Path) -> None:
    for number in (0, 1, 2):
        manifest = save(tmp_path, number) / MANIFEST
        content = json.loads(manifest.read_text())
        manifest.write_text(json.dumps(content | {"saved_at": 100.0 - number}))
    assert trial_folder(tmp_path).newest_whole() == str(tmp_path / "checkpoint_000002")
    cut(tmp_path / "checkpoint_000002")
    assert trial_folder(tmp_path).newest_whole() == str(tmp_path / "checkpoint_000001")
    assert trial_folder(tmp_path).newest_number() == 2


@pytest.mark.parametrize("damage", ["gone", "cut"])
def test_a_run_goes_on_from_a_checkpoint_whose_replay_is_there(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    trial, experiment = tmp_path / "experiment/trial", tmp_path / "experiment"
    for number in range(3):
        save(trial, number, {f"s{k}.npz": 10 + k for k in range(number + 1)})
    (trial / "replay").mkdir()
    for k in range(3):
        (trial / f"replay/s{k}.npz").write_bytes(b"x" * (10 + k))
    paths = [str(trial / f"checkpoint_00000{number}") for number in range(3)]
    assert trial_folder(trial).newest_resumable() == paths[2]
    assert caplog.text == ""
    second = trial / "replay/s1.npz"
    second.unlink() if damage == "gone" else second.write_bytes(b"x")
    assert trial_folder(trial).newest_resumable() == paths[0]
    expected = r"checkpoint .*_00000{} cannot be resumed: 1 of .*such as .*/replay/s1.npz.*_000000"
    assert len(caplog.messages) == 2
    for line, number in zip(caplog.messages, (2, 1), strict=True):
        assert re.match(expected.format(number), line)
    assert str(find_checkpoint(experiment, to_resume=True)) == paths[0]
    # The policy alone needs no rows, and where all lack some, restoring is to say so.
    assert str(find_checkpoint(experiment)) == trial_folder(trial).newest_whole() == paths[2]
    (trial / "replay/s0.npz").unlink()
    caplog.clear()
    assert trial_folder(trial).newest_resumable() == paths[2] and caplog.text == ""


def test_what_a_kill_left_goes(tmp_path: Path) -> None:
    for number in range(5):
        save(tmp_path, number)
    cut(tmp_path / "checkpoint_000001")  # which Tune was deleting
    cut(tmp_path / "checkpoint_000004")  # whose copy was interrupted
    (tmp_path / "checkpoint_best").mkdir()  # the user's
    trial_folder(tmp_path).tidy(known=2)
    assert [*names(tmp_path)] == ["0", "1", "2", "3", "t"]
    assert list((tmp_path / "checkpoint_000001").iterdir()) == []
    marked = [path.parent.name[-1] for path in tmp_path.glob(f"*/{LEFT_OVER}")]
    assert marked == ["3"]


def test_unknown_checkpoints_are_kept_as_long_as_known_ones(tmp_path: Path) -> None:
    folder = trial_folder(tmp_path)
    for number in (3, 4):
        save(tmp_path, number)
    folder.tidy(known=3)
    for number in (5, 6):
        save(tmp_path, number)
        folder.remove_left_overs()
        assert "4" in names(tmp_path)  # all are kept, as far as can be seen
    for gone in (3, 5):  # Tune keeps two
        for path in (tmp_path / f"checkpoint_00000{gone}").iterdir():
            path.rmdir() if path.is_dir() else path.unlink()
        (tmp_path / f"checkpoint_00000{gone}").rmdir()
    save(tmp_path, 7)
    folder.remove_left_overs()
    assert names(tmp_path) == ["6", "7"]


class Trial(TuneTrial):
    """A trial without an algorithm, which notes what it would restore."""

    def __init__(self, folder: Path) -> None:
        self._storage: Any = SimpleNamespace(
            storage_filesystem=LOCAL, trial_fs_path=str(folder), current_checkpoint_index=0
        )
        self._restored = False
        self._iterations_since_restore = 0
        self.done: list[str] = []

    def restore_from_path(self, path: Any, *args: Any, **kwargs: Any) -> None:
        self.done.append(f"restored {Path(path).name[-1]}")

    def load_checkpoint(self, checkpoint_dir: str) -> None:
        self.restore_from_path(checkpoint_dir)

    def __del__(self) -> None:
        pass


def test_a_trial_that_tune_knows_nothing_of_is_restored_before_its_first_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path, 0)
    cut(save(tmp_path, 1))
    save(tmp_path, 2, {"lost.npz": 5})
    trial = Trial(tmp_path)
    monkeypatch.setattr(Trainable, "train", lambda self: self.done.append("trained") or {})
    assert trial.has_own_checkpoint()
    trial.train()
    assert trial.done == ["restored 0", "trained"] and names(tmp_path) == ["0", "2"]


@pytest.mark.parametrize("state", ["whole", "cut", "gone"])
def test_a_trial_goes_on_from_its_newest_whole_checkpoint(tmp_path: Path, state: str) -> None:
    save(tmp_path, 3, {"lost.npz": 5})
    named = save(tmp_path, 0)
    if state != "whole":
        cut(named)
    save(tmp_path, 1)
    cut(save(tmp_path, 2))
    if state == "gone":
        named = tmp_path / "checkpoint_000000"
        TrialFolder(LOCAL, str(tmp_path)).tidy(known=-1)
        assert not named.exists()
    trial = Trial(tmp_path)
    trial._local_ip = "here"
    trial.restore(Checkpoint(str(named)))
    assert trial.done == ["restored 1"] and trial.last_checkpoint.endswith("1")


def test_another_trials_checkpoint_is_taken_as_it_is(tmp_path: Path) -> None:
    save(tmp_path / "mine", 3)
    trial = Trial(tmp_path / "mine")
    trial._local_ip = "here"
    trial.restore(Checkpoint(str(save(tmp_path / "theirs", 0))))
    assert trial.done == ["restored 0"]


def test_the_replays_folder_and_msgpack_are_refused(tmp_path: Path) -> None:
    trial = Trial(tmp_path)
    with pytest.raises(ValueError, match="holds the replay of the checkpoints beside it"):
        trial.save_to_path(tmp_path / "run" / "replay")
    with pytest.raises(ValueError, match="use_msgpack=True"):
        trial.save_to_path(tmp_path / "c", use_msgpack=True)
    assert not list(tmp_path.iterdir())


def test_state_that_could_not_be_restored_is_not_saved(tmp_path: Path) -> None:
    with open(tmp_path / "state.pkl", "wb") as file:
        pickle.dump({"mine": Path("x")}, file)
    with pytest.raises(ValueError, match=r"cannot save a checkpoint to /c.*state\.pkl: it names"):
        _check_restorable(tmp_path, "/c")
