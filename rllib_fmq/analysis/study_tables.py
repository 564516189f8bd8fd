"""Tables that compare: before and after online training, methods, speed-ups."""

from __future__ import annotations

from rllib_fmq.analysis.comparison import improvements, labelled_scores, paired_difference
from rllib_fmq.analysis.speedup import CLOCKS, Clock, Speedup, SpeedupAverage, study_speedup
from rllib_fmq.analysis.study_data import StudyData
from rllib_fmq.analysis.table_cells import (
    INTERVAL_NOTE,
    NOTHING,
    STD_NOTE,
    interval,
    mean_and_std,
    number,
    pooled_iqm,
    seed_notes,
)
from rllib_fmq.analysis.table_format import Table


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
    found = improvements(data)
    if not found:
        return None
    scores = labelled_scores(data)
    return Table(
        title="Probability of improvement",
        caption=(
            "Probability that a run of X beats a run of Y on a task drawn at random (0.5: no "
            "difference), and the mean difference X - Y on equal tasks and seeds."
        ),
        columns=("X", "Y", "P(X > Y) [95% CI]", "X - Y [95% CI]", "Tasks", "Runs"),
        rows=tuple(
            (
                i.x,
                i.y,
                interval(i.chance),
                interval(i.difference, signed=True),
                str(len(i.tasks)),
                str(i.chance.num_runs),
            )
            for i in found
        ),
        notes=(
            "P(X > Y) counts ties as half: Mann-Whitney's U / (n m), averaged over tasks. "
            "Intervals: stratified bootstrap over seeds within each task.",
            *seed_notes(scores[label] for i in found for label in (i.x, i.y)),
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
    found = [(clock, study_speedup(data, clock)) for clock in CLOCKS]
    clocks = [(clock, speedup) for clock, speedup in found if speedup is not None]
    if not clocks:
        return None
    columns, averages = ["Task"], []
    ratios: dict[str, list[str]] = {}
    for clock, speedup in clocks:
        columns += [f"{clock} {100 * f:g}%" for f in speedup.fractions]
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
            f"{first.method} is faster. "
            + "; ".join(f"{clock}: {words}" for clock, words in CLOCKS.items())
            + "."
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


def _speedup_notes(data: StudyData, clocks: list[tuple[Clock, Speedup]]) -> list[str]:
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
    for clock, speedup in clocks:
        notes += [
            f"Left out ({clock}): {data.short_name(task)}, {why}"
            for task, _, why in speedup.left_out
        ]
    return notes


def _range(low: float, high: float) -> str:
    return NOTHING if low != low else f"[{low:.2f}, {high:.2f}]"
