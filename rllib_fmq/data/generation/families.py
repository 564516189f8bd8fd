"""Which datasets can be generated here, and how their episodes are made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rllib_fmq.tasks.names import DATASET_TYPES, OGBenchName, parse_dataset, parse_task


@dataclass(frozen=True)
class Recipe:
    """How a dataset is made.

    Args:
        policy: "plan" or "markov" (OGBench's manipulation oracles), "waypoint" (point mazes), or
            "legged" (mazes with a robot, whose joints a trained low-level policy moves).
        episode_steps: Transitions in a full episode.
        noise: Default action noise.
        random_actions: Probability of replacing an action by a uniform one.
    """

    policy: Literal["plan", "markov", "waypoint", "legged"]
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
_LEGGED_NOISE = 0.2
# Steps of a full episode, for the other environments 1000.
_LEGGED_EPISODES = {
    "antmaze-giant": 2000,
    "humanoidmaze-medium": 2000,
    "humanoidmaze-large": 2000,
    "humanoidmaze-giant": 4000,
}


def _recipe(environment: str, kind: str) -> Recipe | None:
    if kind == "navigate" and environment.startswith(("antmaze", "humanoidmaze")):
        steps = _LEGGED_EPISODES.get(environment, 1000)
        return Recipe("legged", episode_steps=steps, noise=_LEGGED_NOISE)
    if kind == "navigate" and not environment.startswith("pointmaze"):
        return None  # no script dribbles a ball
    if environment == "pointmaze-giant" and kind == "navigate":
        return _GIANT_NAVIGATE
    return _RECIPES.get(kind)


def _names(legged: bool) -> list[str]:
    recipes = {
        f"{environment}-{kind}-v0": _recipe(environment, kind)
        for environment, kinds in DATASET_TYPES.items()
        for kind in kinds
    }
    return [
        name
        for name, recipe in recipes.items()
        if recipe is not None and (recipe.policy == "legged") == legged
    ]


def generated_datasets() -> list[str]:
    """Names of all datasets that can be generated here by scripts alone."""
    return _names(legged=False)


def policy_datasets() -> list[str]:
    """Names of all datasets that can be generated here with a trained low-level policy."""
    return _names(legged=True)


def parse_generated(task: str) -> tuple[OGBenchName, Recipe] | None:
    """What to generate for a name, and how.

    Args:
        task: Dataset name such as "cube-single-play-v0", or the name of a task on it.
    Returns:
        Parsed name and recipe; None if the name is neither or there is no recipe for it.
    """
    name = parse_dataset(task) or parse_task(task)
    if name is None:
        return None
    kind = name.dataset_type or DATASET_TYPES[name.environment][0]
    recipe = _recipe(name.environment, kind)
    return None if recipe is None else (name, recipe)


def can_generate(task: str) -> bool:
    """Whether `generate_dataset` can make a dataset, named as such or by a task, by scripts alone.

    False for the mazes of `policy_datasets`.
    """
    parsed = parse_generated(task)
    return parsed is not None and parsed[1].policy != "legged"
