"""Records of the tasks: names; sizes and limits against the simulators; the paper's scores."""

from __future__ import annotations

import gymnasium
import pytest

from rllib_fmq.tasks.catalog import all_tasks, find_task, paper_tasks, parse_robomimic
from rllib_fmq.tasks.names import DATASET_TYPES, PAPER_ALIASES
from rllib_fmq.tasks.registry import dataset_name, import_ogbench, is_task, make_env

SHORT_NAMES = (
    *("can", "square", "cube-dbl-t3", "cube-dbl-t4", "cube-trl-t3", "cube-trl-t4", "scene-t4"),
    *("scene-t5", "hmaze-med-t3", "hmaze-med-t4", "amaze-gnt-t4", "amaze-gnt-t5"),
)


def test_the_papers_twelve_in_its_order() -> None:
    assert tuple(task.short_name for task in paper_tasks()) == SHORT_NAMES == tuple(PAPER_ALIASES)
    for task in paper_tasks():
        assert {"QC", "MVP", "MVP + QGBS", "FMQ", "FMQ + QGBS"} <= set(task.paper_scores)
        assert all(0 <= mean <= 1 and 0 <= std < 0.3 for mean, std in task.paper_scores.values())


@pytest.mark.parametrize(
    ("name", "full", "dataset", "file"),
    [
        ("can", "can-mh", "can-mh", "robomimic/can/mh/low_dim_v15.hdf5"),
        ("can-ph", "can-ph", "can-ph", "robomimic/can/ph/low_dim_v15.hdf5"),
        ("square-mh-low_dim", "square-mh", "square-mh", "robomimic/square/mh/low_dim_v15.hdf5"),
        ("tool_hang", "tool_hang-ph", "tool_hang-ph", "robomimic/tool_hang/ph/low_dim_v15.hdf5"),
        *(
            (name, "cube-triple-play-singletask-task4-v0", "cube-triple-play-v0", file)
            for name, file in [
                ("cube-trl-t4", "cube-triple-play-v0.npz"),
                ("cube-triple-play-singletask-task4-v0", "cube-triple-play-v0.npz"),
                ("cube-triple-singletask-task4-v0", "cube-triple-play-v0.npz"),
            ]
        ),
        (
            "hmaze-med-t3",
            "humanoidmaze-medium-navigate-singletask-task3-v0",
            "humanoidmaze-medium-navigate-v0",
            "humanoidmaze-medium-navigate-v0.npz",
        ),
    ],
)
def test_every_name_of_a_task_finds_it(name: str, full: str, dataset: str, file: str) -> None:
    task = find_task(name)
    assert task is not None
    assert (task.name, task.dataset, task.dataset_file) == (full, dataset, file)
    assert dataset_name(name) == dataset
    assert find_task(task.name) == task
    assert (task.short_name is None) == (full not in PAPER_ALIASES.values())


@pytest.mark.parametrize("name", ["tool_hang-mh", "can-mg", "can-low_dim", "cube-dbl-t5", "canx"])
def test_what_is_no_task(name: str) -> None:
    assert find_task(name) is None and parse_robomimic(name) is None and not is_task(name)


def test_every_task_once_and_under_a_name_of_its_own() -> None:
    names = [task.name for task in all_tasks()]
    assert len(names) == len(set(names)) == 9 + 5 * sum(map(len, DATASET_TYPES.values()))
    assert all(find_task(name) is not None and is_task(name) for name in names)


def test_limits_are_those_that_ogbench_registers() -> None:
    pytest.importorskip("ogbench")
    import_ogbench()
    for task in all_tasks():
        if task.benchmark == "ogbench":
            spec = gymnasium.spec(f"{task.environment}-v0")
            assert spec.max_episode_steps == task.max_episode_steps, task.name


@pytest.mark.slow
@pytest.mark.parametrize("name", SHORT_NAMES)
def test_the_papers_tasks_make_reset_and_step(name: str) -> None:
    task = find_task(name)
    assert task is not None
    env = make_env(name)
    try:
        obs, info = env.reset(seed=0)
        assert obs.shape == (task.obs_dim,) and env.observation_space.contains(obs)
        assert env.action_space.shape == (task.action_dim,) and info == {"success": False}
        assert env.spec is not None and env.spec.max_episode_steps == task.max_episode_steps
        env.action_space.seed(0)
        for _ in range(3):
            obs, reward, terminated, truncated, info = env.step(env.action_space.sample())
            assert obs.shape == (task.obs_dim,) and info == {"success": False}
            assert reward < 0 and not terminated and not truncated
    finally:
        env.close()
