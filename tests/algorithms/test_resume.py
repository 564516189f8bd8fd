"""Checkpoints of whole algorithms: where they may lie, what is missing of them, older ones."""

from __future__ import annotations

import errno
import json
import resource
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow.fs as pafs
import pytest
import ray

from rllib_fmq.algorithms import checkpointed
from rllib_fmq.algorithms.algorithm import FlowMapAlgorithm
from rllib_fmq.checkpointing.manifest import MANIFEST
from rllib_fmq.checkpointing.replay_place import ReplayPlace
from rllib_fmq.rollout.checkpoints import find_checkpoint
from tests.algorithms.exact import differences, snapshot

VERSION_1 = Path(__file__).with_name("checkpoint_version_1")
"""Saved by the code before format 2, without the files that hold code."""


@pytest.fixture()
def algorithm(ray_session: None, small_config: Callable[..., Any]) -> Any:
    """After the offline phase and a first round online."""
    algo = small_config("FMQ", online_env_steps=80).build_algo()
    for _ in range(2):
        algo.train()
    yield algo
    algo.stop()


@pytest.fixture()
def fresh(ray_session: None, small_config: Callable[..., Any]) -> Any:
    """Of the same settings."""
    algo = small_config("FMQ", online_env_steps=80).build_algo()
    yield algo
    algo.stop()


