"""One recorded episode of a scripted policy: what it is asked for, and what it returns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rllib_fmq.data.formats.npz import Arrays
from rllib_fmq.data.generation.families import Recipe
from rllib_fmq.data.generation.low_level_policy import LowLevelPolicy
from rllib_fmq.tasks.names import OGBenchName


@dataclass(frozen=True)
class EpisodeJob:
    """Everything an episode depends on: the same job gives the same bytes, wherever it runs.

    Args:
        name: Environment.
        recipe: Policy and its fixed settings.
        steps: Transitions to record, >= 1.
        seed: The dataset's seed.
        key: Position in the dataset: (0 for training or 1 for validation, episode number).
        noise: Action noise.
        noise_smoothing: Width, in steps, of the Gaussian that smooths a plan's noise.
        task: Number of the environment's task that a directed episode starts with; None for
            targets drawn at random.
        low_level: What moves the joints of a legged robot.
    """

    name: OGBenchName
    recipe: Recipe
    steps: int
    seed: int
    key: tuple[int, int]
    noise: float
    noise_smoothing: float
    task: int | None = None
    low_level: LowLevelPolicy | None = None

    def random(self, attempt: int) -> tuple[int, np.random.RandomState]:
        """The environment's seed and the generator that stands in for NumPy's global one.

        Args:
            attempt: Number of earlier recordings of this episode that were rejected.
        """
        sequence = np.random.SeedSequence(self.seed, spawn_key=(*self.key, attempt))
        words = sequence.generate_state(9)
        state = np.random.RandomState()
        state.seed(words[:8])
        return int(words[8]), state


def run_job(job: EpisodeJob) -> Arrays:
    """Record an episode.

    Args:
        job: What to record.
    Returns:
        OGBench's arrays with `steps` + 1 rows, `terminals` set in the last one.
    """
    if job.recipe.policy == "waypoint":
        from rllib_fmq.data.generation.collect_maze import record
    elif job.recipe.policy == "legged":
        from rllib_fmq.data.generation.collect_legged import record
    else:
        from rllib_fmq.data.generation.collect_manipulation import record
    return record(job)
