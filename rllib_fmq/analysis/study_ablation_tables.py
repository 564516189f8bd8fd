"""Tables of ablations: QGBS, self-distillation, all other settings."""

from __future__ import annotations

import math
from collections.abc import Mapping

from rllib_fmq.analysis.aggregates import stratified_bootstrap
from rllib_fmq.analysis.common_runs import common_runs, runs_of
from rllib_fmq.analysis.comparison import paired_difference, values_by_task
from rllib_fmq.analysis.search_scores import search_latencies, search_scores
from rllib_fmq.analysis.study_data import METHOD, StudyData, TaskScores
from rllib_fmq.analysis.study_searches import SEARCH_NUMBERS, SearchSettings
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
from rllib_fmq.analysis.variations import loss_scores
from rllib_fmq.studies.definition import DEFAULT


def qgbs_table(data: StudyData, method: str = METHOD) -> Table | None:
    """QGBS over K, B and M: IQM, network evaluations, latency (Table 2).

    Args:
        data: Of a study.
        method: Whose trained policies are searched with.
    Returns:
        None with fewer than two searches of the same tasks and seeds.
    """
    found = common_runs(search_scores(data, method))
    if not found.scores:
        return None
    latencies = search_latencies(data, method, found.runs)
    rows, values = [], {}
    for r, (search, by_task) in enumerate(found.scores.items()):
        estimate = stratified_bootstrap(values_by_task(by_task))
        values[r, 5] = estimate.value
        rows.append(
            (
                _kind(search),
                str(search.search_iters),
                search.braces,
                f"{search.nfe:g}",
                number(latencies.get(search, math.nan)),
                interval(estimate),
                str(len(by_task)),
                str(found.num_runs),
            )
        )
    return Table(
        title="QGBS: search settings",
        caption=(
            f"The same trained policies of {method} under several searches. K: iterations, "
            "B: branches, M: beam width; NFE = M (1 + K B) network evaluations a decision; "
            "best-of-N is K = 0, {1, N}. Where nothing else is said, QGBS has "
            f"{_usual_numbers()}."
        ),
        columns=("Search", "K", "{B, M}", "NFE", "Latency (ms)", "IQM [95% CI]", "Tasks", "Runs"),
        rows=tuple(rows),
        bold=frozenset(best_two(values)[0]),
        notes=(
            INTERVAL_NOTE,
            *seed_notes(found.scores.values()),
            *found.notes(_search_name),
            "Latency: median over an evaluation's decisions, then over runs.",
        ),
        text_columns=3,
    )


def qgbs_task_table(data: StudyData, method: str = METHOD) -> Table | None:
    """QGBS over K, B and M for each task (Table 5).

    Args:
        data: Of a study.
        method: Whose trained policies are searched with.
    Returns:
        None with fewer than two searches of the same tasks and seeds.
    """
    found = common_runs(search_scores(data, method))
    if not found.scores:
        return None
    return _grid_table(
        data,
        {search.label: by_task for search, by_task in found.scores.items()},
        found.notes(_search_name),
        title="QGBS: search settings per task",
        caption=(
            f"Success rate of {method} under several searches, best-of-N and QGBS with K {{B, M}}, "
            "mean and standard deviation over seeds. Best per row bold."
        ),
    )


def distillation_table(data: StudyData, method: str = METHOD) -> Table | None:
    """The three self-distillation losses on the tasks that were ablated (Table 3).

    Args:
        data: Of a study. The default setting counts as ESD, unless there is a setting
            "distillation=esd".
        method: Whose.
    Returns:
        None without another loss than ESD on the same tasks and seeds.
    """
    found = loss_scores(data, method)
    if not found.scores:
        return None
    return _grid_table(
        data,
        found.scores,
        found.notes(),
        title="Self-distillation losses",
        caption=(
            f"Success rate of {method} after {data.final_phase} training, pre-trained with each "
            "loss; mean and standard deviation over seeds. Best per row bold."
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
                    str(len(runs_of(by_task))),
                )
            )
    if not rows:
        return None
    order = list(dict.fromkeys(row[0] for row in rows))
    rows.sort(key=lambda row: order.index(row[0]))
    return Table(
        title="Settings",
        caption=(
            f"IQM after {data.final_phase} training with one setting changed, the default's IQM on "
            "the same tasks and seeds, and the mean difference to the default on equal tasks and "
            "seeds."
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


def _grid_table(
    data: StudyData,
    scores: Mapping[str, TaskScores],
    notes: list[str],
    title: str,
    caption: str,
) -> Table:
    tasks = [task for task in data.tasks if any(task in s for s in scores.values())]
    grid = ScoreGrid(tasks, scores, {task: data.short_name(task) for task in tasks})
    return Table(
        title=title,
        caption=caption,
        columns=("Task", *scores),
        rows=tuple(map(tuple, grid.rows())),
        bold=frozenset(grid.marks()[0]),
        notes=(STD_NOTE, INTERVAL_NOTE, *grid.notes(), *notes),
        summary_rows=1,
    )


def _usual_numbers() -> str:
    return ", ".join(f"{key} {value}" for key, value in SEARCH_NUMBERS.items())


def _kind(search: SearchSettings) -> str:
    if not search.is_search:
        return "best of N"
    return f"QGBS, {search.others}" if search.others else "QGBS"


def _search_name(search: SearchSettings) -> str:
    return search.label
