"""The tables of a study report: scores, comparisons, speed-ups; and the list of all tables."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rllib_fmq.analysis.aggregates import probability_of_improvement
from rllib_fmq.analysis.comparison import (
    OFFLINE_SUFFIX,
    PAIRS,
    labelled_scores,
    paired_difference,
    values_by_task,
)
from rllib_fmq.analysis.speedup import Clock, Speedup, SpeedupAverage, study_speedup
from rllib_fmq.analysis.study_ablation_tables import (
    distillation_table,
    qgbs_table,
    qgbs_task_table,
    settings_table,
)
from rllib_fmq.analysis.study_cost_tables import (
    decision_cost_table,
    training_cost_table,
    trials_table,
)
from rllib_fmq.analysis.study_data import StudyData
from rllib_fmq.analysis.table_cells import (
    INTERVAL_NOTE,
    NOTHING,
    STD_NOTE,
    ScoreGrid,
    interval,
    mean_and_std,
    number,
    pooled_iqm,
    seed_notes,
)
from rllib_fmq.analysis.table_format import Table
from rllib_fmq.tasks.catalog import find_task

_CLOCKS: tuple[tuple[Clock, str], ...] = (("full", "full"), ("online", "online"))


@dataclass(frozen=True)
class TableKind:
    """A table that a report can have.

    Args:
        key: For file names.
        title: As in the report.
        build: Makes it; None without data.
        needs: What is missing where there are no data, in words.
    """

    key: str
    title: str
    build: Callable[[StudyData], Table | None]
    needs: str


def main_table(data: StudyData) -> Table | None:
    """Success after online training per task and method (Table 1).

    The paper's numbers stand beside ours only where the study runs at the paper's scale.

    Args:
        data: Of a study.
    Returns:
        None without final evaluations.
    """
    scores = data.final_scores()
    if not scores:
        return None
    tasks = [task for task in data.tasks if any(task in s for s in scores.values())]
    grid = ScoreGrid(tasks, scores, {task: data.short_name(task) for task in tasks})
    rows, (best, second) = grid.rows(), grid.marks()
    columns = ["Task", *scores]
    notes = [STD_NOTE, INTERVAL_NOTE, *grid.notes()]
    if data.scale == "paper":
        columns = ["Task", *(name for label in scores for name in (label, f"{label} (paper)"))]
        published = [*map(_published, tasks), {}]
        rows = [
            _beside_the_papers(row, list(scores), paper)
            for row, paper in zip(rows, published, strict=True)
        ]
        best, second = ({(r, 2 * c - 1) for r, c in marked} for marked in (best, second))
        notes.append('Columns "(paper)" hold the numbers that the paper\'s Table 1 prints.')
    else:
        notes.append(_scale_note(data))
    return Table(
        title="Success rate after online training",
        caption=(
            "Mean and standard deviation over seeds of the success rate in the final "
            "evaluation, on episodes that training never saw. Best per row bold, second "
            "underlined."
        ),
        columns=tuple(columns),
        rows=tuple(map(tuple, rows)),
        bold=frozenset(best),
        underlined=frozenset(second),
        notes=tuple(notes),
        summary_rows=1,
    )


def offline_online_table(data: StudyData) -> Table | None:
    """Success before and after online training, and the gain on equal seeds.

    Args:
        data: Of a study.
    Returns:
        None if no method has both.
    """
    offline, final = data.offline_scores(), data.final_scores()
    methods = [m for m in final if set(offline.get(m, {})) & set(final[m])]
    rows, summary = [], []
    for method in methods:
        tasks = [t for t in data.tasks if t in offline[method] and t in final[method]]
        before = {t: offline[method][t] for t in tasks}
        after = {t: final[method][t] for t in tasks}
        for t in tasks:
            gain = paired_difference({t: after[t]}, {t: before[t]})
            cells = [mean_and_std(scores[t].values()) for scores in (before, after)]
            rows.append((data.short_name(t), method, *cells, interval(gain, signed=True)))
        iqms = [interval(pooled_iqm(scores)) for scores in (before, after)]
        gain = paired_difference(after, before)
        summary.append(("IQM [95% CI]", method, *iqms, interval(gain, signed=True)))
    if not rows:
        return None
    order = {data.short_name(task): i for i, task in enumerate(data.tasks)}
    rows.sort(key=lambda row: order[row[0]])
    return Table(
        title="Before and after online training",
        caption=(
            "Success rate of the offline policy and of the policy after online training, both "
            "in the final evaluation with the method's own selector; gain: mean difference on "
            "equal seeds."
        ),
        columns=("Task", "Method", "Offline", "Online", "Gain [95% CI]"),
        rows=(*rows, *summary),
        notes=(
            STD_NOTE,
            INTERVAL_NOTE,
            *seed_notes(final[m] for m in methods),
            "Methods that share their pre-training start from the same policies.",
            *_without_offline_scores(data, methods),
        ),
        text_columns=2,
        summary_rows=len(summary),
    )


def _without_offline_scores(data: StudyData, shown: list[str]) -> list[str]:
    others = [method for method in data.methods if method not in shown]
    if not others:
        return []
    return [f"No final evaluation of both policies, so not shown: {', '.join(others)}."]


def improvement_table(data: StudyData) -> Table | None:
    """Probability of improvement, and mean differences on equal seeds.

    Args:
        data: Of a study.
    Returns:
        None if no two methods share a task.
    """
    scores = labelled_scores(data)
    own = tuple((method, f"{method}{OFFLINE_SUFFIX}") for method in data.methods)
    rows, used = [], []
    for x, y in (*PAIRS, *own):
        left, right = scores.get(x, {}), scores.get(y, {})
        shared = [task for task in left if right.get(task)]
        if not shared:
            continue
        used += [left, right]
        chance = probability_of_improvement(
            values_by_task(left, shared), values_by_task(right, shared)
        )
        difference = interval(paired_difference(left, right), signed=True)
        rows.append((x, y, interval(chance), difference, str(len(shared)), str(chance.num_runs)))
    if not rows:
        return None
    return Table(
        title="Probability of improvement",
        caption=(
            "Probability that a run of X beats a run of Y on a task drawn at random (0.5: no "
            "difference), and the mean difference X - Y on equal tasks and seeds."
        ),
        columns=("X", "Y", "P(X > Y) [95% CI]", "X - Y [95% CI]", "Tasks", "Runs"),
        rows=tuple(rows),
        notes=(
            "P(X > Y) counts ties as half: Mann-Whitney's U / (n m), averaged over tasks. "
            "Intervals: stratified bootstrap over seeds within each task.",
            *seed_notes(used),
        ),
        text_columns=2,
    )


def speedup_table(data: StudyData) -> Table | None:
    """Speed-up of FMQ over MVP (Table 4).

    Args:
        data: Of a study.
    Returns:
        None without learning curves of both.
    """
    found = [(words, study_speedup(data, clock)) for clock, words in _CLOCKS]
    clocks = [(words, speedup) for words, speedup in found if speedup is not None]
    if not clocks:
        return None
    columns, averages = ["Task"], []
    ratios: dict[str, list[str]] = {}
    for words, speedup in clocks:
        columns += [f"{words} {100 * f:g}%" for f in speedup.fractions]
        averages += list(speedup.averages)
        by_task = {task.task: task.ratios for task in speedup.tasks}
        for task in data.tasks:
            cells = by_task.get(task, (float("nan"),) * len(speedup.fractions))
            ratios.setdefault(task, []).extend(map(number, cells))
    rows = [
        (data.short_name(task), *cells)
        for task, cells in ratios.items()
        if any(cell != NOTHING for cell in cells)
    ]
    first = clocks[0][1]
    return Table(
        title=f"Speed-up of {first.method} over {first.baseline}",
        caption=(
            f"T_{first.baseline} / T_{first.method}: how many times sooner {first.method} reaches "
            "a fraction of the shared target, per seed, averaged over seeds. Above 1: "
            f"{first.method} is faster. full: updates of both phases; online: environment steps "
            "since the switch."
        ),
        columns=tuple(columns),
        rows=(*rows, *_average_rows(averages)),
        notes=tuple(_speedup_notes(data, clocks)),
        summary_rows=4,
    )


def _average_rows(averages: list[SpeedupAverage]) -> list[tuple[str, ...]]:
    return [
        ("Average", *(number(a.value) for a in averages)),
        ("95% CI", *(_range(a.low, a.high) for a in averages)),
        ("Geometric mean", *(number(a.geometric) for a in averages)),
        ("95% CI of it", *(_range(a.geometric_low, a.geometric_high) for a in averages)),
    ]


def _speedup_notes(data: StudyData, clocks: list[tuple[str, Speedup]]) -> list[str]:
    pairs = sorted({len(task.seeds) for _, speedup in clocks for task in speedup.tasks})
    shown = f"{pairs[0]}" if len(pairs) == 1 else f"{pairs[0]} to {pairs[-1]}"
    notes = [
        "The target of a seed is the highest success that both methods reach. A target that the "
        "offline policy meets counts as met at the first online evaluation, so that two methods "
        "which start from one policy have 1 there.",
        "Intervals: Student's t over the tasks' means. The average of ratios exceeds 1 even for "
        "two equal methods; the geometric mean does not.",
        f"Pairs of runs a task: {shown}.",
    ]
    for words, speedup in clocks:
        notes += [
            f"Left out ({words}): {data.short_name(task)}, {why}"
            for task, _, why in speedup.left_out
        ]
    return notes


def _beside_the_papers(row: list[str], labels: list[str], paper: dict[str, str]) -> list[str]:
    """The row's head, then each label's cell and the paper's."""
    cells = [row[0]]
    for label, ours in zip(labels, row[1:], strict=True):
        cells += [ours, paper.get(label, NOTHING)]
    return cells


