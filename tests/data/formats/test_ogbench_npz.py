"""OGBench's format: the same transitions and rewards as OGBench's own loader."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from rllib_fmq.data import TransitionTable, load_dataset
from rllib_fmq.data.formats.npz import read_npz, write_npz
from rllib_fmq.data.formats.ogbench_npz import transition_rows

ogbench = pytest.importorskip("ogbench")

MAZE_TASK = "pointmaze-medium-navigate-singletask-task1-v0"


def next_obs(table: TransitionTable) -> np.ndarray:
    following = np.concatenate([table.obs[1:], table.final_obs[-1:]])
    following[table.episode_end] = table.final_obs
    return following


def assert_equals_ogbench(path: Path, env_name: str) -> TransitionTable:
    table = load_dataset(path, env_name)
    _, expected, _ = ogbench.make_env_and_datasets(env_name, dataset_path=str(path))
    np.testing.assert_array_equal(table.obs, expected["observations"])
    np.testing.assert_array_equal(table.actions, expected["actions"])
    np.testing.assert_array_equal(next_obs(table), expected["next_observations"])
    np.testing.assert_array_equal(table.rewards, expected["rewards"])
    np.testing.assert_array_equal(table.terminated, expected["masks"] == 0.0)
    np.testing.assert_array_equal(table.episode_end, expected["terminals"] == 1.0)
    return table


@pytest.mark.parametrize(
    ("file", "env_name", "solved"),
    [
        ("cube-single-play-v0", "cube-single-play-singletask-task2-v0", 3068),
        pytest.param(
            "cube-double-play-v0",
            "cube-double-play-singletask-task5-v0",
            413,
            marks=pytest.mark.slow,
        ),
        ("pointmaze-medium-navigate-v0", "pointmaze-medium-navigate-singletask-v0", 828),
        pytest.param(
            "antmaze-giant-navigate-v0",
            "antmaze-giant-navigate-singletask-task4-v0",
            111,
            marks=pytest.mark.slow,
        ),
    ],
)
def test_equals_ogbench_on_the_shared_data(
    shared_data: Path, file: str, env_name: str, solved: int
) -> None:
    table = assert_equals_ogbench(shared_data / "ogbench" / f"{file}.npz", env_name)
    assert int(table.terminated.sum()) == solved
    # Trajectories go on after a solved state: no row is lost, and none becomes an episode's end.
    assert not table.terminated[table.episode_end].all()


def test_equals_ogbench_on_generated_data(maze_file: Path) -> None:
    table = assert_equals_ogbench(maze_file, MAZE_TASK)
    assert (table.num_steps, table.num_episodes) == (600, 3)
    assert str(maze_file) in table.source
    assert MAZE_TASK in table.source


def test_the_val_file_is_not_needed(maze_file: Path, tmp_path: Path) -> None:
    alone = tmp_path / maze_file.name
    shutil.copy(maze_file, alone)
    assert (
        load_dataset(alone, MAZE_TASK).fingerprint == load_dataset(maze_file, MAZE_TASK).fingerprint
    )


def test_the_task_is_part_of_the_fingerprint(maze_file: Path) -> None:
    fingerprints = {
        load_dataset(maze_file, MAZE_TASK.replace("task1", f"task{number}")).fingerprint
        for number in range(1, 6)
    }
    rewards = {
        load_dataset(maze_file, MAZE_TASK.replace("task1", f"task{number}")).rewards.tobytes()
        for number in range(1, 6)
    }
    assert len(fingerprints) == len(rewards) > 1


def test_transition_rows() -> None:
    # Trajectories of three, one (a lone state) and two states; the file ends inside the last.
    rows, last = transition_rows(np.array([0, 0, 1, 1, 0, 0], bool))
    assert rows.tolist() == [0, 1, 4]
    assert last.tolist() == [False, True, True]


def rewrite(source: Path, target: Path, **changes: np.ndarray) -> Path:
    arrays = read_npz(source, required=["observations", "actions", "terminals", "qpos"])
    write_npz({target: {**arrays, **changes}})
    return target


@pytest.mark.parametrize(
    ("name", "row"), [("observations", 7), ("observations", 415), ("actions", 415), ("qpos", 599)]
)
def test_nan_is_named_as_the_file_counts(
    maze_file: Path, tmp_path: Path, name: str, row: int
) -> None:
    values = read_npz(maze_file, required=[name])[name]
    values[row, 1] = np.nan
    path = rewrite(maze_file, tmp_path / "nan.npz", **{name: values})
    with pytest.raises(ValueError, match=rf"nan\.npz: {name} is nan at row {row}, entry 1 \(1 "):
        load_dataset(path, MAZE_TASK)


def test_the_action_of_a_last_state_may_be_anything(maze_file: Path, tmp_path: Path) -> None:
    arrays = read_npz(maze_file, required=["actions", "terminals"])
    arrays["actions"][np.flatnonzero(arrays["terminals"])] = np.nan
    path = rewrite(maze_file, tmp_path / "last.npz", actions=arrays["actions"])
    expected = load_dataset(maze_file, MAZE_TASK).fingerprint
    assert load_dataset(path, MAZE_TASK).fingerprint == expected


def test_arrays_of_different_length(maze_file: Path, tmp_path: Path) -> None:
    path = rewrite(maze_file, tmp_path / "short.npz", qpos=np.zeros((5, 2), np.float32))
    with pytest.raises(ValueError, match=r"short\.npz: qpos has shape \(5, 2\)"):
        load_dataset(path, MAZE_TASK)


def test_only_lone_states(maze_file: Path, tmp_path: Path) -> None:
    path = rewrite(maze_file, tmp_path / "lone.npz", terminals=np.ones(603, bool))
    with pytest.raises(ValueError, match=r"lone\.npz holds no transition"):
        load_dataset(path, MAZE_TASK)


def test_file_of_another_environment(maze_file: Path, cube_file: Path) -> None:
    with pytest.raises(ValueError, match="does not fit 'cube-single-play-singletask-task2-v0'"):
        load_dataset(maze_file, "cube-single-play-singletask-task2-v0")
    with pytest.raises(ValueError, match="does not fit 'puzzle-3x3-singletask-v0'"):
        load_dataset(cube_file, "puzzle-3x3-singletask-v0")


def test_needs_a_task_for_rewards(maze_file: Path) -> None:
    with pytest.raises(ValueError, match="'Pendulum-v1' is not an OGBench single task"):
        load_dataset(maze_file, "Pendulum-v1")
