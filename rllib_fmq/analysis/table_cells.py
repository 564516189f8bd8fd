"""Numbers as the cells of a table, and the notes that belong to them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from rllib_fmq.analysis.aggregates import REPETITIONS, Estimate, mean_std, stratified_bootstrap
from rllib_fmq.analysis.comparison import ENOUGH_SEEDS, values_by_task
from rllib_fmq.analysis.study_data import TaskScores
from rllib_fmq.analysis.table_format import Position

_REVISION = 10
"""Digits of a revision that a reader needs."""
NOTHING = "–"  # noqa: RUF001  (an en dash is how tables say "none")
STD_NOTE = (
    "± is the sample standard deviation over seeds (ddof = 1); the paper does not say which one "
    "its tables print."
)
INTERVAL_NOTE = (
    "IQM: interquartile mean of all runs of all tasks pooled. Brackets: 95% percentile interval "
    f"of a stratified bootstrap, which resamples seeds within each task ({REPETITIONS:,} "
    "repetitions)."
)


def number(value: float, decimals: int = 2, signed: bool = False) -> str:
    """A number, such as "0.50", "+0.50"; an en dash for NaN."""
    # A zero that was rounded down has no sign of its own.
    rounded = round(value, decimals) + 0.0
    return NOTHING if math.isnan(value) else format(rounded, f"{'+' * signed}.{decimals}f")


def interval(estimate: Estimate | None, signed: bool = False) -> str:
    """Such as "0.82 [0.70, 0.90]"; an en dash for None."""
    if estimate is None:
        return NOTHING
    value, low, high = (
        number(x, signed=signed) for x in (estimate.value, estimate.low, estimate.high)
    )
    return f"{value} [{low}, {high}]"


def mean_and_std(values: Iterable[float]) -> str:
    """Such as "0.82 ± 0.05"; the mean alone for one seed, an en dash for none."""
    scores = list(values)
    if not scores:
        return NOTHING
    mean, std = mean_std(scores)
    return f"{mean:.2f}" if math.isnan(std) else f"{mean:.2f} ± {std:.2f}"


def listed(values: Iterable[float]) -> str:
    """Whole numbers in order: "25", "25 and 50"."""
    return " and ".join(f"{int(value):,}" for value in sorted(set(values)))


def revision_words(revisions: Iterable[str]) -> list[str]:
    """Revisions as long as a reader needs them; "+changes" says that the source was edited.

    Args:
        revisions: As the table has them; "" is left out.
    """
    short = (r.partition("+") for r in revisions if r)
    return sorted({digits[:_REVISION] + plus + rest for digits, plus, rest in short})


def count(size: int, noun: str) -> str:
    """Such as "1 task", "3 tasks"."""
    return f"{size} {noun}{'' if size == 1 else 's'}"


def pooled_iqm(scores: TaskScores) -> Estimate | None:
    """IQM with its interval; None without runs."""
    values = values_by_task(scores)
    return stratified_bootstrap(values) if values else None


def best_two(values: Mapping[Position, float]) -> tuple[set[Position], set[Position]]:
    """Cells with the highest and the second highest value.

    Values count as equal where their two decimals are, as in the paper's tables.

    Args:
        values: Cell -> success rate; NaN is left out.
    Returns:
        Both empty for fewer than two values; a rate of 0.00 is never among them.
    """
    rounded = {at: round(value, 2) for at, value in values.items() if not math.isnan(value)}
    if len(rounded) < 2:
        return set(), set()
    levels = sorted({value for value in rounded.values() if value > 0}, reverse=True)
    marked = [{at for at, value in rounded.items() if value == level} for level in levels[:2]]
    best, second = [*marked, set(), set()][:2]
    return best, second


class ScoreGrid:
    """Tasks x variants with mean and deviation, and a last row with each variant's IQM.

    Args:
        tasks: Rows, in order.
        scores: Variant -> task -> seed -> success rate; one a column.
        names: Task -> what its row is called.
    """

    def __init__(
        self, tasks: Sequence[str], scores: Mapping[str, TaskScores], names: Mapping[str, str]
    ) -> None:
        self.tasks = list(tasks)
        self.scores = scores
        self._names = names
        self._iqms = {label: pooled_iqm(by_task) for label, by_task in scores.items()}

    def rows(self) -> list[list[str]]:
        """Cells, the task's or "IQM" first."""
        rows = []
        for task in self.tasks:
            cells = (by_task.get(task, {}).values() for by_task in self.scores.values())
            rows.append([self._names[task], *map(mean_and_std, cells)])
        last = ["IQM [95% CI]"]
        for label, estimate in self._iqms.items():
            text = interval(estimate)
            if estimate is not None and not self._whole(label):
                text += f" ({len(self.scores[label])} of {count(len(self.tasks), 'task')})"
            last.append(text)
        return [*rows, last]

    def marks(self) -> tuple[set[Position], set[Position]]:
        """Best and second best of each row; an IQM of fewer tasks than the others' is neither."""
        best: set[Position] = set()
        second: set[Position] = set()
        for r, task in enumerate(self.tasks):
            row = {
                (r, c): mean_std(list(by_task[task].values()))[0]
                for c, by_task in enumerate(self.scores.values(), start=1)
                if by_task.get(task)
            }
            for found, marked in zip(best_two(row), (best, second), strict=True):
                marked |= found
        row = {
            (len(self.tasks), c): estimate.value
            for c, (label, estimate) in enumerate(self._iqms.items(), start=1)
            if estimate is not None and self._whole(label)
        }
        for found, marked in zip(best_two(row), (best, second), strict=True):
            marked |= found
        return best, second

    def notes(self) -> list[str]:
        """On seeds: how many, and what they are too few for."""
        return seed_notes(self.scores.values())

    def _whole(self, label: str) -> bool:
        return all(self.scores[label].get(task) for task in self.tasks)


def seed_notes(scores: Iterable[TaskScores]) -> list[str]:
    """How many seeds a task has, and a warning where one is all.

    Args:
        scores: task -> seed -> success rate, of each variant.
    """
    sizes = sorted({len(seeds) for by_task in scores for seeds in by_task.values() if seeds})
    if not sizes:
        return []
    shown = f"{sizes[0]}" if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"
    notes = [f"Seeds a task: {shown}."]
    if sizes[0] == 1:
        notes.append(
            "With one seed there is no deviation, and resampling seeds gives an interval that "
            "is too narrow or has no width: it says nothing."
        )
    elif sizes[0] < ENOUGH_SEEDS:
        notes.append(
            f"With fewer than {ENOUGH_SEEDS} seeds a bootstrap's intervals are too narrow."
        )
    if len(sizes) > 1:
        notes.append("A task with more seeds than others weighs more in an IQM over all runs.")
    return notes
