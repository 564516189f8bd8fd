"""Generated datasets: OGBench's format, the same bytes for a seed, all or nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rllib_fmq.data import check_fits, load_dataset
from rllib_fmq.data.generation import collect_manipulation, generate
from rllib_fmq.data.generation.collect import EpisodeJob, run_job
from rllib_fmq.data.generation.collect_maze import MazeGraph
from rllib_fmq.data.generation.families import can_generate, generated_datasets, parse_generated
from rllib_fmq.data.generation.generate import generate_dataset
from rllib_fmq.tasks import make_env
from rllib_fmq.tasks.names import parse_dataset

ogbench = pytest.importorskip("ogbench")

MAZE = "pointmaze-medium-navigate-v0"


def make(task: str, out: Path, **changes: Any) -> Path:
    settings: dict[str, Any] = {
        "steps": 100,
        "seed": 3,
        "num_workers": 0,
        "episode_steps": 40,
        "progress": False,
    }
    return generate_dataset(task, out, **{**settings, **changes})


def arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


def val(path: Path) -> Path:
    return path.with_name(f"{path.stem}-val.npz")


@pytest.mark.parametrize(
    ("task", "workers"),
    # The scene takes seconds to compile in each process: there, Ray's workers are tried once.
    [(MAZE, [1, 2]), ("scene-play-v0", [2])],
)
def test_same_bytes_whatever_the_number_of_workers(
    ray_session: None, tmp_path: Path, task: str, workers: list[int]
) -> None:
    here = make(task, tmp_path / "here", num_workers=0)
    for number in workers:
        there = make(task, tmp_path / str(number), num_workers=number)
        assert there.read_bytes() == here.read_bytes()
        assert val(there).read_bytes() == val(here).read_bytes()
    other = make(task, tmp_path / "other", seed=4)
    assert not np.array_equal(arrays(other)["actions"], arrays(here)["actions"])
    assert not np.array_equal(arrays(here)["actions"][:11], arrays(val(here))["actions"][:11])


@pytest.mark.parametrize(
    "task",
    [
        "cube-double-play-v0",
        "scene-noisy-v0",
        "puzzle-3x3-play-v0",
        "pointmaze-teleport-navigate-v0",
    ],
)
def test_an_episode_does_not_depend_on_those_before_it(task: str) -> None:
    parsed = parse_generated(task)
    assert parsed is not None
    name, recipe = parsed
    jobs = [EpisodeJob(name, recipe, 30, 0, (0, number), 0.1, 0.5) for number in range(3)]
    collect_manipulation._scene.cache_clear()
    alone = run_job(jobs[2])
    _, _, after = map(run_job, jobs)
    for key, value in alone.items():
        np.testing.assert_array_equal(value, after[key], err_msg=key)


def test_longer_datasets_begin_with_the_shorter(tmp_path: Path) -> None:
    short = arrays(make(MAZE, tmp_path / "short", steps=80))
    long = arrays(make(MAZE, tmp_path / "long", steps=100))
    for name in ("observations", "actions", "qpos", "qvel", "terminals"):
        np.testing.assert_array_equal(long[name][:82], short[name])


def test_format_is_ogbenchs(cube_file: Path) -> None:
    for path, lengths in ((cube_file, [61, 41]), (val(cube_file), [11])):
        made = arrays(path)
        rows = sum(lengths)
        assert made["observations"].shape == (rows, 28)
        assert made["actions"].shape == (rows, 5)
        assert made["qpos"].shape == (rows, 21)
        assert made["qvel"].shape == (rows, 20)
        for name in ("observations", "actions", "qpos", "qvel"):
            assert made[name].dtype == np.float32
        assert made["terminals"].dtype == np.bool_
        assert np.flatnonzero(made["terminals"]).tolist() == (np.cumsum(lengths) - 1).tolist()
        assert np.abs(made["actions"]).max() <= 1.0
    made = json.loads(str(arrays(cube_file)["generator"]))
    assert (made["dataset"], made["seed"], made["part"]) == ("cube-single-play-v0", 1, "train")
    loaded = ogbench.load_dataset(str(cube_file), add_info=True)
    assert len(loaded["observations"]) == 100


def test_same_members_as_the_shared_data(shared_data: Path, cube_file: Path) -> None:
    official = arrays(shared_data / "ogbench" / "cube-single-play-v0.npz")
    made = arrays(cube_file)
    assert made.keys() - official.keys() == {"generator"}
    for name, value in official.items():
        assert made[name].dtype == value.dtype
        assert made[name].shape[1:] == value.shape[1:]


def test_observations_are_those_of_the_recorded_states(tmp_path: Path) -> None:
    made = arrays(make("puzzle-3x3-play-v0", tmp_path, steps=30, val_fraction=0))
    assert made["button_states"].dtype == np.int64
    one_hot = made["observations"][:, 19:].reshape(31, 9, 4)[:, :, :2]
    np.testing.assert_array_equal(one_hot.argmax(axis=-1), made["button_states"])
    np.testing.assert_array_equal(made["observations"][:, :6], made["qpos"][:, :6])


def test_the_oracle_moves_the_cube(tmp_path: Path) -> None:
    made = arrays(make("cube-single-play-v0", tmp_path, steps=150, episode_steps=150))
    cube = made["qpos"][:, 14:17]
    assert np.linalg.norm(cube[-1, :2] - cube[0, :2]) > 0.05
    assert cube[:, 2].max() > 0.06  # it was lifted


def test_the_point_reaches_goals(maze_file: Path) -> None:
    made = arrays(maze_file)
    first = made["qpos"][:251]
    assert np.ptp(first, axis=0).max() > 8.0  # more than two cells


def test_maze_graph() -> None:
    graph = MazeGraph(
        np.array(
            [[1, 1, 1, 1, 1], [1, 0, 0, 0, 1], [1, 0, 1, 1, 1], [1, 1, 1, 0, 1], [1, 1, 1, 1, 1]]
        )
    )
    assert graph.next_cell((2, 1), (1, 3)) == (1, 1)
    assert graph.next_cell((1, 3), (1, 3)) == (1, 3)
    assert graph.next_cell((3, 3), (1, 3)) == (3, 3)
    assert graph.junctions() == [(1, 1), (1, 3), (2, 1), (3, 3)]
    assert graph.reachable((1, 2), [(1, 1), (3, 3)]) == [(1, 1)]


def test_no_validation_part(tmp_path: Path) -> None:
    path = make(MAZE, tmp_path, val_fraction=0)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_default_folder_and_task_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLLIB_FMQ_DATA_DIR", str(tmp_path / "data"))
    path = generate_dataset(
        "pointmaze-medium-navigate-singletask-task3-v0",
        steps=20,
        seed=0,
        num_workers=0,
        progress=False,
    )
    assert path == tmp_path / "data" / f"{MAZE}.npz"


def test_shows_progress(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    make(MAZE, tmp_path, progress=True)
    captured = capfd.readouterr()
    assert captured.out == ""
    assert "110/110 steps" in captured.err


def test_an_existing_file_is_kept(tmp_path: Path) -> None:
    path = make(MAZE, tmp_path / "own.npz")
    before = path.read_bytes()
    with pytest.raises(FileExistsError, match=r"own\.npz exists"):
        make(MAZE, path, seed=5)
    assert path.read_bytes() == before
    make(MAZE, path, seed=5, overwrite=True)
    assert path.read_bytes() != before


def test_nothing_is_written_if_recording_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(job: EpisodeJob) -> None:
        if job.key == (0, 1):
            raise RuntimeError("simulator diverged")
        return run_job(job)  # type: ignore[return-value]

    monkeypatch.setattr(generate, "run_job", fail)
    with pytest.raises(RuntimeError, match="diverged"):
        make(MAZE, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"task": "antmaze-giant-navigate-v0"},
            "no scripted policy .* 'antmaze-giant-navigate-v0'",
        ),
        ({"task": "cube-singel-play-v0"}, "cube-single-play-v0"),
        ({"steps": 0}, "steps must be at least 1 and finite, got 0"),
        ({"seed": -1}, "seed must be at least 0 and finite, got -1"),
        ({"num_workers": -1}, "num_workers must be at least 0"),
        ({"noise": -0.1}, "noise must be at least 0"),
        ({"noise": float("nan")}, "noise must be at least 0 and finite, got nan"),
        ({"noise": float("inf")}, "noise must be at least 0 and finite, got inf"),
        ({"val_fraction": 1.5}, "val_fraction must be at most 1, got 1.5"),
        ({"episode_steps": 0}, "episode_steps must be at least 1"),
        ({"out": "data.hdf5"}, r"ending in \.npz, got 'data\.hdf5'"),
    ],
)
def test_bad_arguments(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    settings = {"task": MAZE, "out": tmp_path, **changes}
    with pytest.raises(ValueError, match=message):
        make(**settings)
    assert not list(tmp_path.iterdir())


def test_what_can_be_generated() -> None:
    names = generated_datasets()
    for name in (
        *(f"cube-{count}-play-v0" for count in ("single", "double", "triple", "quadruple")),
        "scene-play-v0",
        *(f"puzzle-{size}-play-v0" for size in ("3x3", "4x4", "4x5", "4x6")),
        *(f"pointmaze-{size}-navigate-v0" for size in ("medium", "large", "giant", "teleport")),
    ):
        assert name in names
    assert all(map(can_generate, names))
    assert can_generate("cube-single-singletask-task2-v0")
    assert not can_generate("antmaze-giant-navigate-v0")  # not by scripts alone
    assert not can_generate("pointmaze-medium-stitch-v0")
    assert not can_generate("Pendulum-v1")


@pytest.mark.slow
@pytest.mark.parametrize(
    "task",
    [
        "cube-quadruple-play-v0",
        "cube-single-noisy-v0",
        "scene-play-v0",
        "puzzle-4x4-play-v0",
        "pointmaze-giant-navigate-v0",
    ],
)
def test_what_is_generated_fits_its_task(tmp_path: Path, task: str) -> None:
    path = make(task, tmp_path, steps=25, episode_steps=15, val_fraction=0)
    name = parse_dataset(task)
    assert name is not None
    env_name = f"{name.environment}-{name.dataset_type}-singletask-task4-v0"
    table = load_dataset(path, env_name)
    assert (table.num_steps, table.num_episodes) == (25, 2)
    env = make_env(env_name)
    check_fits(table, env.observation_space, env.action_space)
