"""Environments by name: the paper's tasks, OGBench, RoboMimic, factories, any Gymnasium id."""

from __future__ import annotations

import difflib
import functools
import warnings
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

import gymnasium

from rllib_fmq.tasks.catalog import all_tasks, find_task, parse_robomimic
from rllib_fmq.tasks.custom import (
    ReportSuccess,
    SuccessFunction,
    check_limit,
    is_factory,
    make_from_factory,
    resolve_success_fn,
)
from rllib_fmq.tasks.names import NUM_TASKS, PAPER_ALIASES, parse_dataset, parse_task
from rllib_fmq.tasks.seeding import SeededReset

ROBOMIMIC_FILE = "robomimic:"
"""Prefix of an environment that a RoboMimic dataset describes: "robomimic:FILE.hdf5"."""


@functools.cache
def import_ogbench() -> ModuleType:
    """Import OGBench, which registers its environments with Gymnasium.

    Raises:
        ModuleNotFoundError: If it is not installed, with the command that installs it.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its simulator probes for a display
            import ogbench
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"this task needs the package {error.name!r}, which is not installed: "
            "pip install 'rllib-fmq[ogbench]'",
            name=error.name,
        ) from error
    return ogbench  # type: ignore[no-any-return]


def known_tasks() -> list[str]:
    """Names of all tasks: the paper's short ones, RoboMimic's, and every OGBench single task."""
    return sorted({*PAPER_ALIASES, *(task.name for task in all_tasks())})


def is_task(name: str) -> bool:
    """Whether only `make_env` can make this name, not `gymnasium.make`.

    True for the paper's short names, RoboMimic's names, "robomimic:FILE", OGBench single-task
    names that carry a dataset type, and "module:factory".

    Args:
        name: Of an environment.
    """
    if name in PAPER_ALIASES or name.startswith(ROBOMIMIC_FILE) or parse_robomimic(name):
        return True
    parsed = parse_task(name)
    if parsed is not None:
        return parsed.dataset_type is not None
    return is_factory(name)


def dataset_name(env_name: str) -> str:
    """Name of the dataset that belongs to a task.

    Args:
        env_name: Any name of a task, such as "cube-dbl-t3" or "can".
    Returns:
        Such as "cube-double-play-v0" or "can-mh".
    Raises:
        ValueError: If there is no such task.
    """
    task = find_task(env_name)
    if task is None:
        raise ValueError(
            f"no dataset is known for environment {env_name!r}: it is not a task such as "
            f"'cube-dbl-t3', 'can' or 'cube-single-play-singletask-task2-v0'"
            f"{_suggestion(env_name, known_tasks())}. Name the dataset's file instead."
        )
    return task.dataset


def make_env(
    name: str,
    *,
    full_info: bool = False,
    success_fn: str | SuccessFunction | None = None,
    max_episode_steps: int | None = None,
    **kwargs: Any,
) -> gymnasium.Env[Any, Any]:
    """Make an environment by name.

    OGBench single tasks get reproducible resets; their info holds only `success` (a bool), unless
    `full_info`. They end on success, in the step after the goal state was reached, and are
    truncated at the registered limit. Observations are float64, as OGBench makes them. RoboMimic's
    tasks are described in `rllib_fmq.tasks.robomimic`.

    Args:
        name: A task by any of its names ("cube-dbl-t3", "can", "scene-play-singletask-task4-v0",
            with or without dataset type), "robomimic:FILE" (the environment that a RoboMimic
            dataset describes), "module:factory", or any Gymnasium id ("module:id" too).
        full_info: Keep everything OGBench puts into `info`; OGBench only.
        success_fn: Function of (observation, reward, terminated, truncated, info), or
            "module:function"; sets `info["success"]`.
        max_episode_steps: Episode limit in place of the environment's own.
        **kwargs: Passed to `gymnasium.make`, to the factory, or to RoboMimic's environment.
    Raises:
        ValueError: If there is no such environment, with the closest names.
        ModuleNotFoundError: If the task's simulator is not installed.
    """
    reports = resolve_success_fn(success_fn)
    check_limit(max_episode_steps)
    if max_episode_steps is not None:
        kwargs["max_episode_steps"] = max_episode_steps
    env = _make(name, full_info, kwargs)
    return env if reports is None else ReportSuccess(env, reports)


def _make(name: str, full_info: bool, kwargs: dict[str, Any]) -> gymnasium.Env[Any, Any]:
    if name.startswith(ROBOMIMIC_FILE):
        from rllib_fmq.tasks.robomimic import make_robomimic_env, read_env_args

        if "env_args" not in kwargs:
            path = Path(name.removeprefix(ROBOMIMIC_FILE)).expanduser()
            kwargs["env_args"] = read_env_args(path)
        return make_robomimic_env(None, **kwargs)
    if parse_robomimic(name):
        from rllib_fmq.tasks.robomimic import make_robomimic_env

        return make_robomimic_env(find_task(name), **kwargs)
    if parse_task(name) is not None:
        return _make_ogbench(name, full_info, kwargs)
    if parse_dataset(name) is not None:
        raise ValueError(
            f"{name!r} names a dataset, not an environment: use "
            f"{name.replace('-v', '-singletask-task1-v')!r}, or another of its tasks 1 to "
            f"{NUM_TASKS}."
        )
    if is_factory(name):
        return make_from_factory(name, **kwargs)
    try:
        return gymnasium.make(name, **kwargs)
    except (gymnasium.error.Error, ModuleNotFoundError) as error:
        if name in gymnasium.registry:  # the name is right, something it needs is not there
            raise
        raise ValueError(f"unknown environment {name!r}{_suggestion(name)}. ({error})") from error


def _make_ogbench(name: str, full_info: bool, kwargs: dict[str, Any]) -> gymnasium.Env[Any, Any]:
    parsed = parse_task(name)
    assert parsed is not None
    import_ogbench()
    with warnings.catch_warnings():
        # The simulators probe for a display when first used; only rendering needs one.
        warnings.simplefilter("ignore")
        # The checker's one-time tests would draw from the environment's generators.
        try:
            env = gymnasium.make(parsed.gym_id, disable_env_checker=True, **kwargs)
        except gymnasium.error.UnregisteredEnv as error:  # another version than v0
            raise ValueError(
                f"unknown environment {name!r}{_suggestion(name)}. ({error})"
            ) from error
    return SeededReset(env, full_info=full_info)


def _suggestion(name: str, known: Iterable[str] | None = None) -> str:
    candidates = [*known_tasks(), *gymnasium.registry] if known is None else known
    close = difflib.get_close_matches(name, candidates, n=3, cutoff=0.6)
    return f"; did you mean {', '.join(map(repr, close))}?" if close else ""
