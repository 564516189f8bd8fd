"""Which datasets can be generated here, and how their episodes are made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rllib_fmq.tasks.names import DATASET_TYPES, OGBenchName, parse_dataset, parse_task


@dataclass(frozen=True)
class Recipe:
    """How a dataset is made.

    Args:
        policy: "plan" or "markov" (OGBench's manipulation oracles), or "waypoint" (mazes).
        episode_steps: Transitions in a full episode.
        noise: Default action noise.
        random_actions: Probability of replacing an action by a uniform one.
    """

    policy: Literal["plan", "markov", "waypoint"]
    episode_steps: int
    noise: float
    random_actions: float = 0.0


# Source: the settings of the official datasets.
_RECIPES = {
    "play": Recipe("plan", episode_steps=1000, noise=0.1),
    "noisy": Recipe("markov", episode_steps=1000, noise=0.1, random_actions=0.1),
    "navigate": Recipe("waypoint", episode_steps=1000, noise=0.5),
}
_GIANT_NAVIGATE = Recipe("waypoint", episode_steps=2000, noise=0.5)


def _recipe(environment: str, kind: str) -> Recipe | None:
    if kind == "navigate" and not environment.startswith("pointmaze"):
        return None  # legged robots need a trained walking policy
    if environment == "pointmaze-giant" and kind == "navigate":
        return _GIANT_NAVIGATE
    return _RECIPES.get(kind)


def generated_datasets() -> list[str]:
    """Names of all datasets that can be generated here."""
    return [
        f"{environment}-{kind}-v0"
        for environment, kinds in DATASET_TYPES.items()
        for kind in kinds
        if _recipe(environment, kind) is not None
    ]


def parse_generated(task: str) -> tuple[OGBenchName, Recipe] | None:
    """What to generate for a name, and how.

    Args:
        task: Dataset name such as "cube-single-play-v0", or the name of a task on it.
    Returns:
        Parsed name and recipe; None if the name is neither or there is no scripted policy for it.
    """
    name = parse_dataset(task) or parse_task(task)
    if name is None:
        return None
    kind = name.dataset_type or DATASET_TYPES[name.environment][0]
    recipe = _recipe(name.environment, kind)
    return None if recipe is None else (name, recipe)


def can_generate(task: str) -> bool:
    """Whether `generate_dataset` can make the dataset of this dataset or task name."""
    return parse_generated(task) is not None
