"""Tables of ablations: QGBS, self-distillation, all other settings."""

from __future__ import annotations

import math

from rllib_fmq.analysis.aggregates import stratified_bootstrap
from rllib_fmq.analysis.comparison import paired_difference, values_by_task
from rllib_fmq.analysis.study_data import DEFAULT, StudyData, TaskScores
from rllib_fmq.analysis.study_trials import SearchSettings
from rllib_fmq.analysis.table_cells import (
    INTERVAL_NOTE,
    NOTHING,
    STD_NOTE,
    ScoreGrid,
    best_two,
    interval,
    number,
    pooled_iqm,
    seed_notes,
)
from rllib_fmq.analysis.table_format import Table

_DISTILLATION = "distillation="
_LOSSES = ("esd", "psd", "lsd")


def qgbs_table(data: StudyData, method: str = "FMQ") -> Table | None:
    """QGBS over K, B and M: IQM, network evaluations, latency (Table 2).

    Args:
        data: Of a study.
        method: Whose trained policies are searched with.
    Returns:
        None with fewer than two searches.
    """
    scores = data.search_scores(method)
    if len(scores) < 2:
        return None
    latencies = data.search_latencies(method)
    sizes = {search: _num_runs(by_task) for search, by_task in scores.items()}
    rows, values = [], {}
    for r, (search, by_task) in enumerate(scores.items()):
        estimate = stratified_bootstrap(values_by_task(by_task))
        if sizes[search] == max(sizes.values()):
            values[r, 4] = estimate.value
        rows.append(
            (
                str(search.search_iters),
                search.braces,
                f"{search.nfe:g}",
                number(latencies.get(search, math.nan)),
                interval(estimate),
                str(len(by_task)),
                str(sizes[search]),
            )
        )
    notes = [INTERVAL_NOTE, *seed_notes(scores.values())]
    if len(set(sizes.values())) > 1:
        notes.append("Rows with fewer runs than others are not of the same policies; never bold.")
    return Table(
        title="QGBS: search settings",
        caption=(
            f"The same trained policies of {method} under several searches. K: iterations, "
            "B: branches, M: beam width; NFE = M (1 + K B) network evaluations a decision; "
            "best-of-N is K = 0, {1, N}."
        ),
        columns=("K", "{B, M}", "NFE", "Latency (ms)", "IQM [95% CI]", "Tasks", "Runs"),
        rows=tuple(rows),
        bold=frozenset(best_two(values)[0]),
        notes=(
            *notes,
            "Latency: median over an evaluation's decisions, then over runs.",
        ),
        text_columns=2,
    )


def qgbs_task_table(data: StudyData, method: str = "FMQ") -> Table | None:
    """QGBS over K, B and M for each task (Table 5).

    Args:
        data: Of a study.
        method: Whose trained policies are searched with.
    Returns:
        None with fewer than two searches.
    """
    searches = data.search_scores(method)
    if len(searches) < 2:
        return None
    scores = {_search_head(search): by_task for search, by_task in searches.items()}
    return _grid_table(
        data,
        scores,
        title="QGBS: search settings per task",
        caption=(
            f"Success rate of {method} under several searches, K {{B, M}}, mean and standard "
            "deviation over seeds. Best per row bold."
        ),
    )


def distillation_table(data: StudyData, method: str = "FMQ") -> Table | None:
    """The three self-distillation losses on the tasks that were ablated (Table 3).

    Args:
        data: Of a study. The default setting counts as ESD, unless there is a setting
            "distillation=esd".
        method: Whose.
    Returns:
        None without another loss than ESD.
    """
    found = {
        setting.removeprefix(_DISTILLATION): data.final_scores(setting).get(method, {})
        for setting in data.settings
        if setting.startswith(_DISTILLATION)
    }
    scores = {loss: by_task for loss, by_task in found.items() if by_task}
    if not set(scores) - {"esd"}:
        return None
    ablated = {task for by_task in scores.values() for task in by_task}
    if "esd" not in scores:
        default = data.final_scores().get(method, {})
        scores["esd"] = {task: seeds for task, seeds in default.items() if task in ablated}
    order = [*_LOSSES, *sorted(set(scores).difference(_LOSSES))]
    return _grid_table(
        data,
        {loss.upper(): scores[loss] for loss in order if scores.get(loss)},
        title="Self-distillation losses",
        caption=(
            f"Success rate of {method} after online training, pre-trained with each loss; mean "
            "and standard deviation over seeds. Best per row bold."
        ),
    )


def settings_table(data: StudyData) -> Table | None:
    """Every setting but the default one, with the difference to the default on equal runs.

    Args:
        data: Of a study.
    Returns:
        None without another setting.
    """
    default = data.final_scores()
    rows, used = [], []
    for setting in data.settings:
        if setting == DEFAULT:
            continue
        for label, by_task in data.final_scores(setting).items():
            reference = default.get(label, {})
            shared = {
                task: {seed: reference[task][seed] for seed in seeds if seed in reference[task]}
                for task, seeds in by_task.items()
                if task in reference
            }
            used.append(by_task)
            rows.append(
                (
                    label,
                    setting,
                    interval(pooled_iqm(by_task)),
                    interval(pooled_iqm(shared)) if any(shared.values()) else NOTHING,
                    interval(paired_difference(by_task, reference), signed=True),
                    str(len(by_task)),
                    str(_num_runs(by_task)),
                )
            )
    if not rows:
        return None
    order = list(dict.fromkeys(row[0] for row in rows))
    rows.sort(key=lambda row: order.index(row[0]))
    return Table(
        title="Settings",
        caption=(
            "IQM after online training with one setting changed, the default's IQM on the same "
            "tasks and seeds, and the mean difference to the default on equal tasks and seeds."
        ),
        columns=(
            "Method",
            "Setting",
            "IQM [95% CI]",
            "Default on the same runs",
            "Difference [95% CI]",
            "Tasks",
            "Runs",
        ),
        rows=tuple(rows),
        notes=(INTERVAL_NOTE, *seed_notes(used)),
        text_columns=2,
    )


def _grid_table(data: StudyData, scores: dict[str, TaskScores], title: str, caption: str) -> Table:
    tasks = [task for task in data.tasks if any(task in s for s in scores.values())]
    grid = ScoreGrid(tasks, scores, {task: data.short_name(task) for task in tasks})
    return Table(
        title=title,
        caption=caption,
        columns=("Task", *scores),
        rows=tuple(map(tuple, grid.rows())),
        bold=frozenset(grid.marks()[0]),
        notes=(STD_NOTE, INTERVAL_NOTE, *grid.notes()),
        summary_rows=1,
    )


def _search_head(search: SearchSettings) -> str:
    return f"{search.search_iters} {search.braces}"


def _num_runs(by_task: TaskScores) -> int:
    return sum(len(seeds) for seeds in by_task.values())
