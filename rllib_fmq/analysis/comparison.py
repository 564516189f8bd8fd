"""The questions that a study answers: does one method lie above another?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import pandas as pd

from rllib_fmq.analysis.aggregates import (
    Estimate,
    mean_of,
    probability_of_improvement,
    stratified_bootstrap,
)
from rllib_fmq.analysis.study_data import Scores, StudyData, TaskScores
from rllib_fmq.studies.definition import DEFAULT

Verdict: TypeAlias = Literal["above", "below", "overlap"]
FEWEST_SEEDS = 2
"""Of a task: with one, resampling draws nothing but that one, and the interval has no width."""
ENOUGH_SEEDS = 5
"""With fewer on a task a bootstrap's intervals are too narrow."""
QUESTIONS = (
    ("FMQ", "FMQ, offline policy"),
    ("FMQ", "MVP"),
    ("FMQ", "QC"),
    ("FMQ + QGBS", "FMQ"),
)
"""(left, right): does the left one lie above the right one?"""
PAIRS = (
    ("FMQ", "MVP"),
    ("FMQ", "QC"),
    ("FMQ + QGBS", "MVP + QGBS"),
    ("FMQ + QGBS", "FMQ"),
    ("MVP + QGBS", "MVP"),
    ("MVP", "QC"),
)
"""(X, Y) whose probability of improvement is reported."""
COMPARED = ", ".join(f'"{name}"' for name in dict.fromkeys(name for pair in PAIRS for name in pair))
"""Names that these questions and pairs look for."""
OFFLINE_SUFFIX = ", offline policy"


@dataclass(frozen=True)
class Comparison:
    """One method against another on the tasks that both have results of.

    Args:
        left: Label.
        right: Label of the other.
        tasks: Those that count.
        left_iqm: IQM with its 95% stratified bootstrap interval.
        right_iqm: The same of the other.
        paired: Mean difference left - right over equal seeds of equal tasks, with its interval;
            None if they share no seed.
        fewest_seeds: Of a method on a task.
        left_nfe: Network evaluations a decision; NaN if unknown or not the same everywhere.
        right_nfe: The same of the other.
    """

    left: str
    right: str
    tasks: tuple[str, ...]
    left_iqm: Estimate
    right_iqm: Estimate
    paired: Estimate | None
    fewest_seeds: int
    left_nfe: float = math.nan
    right_nfe: float = math.nan

    @property
    def verdict(self) -> Verdict:
        """Whether the intervals lie apart; "overlap" also where there are too few seeds."""
        if self.fewest_seeds < FEWEST_SEEDS:
            return "overlap"
        if self.left_iqm.low > self.right_iqm.high:
            return "above"
        if self.left_iqm.high < self.right_iqm.low:
            return "below"
        return "overlap"

    @property
    def sentence(self) -> str:
        """The answer with its numbers, in plain words."""
        left, right = _iqm_words(self.left_iqm), _iqm_words(self.right_iqm)
        runs = f"{self.left_iqm.num_runs} and {self.right_iqm.num_runs} runs"
        basis = f"{len(self.tasks)} task{'s' if len(self.tasks) > 1 else ''}, {runs}"
        if self.left_nfe != self.right_nfe and not math.isnan(self.left_nfe + self.right_nfe):
            basis += f", {self.left_nfe:g} and {self.right_nfe:g} network evaluations a decision"
        other = self.right.replace(OFFLINE_SUFFIX, "'s own offline policy")
        if self.right == self.left + OFFLINE_SUFFIX:
            other = "its own offline policy"
        possessive = f"{other}'s"
        if self.fewest_seeds < FEWEST_SEEDS:
            text = (
                f"{self.left}'s IQM is {self.left_iqm.value:.2f} and {possessive} "
                f"{self.right_iqm.value:.2f} ({basis}): with one seed on a task there is no "
                "interval, so nothing follows."
            )
        elif self.verdict == "overlap":
            text = (
                f"{self.left}'s IQM {left} is not told apart from {possessive} {right} ({basis}): "
                f"the 95% intervals overlap{self._caution}."
            )
        else:
            text = (
                f"{self.left}'s IQM {left} lies {self.verdict} {possessive} {right} ({basis}): "
                f"the 95% intervals do not overlap{self._caution}."
            )
        return text + self._paired_words()

    @property
    def _caution(self) -> str:
        if self.fewest_seeds >= ENOUGH_SEEDS:
            return ""
        return f" ({self.fewest_seeds} seeds on a task: the intervals are too narrow)"

    def _paired_words(self) -> str:
        if self.paired is None or self.fewest_seeds < FEWEST_SEEDS:
            return ""
        difference = self.paired
        says = "the interval contains 0"
        if difference.low > 0 or difference.high < 0:
            says = "the interval excludes 0"
        return (
            f" On equal tasks and seeds {self.left} scores {difference.value:+.2f} "
            f"[{difference.low:+.2f}, {difference.high:+.2f}] on average; {says}."
        )


@dataclass(frozen=True)
class Improvement:
    """How probable it is that one method beats another.

    Args:
        x: Label.
        y: Label of the other.
        tasks: Those that both have results of.
        chance: P(X > Y) on a task drawn at random, with its 95% interval.
        difference: Mean of x - y over equal seeds of equal tasks; None if they share none.
    """

    x: str
    y: str
    tasks: tuple[str, ...]
    chance: Estimate
    difference: Estimate | None


