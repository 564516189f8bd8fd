"""All tables of a study report, and why one may be absent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rllib_fmq.analysis.comparison import COMPARED
from rllib_fmq.analysis.main_table import main_table
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
from rllib_fmq.analysis.study_data import BASELINE, METHOD, Configs, StudyData
from rllib_fmq.analysis.study_tables import improvement_table, offline_online_table, speedup_table
from rllib_fmq.analysis.table_format import Table


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
    build: Callable[[StudyData, Configs], Table | None]
    needs: str


def _of_data(build: Callable[[StudyData], Table | None]) -> Callable[..., Table | None]:
    """For tables that need no configs."""
    return lambda data, _: build(data)


TABLES = (
    TableKind(
        "main",
        "Success rate after training",
        main_table,
        "no final evaluation with a success rate",
    ),
    TableKind(
        "offline_online",
        "Before and after online training",
        _of_data(offline_online_table),
        "no method has a final evaluation with a success rate both before and after online "
        "training",
    ),
    TableKind(
        "improvement",
        "Probability of improvement",
        _of_data(improvement_table),
        f"no two of the compared methods ({COMPARED}) have success rates of final evaluations on "
        "the same task",
    ),
    TableKind(
        "speedup",
        f"Speed-up of {METHOD} over {BASELINE}",
        _of_data(speedup_table),
        f'no task and seed has complete learning curves of methods named "{METHOD}" and '
        f'"{BASELINE}" with a shared target',
    ),
    TableKind(
        "qgbs",
        "QGBS: search settings",
        _of_data(qgbs_table),
        f'no final evaluations of a method named "{METHOD}" with several search settings on the '
        "same tasks and seeds",
    ),
    TableKind(
        "qgbs_tasks",
        "QGBS: search settings per task",
        _of_data(qgbs_task_table),
        f'no final evaluations of a method named "{METHOD}" with several search settings on the '
        "same tasks and seeds",
    ),
    TableKind(
        "distillation",
        "Self-distillation losses",
        _of_data(distillation_table),
        f'no setting "distillation=lsd" or "distillation=psd" of a method named "{METHOD}" with '
        "final evaluations on the same tasks and seeds",
    ),
    TableKind(
        "settings",
        "Settings",
        _of_data(settings_table),
        "no setting but the default has final success rates",
    ),
    TableKind(
        "decision_costs",
        "Cost of a decision",
        _of_data(decision_cost_table),
        "no final evaluation with a success rate",
    ),
    TableKind(
        "training_costs",
        "Cost of training",
        _of_data(training_cost_table),
        "no complete trial has a wall time",
    ),
    TableKind("trials", "What was run", _of_data(trials_table), "no trials"),
)
"""All tables, in the order of a report."""