def _published(task: str) -> dict[str, str]:
    known = find_task(task)
    scores = {} if known is None else known.paper_scores
    return {label: f"{mean:.2f} ± {std:.2f}" for label, (mean, std) in scores.items()}


def _scale_note(data: StudyData) -> str:
    if data.scale == "reduced":
        said = str(data.info.get("scale_note") or "").strip().rstrip(".")
        return (
            f"Reduced scale{f': {said}' if said else ''}. Numbers at another scale than the "
            "paper's cannot be compared with its numbers, so those are not shown."
        )
    return (
        "The study does not say that it runs at the paper's scale, so the paper's numbers are "
        "not shown."
    )


def _range(low: float, high: float) -> str:
    return NOTHING if low != low else f"[{low:.2f}, {high:.2f}]"


TABLES = (
    TableKind("main", "Success rate after online training", main_table, "no final evaluations"),
    TableKind(
        "offline_online",
        "Before and after online training",
        offline_online_table,
        "no method has a final evaluation both before and after online training",
    ),
    TableKind(
        "improvement",
        "Probability of improvement",
        improvement_table,
        "no two methods have final evaluations on the same task",
    ),
    TableKind(
        "speedup",
        "Speed-up of FMQ over MVP",
        speedup_table,
        "no task and seed has complete learning curves of both FMQ and MVP with a shared target",
    ),
    TableKind(
        "qgbs",
        "QGBS: search settings",
        qgbs_table,
        "no final evaluation of FMQ with several search settings",
    ),
    TableKind(
        "qgbs_tasks",
        "QGBS: search settings per task",
        qgbs_task_table,
        "no final evaluation of FMQ with several search settings",
    ),
    TableKind(
        "distillation",
        "Self-distillation losses",
        distillation_table,
        'no setting "distillation=lsd" or "distillation=psd"',
    ),
    TableKind(
        "settings", "Settings", settings_table, "no setting but the default has final evaluations"
    ),
    TableKind(
        "decision_costs",
        "Cost of a decision",
        decision_cost_table,
        "no final evaluations",
    ),
    TableKind(
        "training_costs", "Cost of training", training_cost_table, "no trial has a wall time"
    ),
    TableKind("trials", "What was run", trials_table, "no trials"),
)
"""All tables, in the order of a report."""
