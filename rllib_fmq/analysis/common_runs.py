"""Runs that several sets of scores have in common: only those can be compared."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

from rllib_fmq.analysis.study_data import TaskScores

Key = TypeVar("Key", bound=Hashable)
Run: TypeAlias = tuple[str, int]
"""Task and seed."""


@dataclass(frozen=True)
class CommonRuns(Generic[Key]):
    """Scores on the runs that all of some variants have.

    Args:
        scores: Variant -> task -> seed -> success rate; empty if no two have a common run.
        unused: Variant -> how many of its runs the others do not have.
        dropped: Variant that was left out -> how many of the common runs it has.
        runs: Common ones.
    """

    scores: Mapping[Key, TaskScores]
    unused: Mapping[Key, int]
    dropped: Mapping[Key, int]
    runs: frozenset[Run]

    @property
    def num_runs(self) -> int:
        """How many runs all have."""
        return len(self.runs)

    def dropped_words(self, name: Callable[[Key], str] = str) -> list[str]:
        """A sentence for each variant that was left out.

        Args:
            name: What a variant is called.
        """
        if not self.scores:
            names = ", ".join(name(key) for key in self.dropped)
            return [f"{names}: no two have a task and seed in common."] if names else []
        return [
            f"{name(key)} is left out: it has {count} of {self.num_runs} runs (task and seed) that "
            "the others share."
            for key, count in self.dropped.items()
        ]

    def notes(self, name: Callable[[Key], str] = str) -> list[str]:
        """Sentences on what is not counted, for below a table; empty if all is.

        Args:
            name: What a variant is called.
        """
        more = [f"{name(key)}: {count}" for key, count in self.unused.items() if count]
        counted = (
            f"Only runs (task and seed) that all have are counted, {self.num_runs} each; further "
            f"ones: {', '.join(more)}."
        )
        return [*([counted] if more else []), *self.dropped_words(name)]


def common_runs(scores: Mapping[Key, TaskScores], reference: Key | None = None) -> CommonRuns[Key]:
    """Restrict variants to the runs that all of them have.

    A variant that has few of the others' runs would take those from all of them. Variants are
    therefore added in the order of what they share with the reference, and as many are kept as
    make (number of variants) x (common runs) largest.

    Args:
        scores: Variant -> task -> seed -> success rate.
        reference: Variant that is never left out; None, or without scores: the one with most
            runs.
    """
    runs = {key: runs_of(by_task) for key, by_task in scores.items()}
    runs = {key: found for key, found in runs.items() if found}
    if not runs:
        return CommonRuns({}, {}, {}, frozenset())
    first = reference if reference in runs else max(runs, key=lambda key: len(runs[key]))
    assert first is not None
    order = sorted(runs, key=lambda key: (key != first, -len(runs[key] & runs[first])))
    kept, most = 1, 0
    common = shared = runs[first]
    for size, key in enumerate(order[1:], start=2):
        shared = shared & runs[key]
        if shared and size * len(shared) >= most:
            kept, common, most = size, shared, size * len(shared)
    if kept == 1:
        return CommonRuns({}, {}, dict.fromkeys(runs if len(runs) > 1 else (), 0), frozenset())
    chosen = [key for key in runs if key in order[:kept]]
    return CommonRuns(
        scores={key: only_runs(scores[key], common) for key in chosen},
        unused={key: len(runs[key] - common) for key in chosen},
        dropped={key: len(runs[key] & common) for key in runs if key not in chosen},
        runs=frozenset(common),
    )


def runs_of(scores: TaskScores) -> set[Run]:
    """Pairs of task and seed."""
    return {(task, seed) for task, seeds in scores.items() for seed in seeds}


def only_runs(scores: TaskScores, runs: Collection[Run]) -> TaskScores:
    """Scores of these pairs of task and seed."""
    kept = {
        task: {seed: value for seed, value in seeds.items() if (task, seed) in runs}
        for task, seeds in scores.items()
    }
    return {task: seeds for task, seeds in kept.items() if seeds}
