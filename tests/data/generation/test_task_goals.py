"""Directed episodes: they start in a task's initial state and meet its goal, by OGBench's rule."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rllib_fmq.data.formats.ogbench_npz import relabel
from rllib_fmq.data.generation import generate
from rllib_fmq.data.generation.collect import EpisodeJob, run_job
from rllib_fmq.data.generation.collect_manipulation import _scene
from rllib_fmq.data.generation.families import parse_generated
from rllib_fmq.data.generation.generate import generate_dataset
from rllib_fmq.data.generation.task_goals import plan_cubes, plan_puzzle, solve_lights_out
from rllib_fmq.tasks import make_env
from rllib_fmq.tasks.names import parse_task

pytest.importorskip("ogbench")


def press(rows: int, columns: int, buttons: Any) -> Any:
    """Lights Out the slow way: flip each pressed button and its neighbours."""
    board = np.zeros((rows, columns), int)
    for i, j in zip(*np.nonzero(np.reshape(buttons, (rows, columns))), strict=True):
        for k, m in ((i, j), (i + 1, j), (i - 1, j), (i, j + 1), (i, j - 1)):
            if 0 <= k < rows and 0 <= m < columns:
                board[k, m] ^= 1
    return board.ravel()


@pytest.mark.parametrize(("rows", "columns"), [(3, 3), (4, 4), (4, 5), (4, 6), (1, 2)])
def test_lights_out(rows: int, columns: int) -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        change = press(rows, columns, rng.integers(2, size=rows * columns))
        presses = solve_lights_out(rows, columns, change)
        assert presses is not None
        np.testing.assert_array_equal(press(rows, columns, presses), change)


def test_lights_out_without_solution() -> None:
    # Of the 2^16 boards of 4 x 4, only 2^12 can be reached.
    solvable = [
        solve_lights_out(4, 4, np.eye(16, dtype=int)[button]) is not None for button in range(16)
    ]
    assert not any(solvable)
    assert solve_lights_out(3, 3, np.zeros(9, int)) is not None


def cubes_at(positions: Any, environment: str = "cube-triple-v0") -> Any:
    scene = _scene(environment)
    scene.restore()
    scene.base.reset(seed=0)
    for i, xyz in enumerate(positions):
        scene.base._data.joint(f"object_joint_{i}").qpos[:3] = xyz
    return scene.base


def chosen(base: Any, goals: Any) -> set[int]:
    """Which cubes may be next."""
    targets = [plan_cubes(base, np.array(goals)) for _ in range(30)]
    return {-1 if target is None else target.index for target in targets}


def test_order_of_cubes() -> None:
    a, b, c = (0.35, 0.0, 0.02), (0.5, -0.1, 0.02), (0.5, 0.1, 0.02)
    table = [a, b, c]
    assert chosen(cubes_at(table), table) == {-1}
    near = [(0.35, 0.03, 0.02), b, c]
    assert chosen(cubes_at(near), table) == {-1}  # OGBench's tolerance
    # Free goals: any of the two that are not in place.
    assert chosen(cubes_at(table), [a, (0.4, -0.2, 0.02), (0.4, 0.2, 0.02)]) == {1, 2}
    # A stack is built from below ...
    stack = [(0.425, 0.2, 0.02), (0.425, 0.2, 0.06), (0.425, 0.2, 0.10)]
    assert chosen(cubes_at(table), stack) == {0}
    assert chosen(cubes_at([stack[0], b, c]), stack) == {1}
    # ... and taken down from above.
    assert chosen(cubes_at(stack), table) == {2}
    # In a cycle every goal is taken: one cube is parked, away from goals and cubes.
    base = cubes_at(table)
    target = plan_cubes(base, np.array([b, c, a]))
    assert target is not None
    spot = np.array(target.position)
    assert spot[2] == 0.02
    assert min(np.linalg.norm(spot[:2] - np.array(p)[:2]) for p in table) > 0.05


def test_unreachable_boards_are_left() -> None:
    scene = _scene("puzzle-4x4-v0")
    scene.restore()
    scene.base.reset(seed=0)
    goal = scene.base._cur_button_states.copy()
    assert plan_puzzle(scene.base, goal) is None
    goal[0] ^= 1
    assert plan_puzzle(scene.base, goal) is None
    goal = (scene.base._cur_button_states + press(4, 4, np.arange(16) == 5)) % 2
    target = plan_puzzle(scene.base, goal)
    assert target is not None and target.kind == "button"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dataset", "task", "steps"),
    [
        ("cube-double-play-v0", 4, 300),  # a swap: one cube must be parked
        ("cube-triple-play-v0", 3, 450),  # from a stack
        ("scene-play-v0", 5, 420),  # both locks, the drawer twice, the cube, the window
        ("puzzle-3x3-play-v0", 1, 330),
        ("cube-single-noisy-v0", 2, 200),  # the closed-loop oracle
    ],
)
def test_a_directed_episode_solves_its_task(dataset: str, task: int, steps: int) -> None:
    parsed = parse_generated(dataset)
    assert parsed is not None
    name, recipe = parsed
    # The second attempt is for bad luck: the oracles' noise may knock an object over.
    for number in range(2):
        job = EpisodeJob(name, recipe, steps, 0, (0, number), 0.1, 0.5, task=task)
        made = run_job(job)
        solved = successes(dataset, task, made)
        if solved.any():
            break
    assert solved.any()
    assert not solved[:20].any()  # it does not start in the goal


def successes(dataset: str, task: int, states: dict[str, np.ndarray]) -> np.ndarray:
    env_name = dataset.replace("-v0", f"-singletask-task{task}-v0")
    parsed = parse_task(env_name)
    assert parsed is not None
    env = make_env(env_name)
    rows = np.arange(len(states["terminals"]))
    _, solved = relabel(env, parsed.gym_id, states, rows)
    return solved


@pytest.mark.parametrize("dataset", ["cube-double-play-v0", "scene-play-v0", "puzzle-3x3-play-v0"])
def test_starts_in_the_tasks_initial_state(dataset: str) -> None:
    parsed = parse_generated(dataset)
    assert parsed is not None
    name, recipe = parsed
    made = run_job(EpisodeJob(name, recipe, 1, 0, (0, 0), 0.1, 0.5, task=2))
    # What the environment itself starts the task with differs by its own random offsets alone.
    env: Any = make_env(dataset.replace("-v0", "-singletask-task2-v0"))
    env.reset(seed=0)
    state = env.unwrapped
    for i in range(getattr(state, "_num_cubes", 0)):
        own = state._data.joint(f"object_joint_{i}").qpos[:3]
        np.testing.assert_allclose(made["qpos"][0, 14 + 7 * i : 17 + 7 * i], own, atol=0.025)
    if "button_states" in made:
        np.testing.assert_array_equal(made["button_states"][0], state._cur_button_states)
    if name.environment == "scene":
        slides = [state._data.joint(f"{part}_slide").qpos[0] for part in ("drawer", "window")]
        np.testing.assert_allclose(made["qpos"][0, 23:25], slides, atol=0.025)
        assert made["observations"][0].shape == (40,)


def test_share_of_directed_episodes() -> None:
    for fraction, expected in ((0.0, 0), (0.25, 25), (0.5, 50), (1.0, 100), (0.01, 1)):
        tasks = [generate._first_task(number, fraction) for number in range(100)]
        directed = [task for task in tasks if task is not None]
        assert len(directed) == expected
        assert directed == [1 + i % 5 for i in range(expected)]  # all tasks in turn


def test_goal_fraction_of_a_dataset(tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "steps": 40,
        "seed": 3,
        "num_workers": 0,
        "episode_steps": 20,
        "val_fraction": 0.0,
        "progress": False,
    }
    task = "cube-double-play-v0"
    plain = generate_dataset(task, tmp_path / "plain", **settings)
    none = generate_dataset(task, tmp_path / "none", goal_fraction=0.0, **settings)
    assert plain.read_bytes() == none.read_bytes()
    half = generate_dataset(task, tmp_path / "half", goal_fraction=0.5, **settings)
    with np.load(plain) as random, np.load(half) as directed:
        # Every second episode is directed; the others are those of the plain dataset.
        np.testing.assert_array_equal(random["qpos"][:21], directed["qpos"][:21])
        assert not np.array_equal(random["qpos"][21], directed["qpos"][21])
        assert json.loads(str(directed["generator"]))["goal_fraction"] == 0.5
    for fraction in (-0.1, 1.1, float("nan")):
        with pytest.raises(
            ValueError, match=f"goal_fraction must be between 0 and 1, got {fraction}"
        ):
            generate_dataset(task, tmp_path / "bad", goal_fraction=fraction, **settings)
    with pytest.raises(ValueError, match="goal_fraction is for cubes, scene and puzzles"):
        generate_dataset(
            "pointmaze-medium-navigate-v0", tmp_path / "bad", goal_fraction=0.5, **settings
        )
    assert not (tmp_path / "bad").exists()
