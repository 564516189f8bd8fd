"""One record for each named task: environment, dataset, rewards, limits, the paper's scores.

Usable without importing a simulator. Names that are accepted, all of one task:

    cube-dbl-t3                              the paper's short name
    cube-double-play-singletask-task3-v0     OGBench's
    can, can-mh, can-mh-low_dim              RoboMimic's
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from rllib_fmq.tasks.names import DATASET_TYPES, NUM_TASKS, PAPER_ALIASES, OGBenchName, parse_task
from rllib_fmq.tasks.paper import PAPER_SCORES

Score = tuple[float, float]


@dataclass(frozen=True)
class Task:
    """What is known of a task before anything is started.

    Args:
        name: Canonical name, such as "cube-double-play-singletask-task3-v0" or "can-mh".
        benchmark: "ogbench" or "robomimic".
        environment: Environment without version ("cube-double") or robosuite's ("PickPlaceCan").
        dataset: Name of the dataset, such as "cube-double-play-v0" or "can-mh".
        dataset_file: Where a data folder holds it, relative to that folder.
        rewards: The reward convention, in words.
        reward_shift: Number that is added to the stored (and to the simulator's) rewards.
        max_episode_steps: Primitive steps after which an episode is truncated.
        obs_dim: Size of an observation.
        action_dim: Size of a primitive action.
        horizon_length: H that the paper uses.
        short_name: The paper's, if it is one of its twelve.
        paper_scores: Success rate per method as (mean, standard deviation), Table 1.
    """

    name: str
    benchmark: Literal["ogbench", "robomimic"]
    environment: str
    dataset: str
    dataset_file: str
    rewards: str
    reward_shift: float
    max_episode_steps: int
    obs_dim: int
    action_dim: int
    horizon_length: int = 5
    short_name: str | None = None
    paper_scores: Mapping[str, Score] = field(default_factory=dict)


@dataclass(frozen=True)
class RoboMimicSpec:
    """A RoboMimic task: robosuite's environment, and whose demonstrations there are.

    Args:
        environment: robosuite's name.
        sources: "mh" (multi-human) and "ph" (proficient human), the default first.
        max_episode_steps: Limit that robosuite leaves to us.
        robots: Number of Panda arms.
        object_dim: Size of the observation `object`.
    """

    environment: str
    sources: tuple[str, ...]
    max_episode_steps: int
    robots: int
    object_dim: int


# The limits are those under which offline-to-online methods are compared on these tasks.
ROBOMIMIC: dict[str, RoboMimicSpec] = {
    "lift": RoboMimicSpec("Lift", ("mh", "ph"), 300, 1, 10),
    "can": RoboMimicSpec("PickPlaceCan", ("mh", "ph"), 300, 1, 14),
    "square": RoboMimicSpec("NutAssemblySquare", ("mh", "ph"), 400, 1, 14),
    "transport": RoboMimicSpec("TwoArmTransport", ("mh", "ph"), 800, 2, 41),
    "tool_hang": RoboMimicSpec("ToolHang", ("ph",), 1000, 1, 44),
}
"""RoboMimic's tasks by name."""

REWARD_SHIFT = -1.0
"""Added to RoboMimic's 0/1 success reward, in the dataset and in the environment alike."""
_EEF_AND_GRIPPER = 9  # eef_pos 3, eef_quat 4, gripper_qpos 2, of each robot
_ARM_ACTION = 7

# (episode limit, observation size, action size); OGBench's own, checked by a test.
_OGBENCH: dict[str, tuple[int, int, int]] = {
    **{f"pointmaze-{size}": (1000, 2, 2) for size in ("medium", "large", "giant", "teleport")},
    **{f"antmaze-{size}": (1000, 29, 8) for size in ("medium", "large", "giant", "teleport")},
    "humanoidmaze-medium": (2000, 69, 21),
    "humanoidmaze-large": (2000, 69, 21),
    "humanoidmaze-giant": (4000, 69, 21),
    "antsoccer-arena": (1000, 42, 8),
    "antsoccer-medium": (1000, 42, 8),
    "cube-single": (200, 28, 5),
    "cube-double": (500, 37, 5),
    "cube-triple": (1000, 46, 5),
    "cube-quadruple": (1000, 55, 5),
    "cube-octuple": (1500, 91, 5),
    "scene": (750, 40, 5),
    "puzzle-3x3": (500, 55, 5),
    "puzzle-4x4": (500, 83, 5),
    "puzzle-4x5": (1000, 99, 5),
    "puzzle-4x6": (1000, 115, 5),
}

_SHORT_NAMES = {full: short for short, full in PAPER_ALIASES.items()}


def parse_robomimic(name: str) -> tuple[str, str] | None:
    """Split a RoboMimic name into task and source of its demonstrations; None if it is not one.

    Args:
        name: Such as "can", "can-ph" or "can-mh-low_dim".
    """
    task, _, source = name.removesuffix("-low_dim").partition("-")
    spec = ROBOMIMIC.get(task)
    if spec is None or (source and source not in spec.sources):
        return None
    if name.endswith("-low_dim") and not source:
        return None
    return task, source or spec.sources[0]


def robomimic_task(task: str, source: str) -> Task:
    """Record of a RoboMimic task.

    Args:
        task: Key of `ROBOMIMIC`.
        source: One of its sources.
    """
    spec = ROBOMIMIC[task]
    name = f"{task}-{source}"
    short = task if name in _SHORT_NAMES else None
    return Task(
        name=name,
        benchmark="robomimic",
        environment=spec.environment,
        dataset=name,
        dataset_file=f"robomimic/{task}/{source}/low_dim_v15.hdf5",
        rewards="0 on success, which ends the episode, else -1",
        reward_shift=REWARD_SHIFT,
        max_episode_steps=spec.max_episode_steps,
        obs_dim=spec.robots * _EEF_AND_GRIPPER + spec.object_dim,
        action_dim=spec.robots * _ARM_ACTION,
        short_name=short,
        paper_scores=PAPER_SCORES.get(short or "", {}),
    )


def ogbench_task(name: OGBenchName) -> Task:
    """Record of an OGBench single task.

    Args:
        name: Parsed name; a missing dataset type or task number is the default one.
    """
    kind = name.dataset_type or DATASET_TYPES[name.environment][0]
    task = "" if name.task is None else f"-task{name.task}"
    full = f"{name.environment}-{kind}-singletask{task}-{name.version}"
    limit, obs_dim, action_dim = _OGBENCH[name.environment]
    manipulation = name.environment.startswith(("cube", "scene", "puzzle"))
    short = _SHORT_NAMES.get(full)
    return Task(
        name=full,
        benchmark="ogbench",
        environment=name.environment,
        dataset=name.dataset,
        dataset_file=f"{name.dataset}.npz",
        rewards=(
            "minus the number of unsolved sub-goals; success ends the episode"
            if manipulation
            else "-1 until the goal is reached, which ends the episode"
        ),
        reward_shift=0.0,
        max_episode_steps=limit,
        obs_dim=obs_dim,
        action_dim=action_dim,
        short_name=short,
        paper_scores=PAPER_SCORES.get(short or "", {}),
    )


def find_task(name: str) -> Task | None:
    """Record of a task by any of its names; None if there is no such task.

    Args:
        name: The paper's short name, OGBench's single-task name or RoboMimic's name.
    """
    robomimic = parse_robomimic(name)
    if robomimic is not None:
        return robomimic_task(*robomimic)
    ogbench = parse_task(name)
    return None if ogbench is None else ogbench_task(ogbench)


def paper_tasks() -> list[Task]:
    """The paper's twelve tasks, in the order of its Table 1."""
    tasks = [find_task(name) for name in PAPER_SCORES]
    return [task for task in tasks if task is not None]


def all_tasks() -> list[Task]:
    """The paper's tasks first, then every other OGBench single task and RoboMimic task."""
    tasks = {task.name: task for task in paper_tasks()}
    for name, spec in ROBOMIMIC.items():
        for source in spec.sources:
            tasks.setdefault(f"{name}-{source}", robomimic_task(name, source))
    for environment, kinds in DATASET_TYPES.items():
        for kind in kinds:
            for number in range(1, NUM_TASKS + 1):
                task = ogbench_task(OGBenchName(environment, kind, number, "v0"))
                tasks.setdefault(task.name, task)
    return list(tasks.values())
