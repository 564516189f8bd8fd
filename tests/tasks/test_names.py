"""Names of tasks and datasets, without any simulator."""

from __future__ import annotations

import pytest

from rllib_fmq.tasks import dataset_name, is_task, known_tasks
from rllib_fmq.tasks.names import parse_dataset, parse_task


def test_parse_task_with_dataset_type() -> None:
    parsed = parse_task("puzzle-4x5-noisy-singletask-task3-v0")
    assert parsed is not None
    assert (parsed.environment, parsed.dataset_type, parsed.task) == ("puzzle-4x5", "noisy", 3)
    assert parsed.gym_id == "puzzle-4x5-singletask-task3-v0"
    assert parsed.goal_conditioned_id == "puzzle-4x5-v0"
    assert parsed.dataset == "puzzle-4x5-noisy-v0"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cube-single-play-singletask-task2-v0", "cube-single-play-v0"),
        ("cube-single-singletask-task2-v0", "cube-single-play-v0"),
        ("cube-single-singletask-v0", "cube-single-play-v0"),
        ("antmaze-giant-stitch-singletask-task5-v0", "antmaze-giant-stitch-v0"),
        ("antmaze-giant-singletask-v0", "antmaze-giant-navigate-v0"),
        ("scene-play-singletask-v0", "scene-play-v0"),
    ],
)
def test_dataset_name(name: str, expected: str) -> None:
    assert dataset_name(name) == expected


@pytest.mark.parametrize(
    "name",
    [
        "Pendulum-v1",
        "cube-single-v0",
        "cube-single-play-v0",
        "cube-single-play-singletask-task6-v0",
        "cube-single-navigate-singletask-task1-v0",
        "xcube-single-play-singletask-task1-v0",
        "",
    ],
)
def test_not_a_task(name: str) -> None:
    assert parse_task(name) is None
    assert not is_task(name)
    with pytest.raises(ValueError, match="no dataset is known"):
        dataset_name(name)


def test_is_task_only_for_names_that_gymnasium_lacks() -> None:
    assert is_task("cube-single-play-singletask-task2-v0")
    assert not is_task("cube-single-singletask-task2-v0")


def test_known_tasks_parse_and_hold_the_papers_ogbench_tasks() -> None:
    tasks = known_tasks()
    assert len(tasks) == len(set(tasks))
    assert all(is_task(name) for name in tasks)
    environments = {
        "cube-double-play": (3, 4),
        "cube-triple-play": (3, 4),
        "scene-play": (4, 5),
        "humanoidmaze-medium-navigate": (3, 4),
        "antmaze-giant-navigate": (4, 5),
    }
    for environment, numbers in environments.items():
        for number in numbers:
            assert f"{environment}-singletask-task{number}-v0" in tasks


def test_parse_dataset() -> None:
    parsed = parse_dataset("cube-double-play-v0")
    assert parsed is not None
    assert parsed.dataset == "cube-double-play-v0"
    assert parse_dataset("cube-double-v0") is None
    assert parse_dataset("cube-double-play-singletask-task1-v0") is None
