"""Runs that several sets of scores have in common: only those can be compared."""

from __future__ import annotations

from collections.abc import Sequence

from rllib_fmq.analysis.study_data import TaskScores


def common_runs(scores: Sequence[TaskScores]) -> set[tuple[str, int]]:
    """Pairs of task and seed that all have."""
    pairs = [{(task, seed) for task, seeds in s.items() for seed in seeds} for s in scores]
    return set.intersection(*pairs) if pairs else set()


def only_runs(scores: TaskScores, runs: set[tuple[str, int]]) -> TaskScores:
    """Scores of these pairs of task and seed."""
    kept = {
        task: {seed: value for seed, value in seeds.items() if (task, seed) in runs}
        for task, seeds in scores.items()
    }
    return {task: seeds for task, seeds in kept.items() if seeds}
