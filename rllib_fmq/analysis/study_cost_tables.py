"""Tables of what was run and what it cost."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from rllib_fmq.analysis.panels import OFFLINE, ONLINE
from rllib_fmq.analysis.study_data import StudyData
from rllib_fmq.analysis.study_trials import FINAL, Trial
from rllib_fmq.analysis.table_cells import NOTHING, count, number, revision_words
from rllib_fmq.analysis.table_format import Table


def decision_cost_table(data: StudyData) -> Table | None:
    """Network evaluations and latency of a decision, per method and selector.

    Args:
        data: Of a study.
    Returns:
        None without final evaluations.
    """
    rows = []
    for label, finals in data.final_rows().items():
        for (selector, nfe), group in finals.groupby(["selector", "nfe"], sort=False):
            latencies = group["latency_ms"].dropna()
            rows.append(
                (
                    label,
                    str(selector),
                    f"{nfe:g}",
                    number(_median(latencies)),
                    _spread(latencies),
                    str(len(group)),
                )
            )
    if not rows:
        return None
    return Table(
        title="Cost of a decision",
        caption=(
            "Network evaluations (NFE) and wall time of one decision, which is a chunk of "
            "actions, in the final evaluations; median over runs."
        ),
        columns=("Method", "Selector", "NFE", "Latency (ms)", "From - to", "Runs"),
        rows=tuple(rows),
        notes=(
            "Latency depends on the machine and on what else ran on it; compare within a study.",
        ),
        text_columns=2,
    )


def training_cost_table(data: StudyData) -> Table | None:
    """Wall time of a trial, per method and phase.

    Args:
        data: Of a study.
    Returns:
        None if no complete trial has a wall time.
    """
    groups: dict[tuple[str, str], list[float]] = {}
    for trial in data.trials:
        minutes = trial.wall_seconds / 60.0
        if trial.complete and not math.isnan(minutes):
            groups.setdefault(("/".join(trial.methods), _phases(trial)), []).append(minutes)
    if not groups:
        return None
    rows = [
        (
            method,
            phases,
            str(len(minutes)),
            number(_median(minutes), 1),
            _spread(minutes, 1),
            number(sum(minutes) / 60.0, 1),
        )
        for (method, phases), minutes in groups.items()
    ]
    return Table(
        title="Cost of training",
        caption=(
            "Wall time of complete trials, their evaluations during training and in the end "
            "included."
        ),
        columns=("Method", "Phases", "Trials", "Minutes a trial", "From - to", "Hours in all"),
        rows=tuple(rows),
        notes=(
            'Methods joined by "/" share a pre-training, which is counted once. "Minutes a '
            'trial" is the median.',
        ),
        text_columns=2,
    )


def trials_table(data: StudyData) -> Table | None:
    """What ran: trials by task, method and setting.

    Args:
        data: Of a study.
    Returns:
        None without trials.
    """
    groups: dict[tuple[str, str, str, str], list[Trial]] = {}
    for trial in data.trials:
        key = (trial.task, "/".join(trial.methods), trial.setting, _phases(trial))
        groups.setdefault(key, []).append(trial)
    if not groups:
        return None
    tasks = data.tasks
    ordered = sorted(groups.items(), key=lambda group: tasks.index(group[0][0]))
    rows = tuple(
        (
            data.short_name(task),
            method,
            setting,
            phases,
            ", ".join(str(seed) for seed in sorted(t.seed for t in trials)),
            _amounts(trials, OFFLINE, "update"),
            _amounts(trials, ONLINE, "env_step"),
            _one_or_range({count for t in trials for count in t.final_episodes}),
            number(_median([t.wall_seconds / 60.0 for t in trials]), 1),
            ", ".join(revision_words(r for t in trials for r in t.rows["git_revision"])) or NOTHING,
        )
        for (task, method, setting, phases), trials in ordered
    )
    return Table(
        title="What was run",
        caption=(
            "Trials by task, method and setting. Updates: gradient updates of the offline phase; "
            "steps: primitive environment steps of the online phase."
        ),
        columns=(
            "Task",
            "Method",
            "Setting",
            "Phases",
            "Seeds",
            "Updates",
            "Steps",
            "Final episodes",
            "Minutes (median)",
            "Revision",
        ),
        rows=rows,
        notes=_unfinished(data.trials),
        text_columns=5,
    )


def _phases(trial: Trial) -> str:
    phases = set(trial.rows["phase"])
    return " and ".join(phase for phase in (OFFLINE, ONLINE) if phase in phases)


def _amounts(trials: Iterable[Trial], phase: str, column: str) -> str:
    """What each trial reached in a phase: one number if all are equal."""
    reached = set()
    for trial in trials:
        rows = trial.rows[(trial.rows["phase"] == phase) & (trial.rows["kind"] != FINAL)]
        if not rows.empty:
            reached.add(int(rows[column].max()))
    return _one_or_range(reached)


def _one_or_range(values: set[int]) -> str:
    if not values:
        return NOTHING
    low, high = min(values), max(values)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _unfinished(trials: Iterable[Trial]) -> tuple[str, ...]:
    open_trials = sum(not t.complete for t in trials)
    if not open_trials:
        return ()
    verb = "is" if open_trials == 1 else "are"
    return (f"{count(open_trials, 'trial')} {verb} not finished.",)


def _median(values: Sequence[float] | pd.Series[float]) -> float:
    numbers = [v for v in values if not math.isnan(v)]
    return float(np.median(numbers)) if numbers else math.nan


def _spread(values: Sequence[float] | pd.Series[float], decimals: int = 2) -> str:
    numbers = list(values)
    if not numbers:
        return NOTHING
    return f"{number(min(numbers), decimals)} - {number(max(numbers), decimals)}"