def files(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_rows_are_shared_and_go_with_the_last_checkpoint_that_needs_them(
    algorithm: Any, fresh: Any, tmp_path: Path
) -> None:
    algorithm.save_to_path(tmp_path / "a")
    (first,) = (tmp_path / "replay").glob("*.npz")
    algorithm.train()
    algorithm.save_to_path(tmp_path / "b")
    assert len(list((tmp_path / "replay").glob("*.npz"))) == 2  # only the new rows are written
    assert not any(".npz" in name for name in files(tmp_path / "b"))

    fresh.restore_from_path(tmp_path / "b")
    assert differences(snapshot(algorithm), snapshot(fresh)) == []
    assert fresh.last_checkpoint == str(tmp_path / "b")
    fresh.restore_from_path(tmp_path / "a")
    # Back to older weights: runners act with them, too.
    (learned,) = fresh.learner_group.foreach_learner(lambda learner: learner.module.get_state())
    acting = fresh.env_runner.module.get_state()
    for name, value in acting.items():
        np.testing.assert_array_equal(value, learned.get()["default_policy"][name])
    fresh.save_to_path(tmp_path / "c")
    index = json.loads((tmp_path / "c/replay_index.json").read_text())["index"]
    assert [segment["name"] for segment in index["segments"]] == [first.name]
    shutil.rmtree(tmp_path / "b")
    fresh.save_to_path(tmp_path / "c")
    assert list((tmp_path / "replay").glob("*.npz")) == [first]


def test_rows_are_found_beside_a_copy_or_where_they_were_written(
    algorithm: Any, fresh: Any, tmp_path: Path
) -> None:
    algorithm.save_to_path(tmp_path / "run/c")
    shutil.copytree(tmp_path / "run/c", tmp_path / "alone/c")
    fresh.restore_from_path(tmp_path / "alone/c")  # the recorded address
    assert differences(snapshot(algorithm), snapshot(fresh)) == []
    shutil.copytree(tmp_path / "run", tmp_path / "moved")
    shutil.rmtree(tmp_path / "run")
    fresh.restore_from_path(tmp_path / "moved/c")
    before = snapshot(fresh)
    with pytest.raises(FileNotFoundError, match=r"needs its replay's rows.*folder 'replay' beside"):
        fresh.restore_from_path(tmp_path / "alone/c")
    assert differences(before, snapshot(fresh)) == []  # refused before anything changed


@pytest.mark.parametrize("kind", ["subtree", "memory"])
def test_other_filesystems(algorithm: Any, fresh: Any, tmp_path: Path, kind: str) -> None:
    if kind == "memory":
        store: pafs.FileSystem = pafs.PyFileSystem(pafs.FSSpecHandler(fsspec.filesystem("memory")))
    else:
        store = pafs.SubTreeFileSystem(str(tmp_path), pafs.LocalFileSystem())
    for _ in range(2):
        assert algorithm.save_to_path("/bucket/run/c", filesystem=store) == "/bucket/run/c"
    fresh.restore_from_path("/bucket/run/c", filesystem=store)
    assert differences(snapshot(algorithm), snapshot(fresh)) == []
    (segment,) = store.get_file_info(pafs.FileSelector("/bucket/run/replay"))
    store.delete_file(segment.path)
    with pytest.raises(FileNotFoundError, match="needs its replay's rows"):
        fresh.restore_from_path("/bucket/run/c", filesystem=store)


def test_incomplete_checkpoints_are_refused(algorithm: Any, fresh: Any, tmp_path: Path) -> None:
    algorithm.save_to_path(tmp_path / "c")
    for name in files(tmp_path / "c"):
        file = tmp_path / "c" / name
        content = file.read_bytes()
        file.unlink()
        with pytest.raises(ValueError, match="is incomplete"):
            fresh.restore_from_path(tmp_path / "c")
        file.write_bytes(content[: len(content) // 2])
        with pytest.raises(ValueError, match="is incomplete"):
            fresh.restore_from_path(tmp_path / "c")
        file.write_bytes(content)
    (segment,) = (tmp_path / "replay").glob("*.npz")
    segment.write_bytes(segment.read_bytes()[:-20])
    with pytest.raises(FileNotFoundError, match="missing or cut"):
        fresh.restore_from_path(tmp_path / "c")
    algorithm.save_to_path(tmp_path / "d")  # which would have shared the segment
    fresh.restore_from_path(tmp_path / "d")
    assert differences(snapshot(algorithm), snapshot(fresh)) == []


def test_a_full_disk_leaves_the_last_good_checkpoint(
    algorithm: Any, fresh: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    algorithm.save_to_path(tmp_path / "c")
    good, listed = snapshot(algorithm), files(tmp_path)
    algorithm.train()

    def fail(*args: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(checkpointed, "write_index", fail)  # after the rows
        with pytest.raises(OSError, match="disk is full"):
            algorithm.save_to_path(tmp_path / "c")
    assert files(tmp_path) == listed and algorithm.last_checkpoint == str(tmp_path / "c")
    fresh.restore_from_path(tmp_path / "c")
    assert differences(good, snapshot(fresh)) == []
    algorithm.save_to_path(tmp_path / "c")
    assert files(tmp_path / "c") and (tmp_path / "c" / MANIFEST).is_file()


def test_files_that_cannot_be_written_to_their_end(
    ray_session: None, small_config: Callable[..., Any], tmp_path: Path
) -> None:
    config = small_config("FMQ", online_env_steps=80).evaluation(evaluation_interval=None)
    save = ray.remote(num_cpus=1)(save_where_files_are_limited)
    messages, changed, number = ray.get(save.remote(config, tmp_path))
    assert len(messages) > 5 and changed == [] and number == errno.EFBIG
    expected = (
        f"cannot save a checkpoint to {tmp_path}/c: files may not be so large there (ulimit -f): "
        "raise the limit. Nothing of it was kept; earlier checkpoints are untouched."
    )
    assert set(messages) == {expected}


def save_where_files_are_limited(config: Any, folder: Path) -> tuple[list[str], list[str], int]:
    """Save where the system cuts a file off, each time another one, in a process of its own.

    Returns the errors; what is not as it was before, after the last good checkpoint was loaded;
    and the number of the error where the replay alone is written.
    """
    algo = config.build_algo()
    for _ in range(2):
        algo.train()
    algo.save_to_path(folder / "c")
    good, listed = snapshot(algo), files(folder)
    sizes = sorted({(folder / name).stat().st_size for name in listed})
    algo.train()
    messages, changed = [], []
    for size in sizes:  # the largest file at least does not fit
        try:
            with files_up_to(size - 1):
                algo.save_to_path(folder / "c")
        except OSError as error:
            messages.append(str(error))
        changed += [f"after {size} bytes"] if files(folder) != listed else []
    store = ReplayPlace(pafs.LocalFileSystem(), str(folder / "rows")).store()
    number = 0
    try:
        with files_up_to(100):
            algo.ask_learners(lambda learner: learner.save_replay(store, None))
    except OSError as error:
        number = error.errno or 0
    changed += files(folder / "rows")
    algo.restore_from_path(folder / "c")
    changed += differences(good, snapshot(algo))
    algo.save_to_path(folder / "d")
    algo.stop()
    return messages, changed, number


@contextmanager
def files_up_to(num_bytes: int) -> Iterator[None]:
    """Let no file of this process grow beyond a size, as on a disk that is full."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_checkpoints_of_format_1_load(
    ray_session: None, small_config: Callable[..., Any], tmp_path: Path
) -> None:
    config = small_config("FMQ", online_env_steps=80).training(
        actor_hidden=(4,), critic_hidden=(4,)
    )
    algo = config.evaluation(evaluation_interval=None).build_algo()
    algo.restore_from_path(find_checkpoint(VERSION_1))
    assert (algo.num_updates, algo.num_online_env_steps, algo.phase) == (30, 20, "online")
    (replay,) = algo.ask_learners(lambda learner: learner.replay)
    assert len(replay) == 4_020
    assert algo.train()["num_updates"] == 50
    algo.save_to_path(tmp_path / "c")
    restored = config.copy(copy_frozen=False).build_algo()
    restored.restore_from_path(tmp_path / "c")
    assert differences(snapshot(algo), snapshot(restored)) == []
    for each in (algo, restored):
        each.stop()


@pytest.mark.parametrize("learners", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_diverging_run_names_its_last_good_checkpoint(
    ray_session: None, small_config: Callable[..., Any], tmp_path: Path, learners: int
) -> None:
    config = small_config("FMQ").training(max_loss=1e4).learners(num_learners=learners)
    algo = config.build_algo()
    algo.save_to_path(tmp_path / "good")
    algo.ask_learners(blow_up)
    with pytest.raises(FloatingPointError, match=f"beyond max_loss=1.*{tmp_path / 'good'}"):
        algo.train()
    algo.ask_learners(spoil)
    with pytest.raises(FloatingPointError, match=f"networks are not finite.*{tmp_path / 'good'}"):
        algo.save_to_path(tmp_path / "bad")
    assert not (tmp_path / "bad").exists()
    algo.stop()


def blow_up(learner: Any) -> None:
    for parameter in learner.flow_module.critics.parameters():
        parameter.data *= 1e3


def spoil(learner: Any) -> None:
    next(learner.flow_module.parameters()).data.fill_(float("nan"))


@pytest.mark.slow
def test_errors_of_remote_learners_are_not_swallowed(
    ray_session: None, small_config: Callable[..., Any], tmp_path: Path
) -> None:
    algo = small_config("FMQ").learners(num_learners=1).build_algo()
    algo.train()
    algo.ask_learners(cannot_save)
    with pytest.raises(ValueError, match=r"1 of 1 learners could not save.*no space"):
        algo.save_to_path(tmp_path / "c")
    assert not (tmp_path / "c").exists()
    algo.ask_learners(can_save_again)
    algo.save_to_path(tmp_path / "c")
    assert algo.train()["num_updates"] > 20
    algo.stop()


def cannot_save(learner: Any) -> None:
    def fail() -> None:
        raise OSError("no space")

    learner.get_metadata = fail


def can_save_again(learner: Any) -> None:
    del learner.get_metadata


def test_notes_travel_with_the_checkpoint(algorithm: Any, fresh: Any, tmp_path: Path) -> None:
    algorithm.checkpoint_notes = {"wall_seconds": 12.5}
    algorithm.save_to_path(tmp_path / "c")
    fresh.restore_from_path(tmp_path / "c")
    assert fresh.checkpoint_notes == {"wall_seconds": 12.5}
    assert FlowMapAlgorithm.from_checkpoint(str(tmp_path / "c")).num_updates == 30
