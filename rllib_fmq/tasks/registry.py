"""Tasks by name: OGBench single tasks, and any Gymnasium id as fallback."""

from __future__ import annotations

import difflib
import functools
import warnings
from types import ModuleType
from typing import Any

import gymnasium

from rllib_fmq.tasks.names import DATASET_TYPES, NUM_TASKS, parse_dataset, parse_task
from rllib_fmq.tasks.seeding import SeededReset


@functools.cache
def import_ogbench() -> ModuleType:
    """Import OGBench, which registers its environments with Gymnasium.

    Raises:
        ModuleNotFoundError: If it is not installed, with the command that installs it.
    """
    try:
        import ogbench
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"this task needs the package {error.name!r}, which is not installed: "
            "pip install 'rllib-fmq[ogbench]'",
            name=error.name,
        ) from error
    return ogbench  # type: ignore[no-any-return]


def known_tasks() -> list[str]:
    """Names of all state-based OGBench single tasks, dataset type and task number included."""
    return sorted(
        f"{environment}-{kind}-singletask-task{task}-v0"
        for environment, kinds in DATASET_TYPES.items()
        for kind in kinds
        for task in range(1, NUM_TASKS + 1)
    )


def is_task(name: str) -> bool:
    """Whether only `make_env` can make this name, not `gymnasium.make`.

    True for OGBench single-task names that carry a dataset type, such as
    "cube-single-play-singletask-task2-v0".
    """
    parsed = parse_task(name)
    return parsed is not None and parsed.dataset_type is not None


def dataset_name(env_name: str) -> str:
    """Name of the dataset that belongs to a task.

    Args:
        env_name: OGBench single-task name such as "cube-single-play-singletask-task2-v0".
    Returns:
        Name without extension, such as "cube-single-play-v0".
    Raises:
        ValueError: If the name is not an OGBench single task.
    """
    parsed = parse_task(env_name)
    if parsed is None:
        raise ValueError(
            f"no dataset is known for environment {env_name!r}: it is not an OGBench single task "
            f"such as 'cube-single-play-singletask-task2-v0'{_suggestion(env_name)}. "
            "Name the dataset's file instead."
        )
    return parsed.dataset


def make_env(name: str, *, full_info: bool = False, **kwargs: Any) -> gymnasium.Env[Any, Any]:
    """Make an environment by name.

    OGBench single tasks get reproducible resets; their info holds only `success` (a bool), unless
    `full_info`. They end on success, in the step after the goal state was reached, and are
    truncated at the registered limit. Observations are float64, as OGBench makes them.

    Args:
        name: OGBench single-task name, with or without the dataset type, or any Gymnasium id.
        full_info: Keep everything OGBench puts into `info`.
        **kwargs: Passed to `gymnasium.make`.
    Raises:
        ValueError: If there is no such environment, with the closest names.
        ModuleNotFoundError: If the task's simulator is not installed.
    """
    parsed = parse_task(name)
    if parsed is not None:
        import_ogbench()
        with warnings.catch_warnings():
            # The simulators probe for a display when first used; only rendering needs one.
            warnings.simplefilter("ignore")
            # The checker's one-time tests would draw from the environment's generators.
            env = gymnasium.make(parsed.gym_id, disable_env_checker=True, **kwargs)
        return SeededReset(env, full_info=full_info)
    if parse_dataset(name) is not None:
        raise ValueError(
            f"{name!r} names a dataset, not an environment: use "
            f"{name.replace('-v', '-singletask-task1-v')!r}, or another of its tasks 1 to "
            f"{NUM_TASKS}."
        )
    try:
        return gymnasium.make(name, **kwargs)
    except (gymnasium.error.Error, ModuleNotFoundError) as error:
        if name in gymnasium.registry:  # the name is right, something it needs is not there
            raise
        raise ValueError(f"unknown environment {name!r}{_suggestion(name)}. ({error})") from error


def _suggestion(name: str) -> str:
    candidates = [*known_tasks(), *gymnasium.registry]
    close = difflib.get_close_matches(name, candidates, n=3, cutoff=0.6)
    return f"; did you mean {', '.join(map(repr, close))}?" if close else ""
