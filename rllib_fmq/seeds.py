"""Ranges of environment seeds, apart from each other so that evaluation never repeats training."""

from __future__ import annotations

import numpy as np

LARGEST_TRAINING_SEED = 1_000_000
"""Exclusive bound of a run's seed; RLlib adds a runner's index to it."""
EVALUATION_SEED = 1_000_000_000
"""Default of ``evaluation_seed``: episode k of an evaluation during training has it + k."""
FINAL_EVALUATION_SEED = 2_000_000_000
"""The same of ``rllib evaluate``, whose episodes neither training nor its evaluations have seen."""
FIRST_EPISODE_SEED = 2**31 - 2**27
"""Collected episodes have reset seeds from here to 2^31 - 1, the largest of 32 bits with a sign."""


def episode_seed(entropy: int, *place: int) -> int:
    """The reset seed of a collected episode.

    Args:
        entropy: The run's seed, or fresh entropy; >= 0.
        *place: What tells the episode from all others, each >= 0: runner, sub-environment,
            episode, ...
    Returns:
        In [2^31 - 2^27, 2^31): evaluations have smaller ones. Two places have the same only by
        chance, once in 2^27.
    """
    (word,) = np.random.SeedSequence(entropy, spawn_key=place).generate_state(1)
    return FIRST_EPISODE_SEED + int(word) % (2**31 - FIRST_EPISODE_SEED)