def improvements(data: StudyData, setting: str = DEFAULT) -> list[Improvement]:
    """Probability of improvement of ``PAIRS``, and of each method over its offline policy.

    Args:
        data: Of a study.
        setting: Name.
    Returns:
        One a pair that has results on a common task.
    """
    scores = labelled_scores(data, setting)
    found = []
    for x, y in (*PAIRS, *((method, f"{method}{OFFLINE_SUFFIX}") for method in data.methods)):
        left, right = scores.get(x, {}), scores.get(y, {})
        tasks = tuple(task for task in left if left[task] and right.get(task))
        if tasks:
            chance = probability_of_improvement(
                values_by_task(left, tasks), values_by_task(right, tasks)
            )
            found.append(Improvement(x, y, tasks, chance, paired_difference(left, right)))
    return found


def labelled_scores(data: StudyData, setting: str = DEFAULT) -> Scores:
    """Final scores by label, then those of the offline policies as "FMQ, offline policy".

    Args:
        data: Of a study.
        setting: Name.
    """
    offline = {f"{m}{OFFLINE_SUFFIX}": s for m, s in data.offline_scores(setting).items()}
    return data.final_scores(setting) | offline


def shared_tasks(data: StudyData, rows: Sequence[TaskScores]) -> tuple[list[str], list[str]]:
    """Tasks that all rows of scores have results on, and those that only some have.

    Args:
        data: Of a study, for the order.
        rows: task -> seed -> success rate.
    """
    having = {t: sum(bool(scores.get(t)) for scores in rows) for t in data.tasks}
    everywhere = [task for task, count in having.items() if count and count == len(rows)]
    return everywhere, [task for task, count in having.items() if 0 < count < len(rows)]


def values_by_task(
    scores: TaskScores, tasks: Sequence[str] | None = None
) -> dict[str, list[float]]:
    """Task -> success rates, without the seeds' numbers.

    Args:
        scores: task -> seed -> rate.
        tasks: Which tasks; None: all.
    """
    chosen = scores if tasks is None else tasks
    return {task: list(scores[task].values()) for task in chosen if scores.get(task)}


def paired_difference(left: TaskScores, right: TaskScores, seed: int = 0) -> Estimate | None:
    """Mean difference over equal seeds of equal tasks, with a 95% stratified bootstrap interval.

    Stronger than two intervals where both methods start from one offline policy, or search
    with one trained policy: what a seed does to both cancels.

    Args:
        left: task -> seed -> success rate.
        right: The same of the other.
        seed: Of the bootstrap.
    Returns:
        Mean of left - right over all pairs; None if there is no pair.
    """
    differences = {
        task: [rate - right[task][s] for s, rate in seeds.items() if s in right[task]]
        for task, seeds in left.items()
        if task in right
    }
    kept = {task: values for task, values in differences.items() if values}
    return stratified_bootstrap(kept, mean_of, seed=seed) if kept else None


def compare(
    left: str,
    right: str,
    scores: Mapping[str, TaskScores],
    nfe: Mapping[str, float] | None = None,
    seed: int = 0,
) -> Comparison | None:
    """Compare two labels.

    Args:
        left: Label.
        right: Label of the other.
        scores: label -> task -> seed -> success rate.
        nfe: label -> network evaluations a decision.
        seed: Of the bootstrap.
    Returns:
        None if they share no task.
    """
    a, b = scores.get(left, {}), scores.get(right, {})
    tasks = tuple(task for task in a if a[task] and b.get(task))
    if not tasks:
        return None
    costs = nfe or {}
    return Comparison(
        left,
        right,
        tasks,
        left_iqm=stratified_bootstrap(values_by_task(a, tasks), seed=seed),
        right_iqm=stratified_bootstrap(values_by_task(b, tasks), seed=seed),
        paired=paired_difference(a, b, seed),
        fewest_seeds=min(len(side[task]) for side in (a, b) for task in tasks),
        left_nfe=costs.get(left, math.nan),
        right_nfe=costs.get(right, math.nan),
    )


def answers(data: StudyData, setting: str = DEFAULT) -> list[Comparison]:
    """FMQ against its offline policy, MVP and QC; FMQ with QGBS against FMQ with best-of-N.

    Args:
        data: Of a study.
        setting: Name.
    Returns:
        One a question that the study has results for.
    """
    scores = labelled_scores(data, setting)
    nfe = {label: _one_nfe(rows) for label, rows in data.final_rows(setting).items()}
    found = [
        compare(left, right, scores, nfe if (left, right) == QUESTIONS[-1] else None)
        for left, right in QUESTIONS
    ]
    return [comparison for comparison in found if comparison is not None]


def _one_nfe(rows: pd.DataFrame) -> float:
    found = rows["nfe"].unique()
    return float(found[0]) if len(found) == 1 else math.nan


def _iqm_words(estimate: Estimate) -> str:
    return f"{estimate.value:.2f} [{estimate.low:.2f}, {estimate.high:.2f}]"
