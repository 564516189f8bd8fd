"""One trained policy under several searches (the paper's Tables 2 and 5)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TypeAlias

import numpy as np

from rllib_fmq.analysis.common_runs import Run, only_runs
from rllib_fmq.analysis.study_data import METHOD, StudyData, TaskScores
from rllib_fmq.analysis.study_searches import Row, SearchSettings
from rllib_fmq.studies.definition import DEFAULT

SearchRows: TypeAlias = dict[SearchSettings, dict[str, dict[int, Row]]]
"""Search -> task -> seed -> row of the table."""


def search_rows(data: StudyData, method: str = METHOD, setting: str = DEFAULT) -> SearchRows:
    """Final evaluations of a method's policies by best-of-N and QGBS.

    Args:
        data: Of a study.
        method: Name.
        setting: Name.
    Returns:
        Search -> task -> seed -> row of the table, by K, B, M; best-of-N is K = 0, {1, N}.
    """
    found: SearchRows = {}
    for task in data.tasks:
        for seed, trial in data.runs(task, method, setting).items():
            for search, row in trial.searches(data.final_phase).items():
                if np.isfinite(row["success"]):
                    found.setdefault(search, {}).setdefault(task, {})[seed] = row
    return dict(sorted(found.items()))


def search_scores(
    data: StudyData, method: str = METHOD, setting: str = DEFAULT
) -> dict[SearchSettings, TaskScores]:
    """Success rates of each search; see ``search_rows``.

    Args:
        data: Of a study.
        method: Name.
        setting: Name.
    Returns:
        Search -> task -> seed -> rate.
    """
    rows = search_rows(data, method, setting)
    return {search: _numbers(by_task, "success") for search, by_task in rows.items()}


def search_latencies(
    data: StudyData, method: str = METHOD, runs: Collection[Run] | None = None
) -> dict[SearchSettings, float]:
    """Milliseconds a decision of each search: median over runs.

    Not the mean: a run during which the machine was busy would decide it.

    Args:
        data: Of a study.
        method: Name.
        runs: Pairs of task and seed that count; None: all.
    Returns:
        Search -> milliseconds; NaN where none was measured.
    """
    medians = {}
    for search, by_task in search_rows(data, method).items():
        numbers = _numbers(by_task, "latency_ms")
        chosen = numbers if runs is None else only_runs(numbers, runs)
        values = [value for seeds in chosen.values() for value in seeds.values()]
        medians[search] = float(np.median(values)) if values else float("nan")
    return medians


def _numbers(by_task: Mapping[str, Mapping[int, Row]], column: str) -> TaskScores:
    """Task -> seed -> number, where there is one."""
    return {
        task: {seed: float(r[column]) for seed, r in rows.items() if np.isfinite(r[column])}
        for task, rows in by_task.items()
    }
