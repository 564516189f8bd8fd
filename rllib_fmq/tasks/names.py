"""Grammar of OGBench task names, usable without importing the simulators.

    cube-double-play-singletask-task3-v0
    <environment>-<dataset type>-singletask[-task<1..5>]-<version>

The dataset type may be left out (that is the id OGBench registers with Gymnasium); its official
dataset is then the environment's first type below.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_MAZE = ("navigate", "stitch")
_ANTMAZE = ("navigate", "stitch", "explore")
_MANIPULATION = ("play", "noisy")

DATASET_TYPES: dict[str, tuple[str, ...]] = {
    **{f"pointmaze-{size}": _MAZE for size in ("medium", "large", "giant", "teleport")},
    **{f"antmaze-{size}": _ANTMAZE for size in ("medium", "large", "giant", "teleport")},
    # OGBench names humanoidmaze-teleport too, but its model does not compile (ogbench 1.2.2).
    **{f"humanoidmaze-{size}": _MAZE for size in ("medium", "large", "giant")},
    **{f"antsoccer-{size}": _MAZE for size in ("arena", "medium")},
    **{
        f"cube-{count}": _MANIPULATION
        for count in ("single", "double", "triple", "quadruple", "octuple")
    },
    "scene": _MANIPULATION,
    **{f"puzzle-{size}": _MANIPULATION for size in ("3x3", "4x4", "4x5", "4x6")},
}
"""Dataset types of each state-based OGBench environment, the default first."""

NUM_TASKS = 5
"""Every OGBench environment defines five evaluation tasks, numbered from 1."""

PAPER_ALIASES: dict[str, str] = {
    "can": "can-mh",
    "square": "square-mh",
    **{f"cube-dbl-t{task}": f"cube-double-play-singletask-task{task}-v0" for task in (3, 4)},
    **{f"cube-trl-t{task}": f"cube-triple-play-singletask-task{task}-v0" for task in (3, 4)},
    **{f"scene-t{task}": f"scene-play-singletask-task{task}-v0" for task in (4, 5)},
    **{
        f"hmaze-med-t{task}": f"humanoidmaze-medium-navigate-singletask-task{task}-v0"
        for task in (3, 4)
    },
    **{f"amaze-gnt-t{task}": f"antmaze-giant-navigate-singletask-task{task}-v0" for task in (4, 5)},
}
"""The paper's short names of its twelve tasks, and the benchmarks' own."""

_ENVIRONMENT = "|".join(sorted(map(re.escape, DATASET_TYPES), key=len, reverse=True))
_TYPE = "|".join(dict.fromkeys(kind for kinds in DATASET_TYPES.values() for kind in kinds))
_TASK_NAME = re.compile(
    rf"(?P<environment>{_ENVIRONMENT})(?:-(?P<kind>{_TYPE}))?"
    rf"-singletask(?:-task(?P<task>[1-{NUM_TASKS}]))?-(?P<version>v\d+)"
)
_DATASET_NAME = re.compile(
    rf"(?P<environment>{_ENVIRONMENT})-(?P<kind>{_TYPE})(?P<task>)-(?P<version>v\d+)"
)


@dataclass(frozen=True)
class OGBenchName:
    """A parsed OGBench name.

    Args:
        environment: Environment without version, such as "cube-double".
        dataset_type: "play", "noisy", "navigate", "stitch" or "explore"; None if not named.
        task: Task number 1 to 5; None is OGBench's default task.
        version: Version suffix, such as "v0".
    """

    environment: str
    dataset_type: str | None
    task: int | None
    version: str

    @property
    def gym_id(self) -> str:
        """Id under which OGBench registers the single-task environment with Gymnasium."""
        suffix = "" if self.task is None else f"-task{self.task}"
        return f"{self.environment}-singletask{suffix}-{self.version}"

    @property
    def goal_conditioned_id(self) -> str:
        """Gymnasium id of the goal-conditioned environment, which also collects datasets."""
        return f"{self.environment}-{self.version}"

    @property
    def dataset(self) -> str:
        """Name of the dataset, without extension; the default type if none was named."""
        kind = self.dataset_type or DATASET_TYPES[self.environment][0]
        return f"{self.environment}-{kind}-{self.version}"


def _parse(pattern: re.Pattern[str], name: str) -> OGBenchName | None:
    match = pattern.fullmatch(name)
    if match is None:
        return None
    environment, kind = match["environment"], match["kind"]
    if kind is not None and kind not in DATASET_TYPES[environment]:
        return None
    task = int(match["task"]) if match["task"] else None
    return OGBenchName(environment, kind, task, match["version"])


def parse_task(name: str) -> OGBenchName | None:
    """Parse a single-task name, with or without its dataset type; None if it is not one.

    Args:
        name: OGBench's name, or the paper's short one.
    """
    return _parse(_TASK_NAME, PAPER_ALIASES.get(name, name))


def parse_dataset(name: str) -> OGBenchName | None:
    """Parse a dataset name such as "cube-single-play-v0"; None if it is not one."""
    return _parse(_DATASET_NAME, name)
