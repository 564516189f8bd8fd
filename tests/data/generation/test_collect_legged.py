"""Maze data of robots: the policy's input, redrawn falls, format, same bytes, clear errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rllib_fmq.data import check_fits, load_dataset
from rllib_fmq.data.generation import collect_legged
from rllib_fmq.data.generation.collect import EpisodeJob, run_job
from rllib_fmq.data.generation.collect_maze import maze, walk
from rllib_fmq.data.generation.families import parse_generated, policy_datasets
from rllib_fmq.data.generation.generate import generate_dataset
from rllib_fmq.data.generation.low_level_policy import (
    LowLevelPolicy,
    make_policy,
    save_low_level_policy,
)
from rllib_fmq.tasks import make_env
from rllib_fmq.tasks.seeding import global_numpy_random

pytest.importorskip("ogbench")

ANT = "antmaze-medium-navigate-v0"
HUMANOID = "humanoidmaze-medium-navigate-v0"
SIZES = {"ant": (29, 8), "humanoid": (69, 21)}  # observation with direction, action


def random_policy(robot: str) -> LowLevelPolicy:
    rng = np.random.default_rng(0)
    inputs, outputs = SIZES[robot]
    layers = [
        (rng.normal(size=(16, inputs)) / 4, np.zeros(16)),
        (rng.normal(size=(outputs, 16)), np.zeros(outputs)),
    ]
    return make_policy(layers, activation="tanh", squash="tanh")


def copying_policy(columns: list[int]) -> LowLevelPolicy:
    """An ant whose first actions are these entries of its input, tenfold smaller."""
    weight = np.zeros((8, 29))
    weight[np.arange(len(columns)), columns] = 0.1
    return make_policy([(weight, np.zeros(8))], activation="linear", squash="clip")


@pytest.fixture(scope="module")
def policies(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("policies")
    return {
        robot: save_low_level_policy(folder / f"{robot}.npz", random_policy(robot))
        for robot in SIZES
    }


def make(task: str, out: Path, **changes: Any) -> Path:
    settings: dict[str, Any] = {
        "steps": 50,
        "seed": 3,
        "num_workers": 0,
        "episode_steps": 20,
        "progress": False,
    }
    return generate_dataset(task, out, **{**settings, **changes})


def arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


def job(task: str, policy: LowLevelPolicy, steps: int, noise: float = 0.2) -> EpisodeJob:
    parsed = parse_generated(task)
    assert parsed is not None
    name, recipe = parsed
    return EpisodeJob(name, recipe, steps, 0, (0, 0), noise, 0.5, low_level=policy)


def test_the_policy_sees_proprioception_and_the_direction() -> None:
    # x and y, the first two of the maze's observation, are left out; the direction comes last.
    made = run_job(job(ANT, copying_policy([0, 12, 26, 27, 28]), steps=60, noise=0.0))
    proprioception = made["observations"][:, 2:]
    np.testing.assert_allclose(
        made["actions"][:, :3], 0.1 * proprioception[:, [0, 12, 26]].clip(-10, 10), atol=1e-6
    )
    directions = 10.0 * made["actions"][:, 3:5]
    np.testing.assert_allclose(np.linalg.norm(directions, axis=1), 1.0, atol=1e-4)
    # Each points to the middle of a cell beside the robot's own, where it heads for its goal.
    base, graph = maze("antmaze-medium-v0")
    for xy, direction in zip(made["qpos"][:, :2], directions, strict=True):
        cells = graph.neighbours(base.xy_to_ij(xy))
        ways = np.array([base.ij_to_xy(cell) for cell in cells]) - xy
        ways = ways / np.linalg.norm(ways, axis=1, keepdims=True)
        assert (ways @ direction).max() > 1.0 - 1e-4


@pytest.mark.parametrize(
    ("task", "robot", "sizes"),
    [(ANT, "ant", (29, 8, 15, 14)), (HUMANOID, "humanoid", (69, 21, 28, 27))],
)
def test_format_is_ogbenchs(
    tmp_path: Path, policies: dict[str, Path], task: str, robot: str, sizes: tuple[int, ...]
) -> None:
    path = make(task, tmp_path, policy=policies[robot])
    assert path.with_name(f"{path.stem}-val.npz").is_file()
    made = arrays(path)
    for name, size in zip(("observations", "actions", "qpos", "qvel"), sizes, strict=True):
        assert made[name].shape == (53, size)
        assert made[name].dtype == np.float32
        assert np.isfinite(made[name]).all()
    assert np.flatnonzero(made["terminals"]).tolist() == [20, 41, 52]
    assert np.abs(made["actions"]).max() <= 1.0
    np.testing.assert_array_equal(made["observations"][:, :2], made["qpos"][:, :2])
    facts = json.loads(str(made["generator"]))
    assert facts["noise"] == 0.2
    fingerprint = random_policy(robot).fingerprint
    assert facts["low_level_policy"] == f"sha256 {fingerprint}"
    # An ant starts on its feet; a humanoid starts lying down, and this one does not get up.
    ends = collect_legged.upright(task, made["qpos"][made["terminals"]])
    assert facts["episodes_that_end_fallen"] == (~ends).sum()
    assert ends.all() == (robot == "ant")

    env_name = task.replace("-v0", "-singletask-task3-v0")
    table = load_dataset(path, env_name)
    assert (table.num_steps, table.num_episodes) == (50, 3)
    env = make_env(env_name)
    check_fits(table, env.observation_space, env.action_space)


def test_same_members_as_the_shared_data(
    shared_data: Path, tmp_path: Path, policies: dict[str, Path]
) -> None:
    official = arrays(shared_data / "ogbench" / "antmaze-giant-navigate-v0-val.npz")
    made = arrays(make("antmaze-giant-navigate-v0", tmp_path, policy=policies["ant"]))
    assert made.keys() - official.keys() == {"generator"}
    for name, value in official.items():
        assert (made[name].dtype, made[name].shape[1:]) == (value.dtype, value.shape[1:])


@pytest.mark.slow
def test_same_bytes_whatever_the_number_of_workers(
    ray_session: None, tmp_path: Path, policies: dict[str, Path]
) -> None:
    two = make(ANT, tmp_path / "two", num_workers=2, policy=policies["ant"])
    here = make(ANT, tmp_path / "here", num_workers=0, policy=policies["ant"])
    assert two.read_bytes() == here.read_bytes()
    # The policy counts, not the name of its file.
    renamed = save_low_level_policy(tmp_path / "renamed.npz", random_policy("ant"))
    again = make(ANT, tmp_path / "again", policy=renamed)
    assert again.read_bytes() == here.read_bytes()
    longer = arrays(make(ANT, tmp_path / "longer", steps=60, policy=renamed))
    np.testing.assert_array_equal(longer["qpos"][:42], arrays(here)["qpos"][:42])


def test_upright() -> None:
    angles = np.radians([0.0, 45.0, 75.0, 100.0, 180.0])
    qpos = np.zeros((5, 28))
    qpos[:, 3], qpos[:, 5] = np.cos(angles / 2), np.sin(angles / 2)  # pitched by the angle
    assert collect_legged.upright("antmaze-giant", qpos).tolist() == [True] * 3 + [False] * 2
    assert collect_legged.upright("humanoidmaze-large", qpos).tolist() == [True] * 2 + [False] * 3


def test_of_attempts_that_all_fall_the_best_is_kept() -> None:
    policy = random_policy("humanoid")
    falling = job(HUMANOID, policy, steps=25)
    base, graph = maze("humanoidmaze-medium-v0")

    def act(obs: Any, direction: Any) -> Any:
        return policy.act(np.concatenate([obs[2:], direction]))

    attempts = []
    for attempt in range(collect_legged.MAX_ATTEMPTS):
        seed, random = falling.random(attempt)
        with global_numpy_random(random):
            attempts.append(walk(falling, base, graph, seed, act))
    standing = [collect_legged.upright(HUMANOID, rows["qpos"]) for rows in attempts]
    assert not any(rows[-1] for rows in standing)
    best = int(np.argmax([rows.sum() for rows in standing]))
    np.testing.assert_array_equal(run_job(falling)["qpos"], attempts[best]["qpos"])


def test_an_episode_that_ends_fallen_is_redrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    ant = job(ANT, random_policy("ant"), steps=5)
    first = run_job(ant)
    # From here an ant stands only if it is more upright than in that episode's last state.
    w, x, y, z = first["qpos"][-1, 3:7].astype(np.float64)
    upright = 1.0 - 2.0 * (x**2 + y**2) / (w**2 + x**2 + y**2 + z**2)
    monkeypatch.setitem(collect_legged._UPRIGHT, "antmaze", upright + 1e-6)
    assert not np.array_equal(first["qpos"][0], run_job(ant)["qpos"][0])


def test_names() -> None:
    names = policy_datasets()
    assert "antmaze-giant-navigate-v0" in names
    assert "humanoidmaze-medium-navigate-v0" in names
    assert not any("stitch" in name or "explore" in name or "point" in name for name in names)
    steps = {name: parsed[1].episode_steps for name in names if (parsed := parse_generated(name))}
    assert steps["antmaze-medium-navigate-v0"] == 1000
    assert steps["antmaze-giant-navigate-v0"] == 2000
    assert steps["humanoidmaze-giant-navigate-v0"] == 4000


@pytest.mark.parametrize(
    ("task", "robot", "message"),
    [
        (
            "antmaze-giant-navigate-v0",
            None,
            r"train_directional_policy\.py --robot ant .*--policy ant\.npz",
        ),
        ("amaze-gnt-t4", None, r"'antmaze-giant-navigate-v0': train one"),
        (HUMANOID, None, "--robot humanoid"),
        (
            HUMANOID,
            "ant",
            r"ant\.npz takes 29 numbers and gives 8; that of the humanoid .* takes 69 .*gives 21",
        ),
        ("cube-single-play-v0", "ant", "made by a script alone: leave out .*ant.npz"),
        ("antmaze-giant-navigte-v0", None, "antmaze-giant-navigate-v0"),
    ],
)
def test_bad_arguments(
    tmp_path: Path, policies: dict[str, Path], task: str, robot: str | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        make(task, tmp_path, policy=robot and policies[robot])
    assert "\n" not in str(caught.value)
    with pytest.raises(FileNotFoundError, match=r"no\.npz"):
        make(ANT, tmp_path, policy=tmp_path / "no.npz")
    assert not list(tmp_path.iterdir())
