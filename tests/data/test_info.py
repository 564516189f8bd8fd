"""Describing dataset files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rllib_fmq.data import load_dataset, save_transitions
from rllib_fmq.data.info import describe, format_info

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


def test_not_a_dataset(tmp_path: Path) -> None:
    path = tmp_path / "other.npz"
    np.savez(path, states=np.ones(3))
    with pytest.raises(ValueError, match=r"other\.npz has no known format but states"):
        describe(path)
    with pytest.raises(FileNotFoundError, match="not found"):
        describe(tmp_path / "none.npz")
