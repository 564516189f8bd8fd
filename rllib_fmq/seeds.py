"""Ranges of environment seeds, apart from each other so that evaluation never repeats training."""

LARGEST_TRAINING_SEED = 1_000_000
"""Exclusive bound of a run's seed; RLlib adds a runner's and an environment's index to it."""
EVALUATION_SEED = 1_000_000_000
"""Default of ``evaluation_seed``: episode k of an evaluation during training has it + k."""
FINAL_EVALUATION_SEED = 2_000_000_000
"""The same of ``rllib evaluate``, whose episodes neither training nor its evaluations have seen."""
