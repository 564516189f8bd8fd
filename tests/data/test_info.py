"""Describing dataset files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rllib_fmq.data import load_dataset, save_transitions
from rllib_fmq.data.formats.columns import write_columns
from rllib_fmq.data.formats.d4rl_hdf5 import write_d4rl
from rllib_fmq.data.info import describe, format_info
from tests.data.formats.recordings import (
    episodes_of,
    make_table,
    rllib_episode,
    write_minari,
    write_rllib,
    write_robomimic_file,
)

pytest.importorskip("ogbench")


def test_successes_on_the_shared_data(cube_single: Path) -> None:
    facts = describe(cube_single)
    counts = [facts["tasks"][f"task{number}"]["transitions"] for number in range(1, 6)]
    assert counts == [2149, 3068, 2500, 2060, 2407]
    assert (facts["transitions"], facts["episodes"]) == (100_000, 100)
    assert facts["episode_length"] == {"min": 1000.0, "mean": 1000.0, "max": 1000.0}


def test_generated_file(maze_file: Path) -> None:
    facts = describe(maze_file)
    assert facts["format"] == "ogbench"
    assert (facts["transitions"], facts["episodes"]) == (600, 3)
    assert facts["episode_length"] == {"min": 100.0, "mean": 200.0, "max": 250.0}
    assert facts["bytes"] == maze_file.stat().st_size
    assert facts["obs"]["size"] == 2
    assert facts["obs"]["dtype"] == "float32"
    assert facts["arrays"]["terminals"] == "bool (603,)"
    assert facts["generator"]["seed"] == 1
    for number in range(1, 6):
        table = load_dataset(maze_file, f"pointmaze-medium-singletask-task{number}-v0")
        episode = np.cumsum(table.episode_end) - table.episode_end
        assert facts["tasks"][f"task{number}"] == {
            "transitions": int(table.terminated.sum()),
            "episodes": len(set(episode[table.terminated])),
        }
    text = format_info(facts)
    for part in (str(maze_file.name), "600", "task5 solved", facts["fingerprint"]):
        assert part in text


def test_the_task_can_be_named(maze_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "renamed.npz"
    path.write_bytes(maze_file.read_bytes())
    assert "tasks" not in describe(path)
    named = describe(path, "pointmaze-medium-navigate-singletask-task1-v0")
    assert named["tasks"] == describe(maze_file)["tasks"]
    with pytest.raises(ValueError, match="'Pendulum-v1' is no OGBench task"):
        describe(path, "Pendulum-v1")
    with pytest.raises(ValueError, match=r"renamed\.npz does not fit 'cube-single'"):
        describe(path, "cube-single-play-v0")


def test_plain_format(tmp_path: Path) -> None:
    states = np.arange(10.0)[:, None]
    path = save_transitions(
        tmp_path / "own.npz",
        observations=states,
        actions=-states,
        rewards=np.ones(10),
        next_observations=states + 1,
        terminated=np.arange(10) == 3,
        truncated=np.arange(10) == 9,
    )
    facts = describe(path)
    assert facts["format"] == "plain"
    assert facts["episode_length"] == {"min": 4.0, "mean": 5.0, "max": 6.0}
    assert facts["returns"] == facts["episode_length"]
    assert facts["terminated"] == 1
    assert facts["fingerprint"] == load_dataset(path, "MyEnv-v0").fingerprint
    assert facts["actions"]["min"] == [-9.0]
    assert "terminated" in format_info(facts)


def test_other_formats(tmp_path: Path) -> None:
    pytest.importorskip("h5py")
    table = make_table([4, 6, 2])
    episodes = [rllib_episode(part, f"e{i}") for i, part in enumerate(episodes_of(table))]
    for path, name in (
        (write_d4rl(tmp_path / "a.hdf5", table), "d4rl"),
        (write_rllib(episodes, tmp_path / "b.parquet"), "rllib episodes"),
        (write_columns(tmp_path / "c.columns", [table], source="made"), "mapped columns"),
    ):
        facts = describe(path)
        assert facts["format"] == name
        assert facts["episode_length"] == {"min": 2.0, "mean": 4.0, "max": 6.0}
        assert facts["fingerprint"] == table.fingerprint
        assert facts["returns"]["max"] == pytest.approx(
            max(table.rewards[part].sum() for part in (slice(4), slice(4, 10), slice(10, 12)))
        )
        assert facts["actions"]["max"] == table.actions.max(axis=0).tolist()
        assert facts["bytes"] > 100
        text = format_info(facts)
        assert name in text and "return" in text and table.fingerprint in text


def test_demonstrations(tmp_path: Path) -> None:
    pytest.importorskip("h5py")
    facts = describe(write_robomimic_file(tmp_path / "own.hdf5", [5, 4, 3]))
    assert facts["format"] == "robomimic"
    assert facts["environment"] == "PickPlaceCan"
    assert facts["masks"] == {"train": 2, "valid": 1}
    assert (facts["successful"], facts["episodes"]) == (3, 3)
    assert "3 of 3 episodes" in format_info(facts)


def test_minari(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("minari")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    with pytest.warns(UserWarning):
        write_minari(make_table([4, 6]), "tests/own-v0")
    facts = describe("minari:tests/own-v0")
    assert (facts["format"], facts["transitions"], facts["episodes"]) == ("minari", 10, 2)


def test_not_a_dataset(tmp_path: Path) -> None:
    path = tmp_path / "other.npz"
    np.savez(path, states=np.ones(3))
    with pytest.raises(ValueError, match=r"other\.npz has no known format but states"):
        describe(path)
    with pytest.raises(FileNotFoundError, match="not found"):
        describe(tmp_path / "none.npz")


def test_damage_in_mapped_columns_is_found(tmp_path: Path) -> None:
    folder = write_columns(tmp_path / "own.columns", [make_table([5, 4])], source="made")
    assert describe(folder)["transitions"] == 9
    data = bytearray((folder / "rewards.npy").read_bytes())
    data[-3] ^= 4
    (folder / "rewards.npy").write_bytes(data)
    with pytest.raises(ValueError, match=r"rewards\.npy: its SHA-256"):
        describe(folder)
