"""Scores after training: aggregates with intervals, and how likely one method beats another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rllib_fmq.analysis.aggregates import Estimate, stratified_bootstrap
from rllib_fmq.analysis.comparison import (
    OFFLINE_SUFFIX,
    Improvement,
    improvements,
    shared_tasks,
    values_by_task,
)
from rllib_fmq.analysis.figures.style import GREY, Look, light_grid, look, new_figure, styled
from rllib_fmq.analysis.study_data import StudyData

_WIDTH = 7.2
_ROW = 0.36
_FRAME = 1.1
"""Inches for title and axis."""


@styled
def aggregate_scores(data: StudyData) -> Any | None:
    """IQM over tasks and seeds with its 95% interval: before and after online training.

    Only tasks that all rows have results on count; where that is not all, the figure says so.

    Args:
        data: The study.
    Returns:
        The figure, or None without final scores on a common task.
    Raises:
        ModuleNotFoundError: If matplotlib is not installed.
    """
    final, offline = data.final_scores(), data.offline_scores()
    tasks, others = shared_tasks(data, [*final.values(), *offline.values()])
    if not final or not tasks:
        return None
    rows: list[tuple[str, str, Estimate, bool]] = [
        (label, label, stratified_bootstrap(values_by_task(scores, tasks)), True)
        for label, scores in reversed(list(final.items()))
    ]
    # Below the others: what online training started from.
    before = [
        (
            f"{label}, offline only",
            label,
            stratified_bootstrap(values_by_task(scores, tasks)),
            False,
        )
        for label, scores in reversed(list(offline.items()))
    ]
    figure = new_figure(_WIDTH, _FRAME + _ROW * (len(rows) + len(before)))
    axes = figure.subplots()
    for position, (_, label, estimate, trained) in enumerate(before + rows):
        _interval(axes, position, estimate, look(label, [*data.methods, *final]), trained)
    if before:
        axes.axhline(len(before) - 0.5, color="#bbbbbb", linewidth=0.8)
    _rows(axes, [name for name, *_ in before + rows])
    axes.set_xlim(-0.03, 1.03)
    axes.set_xlabel("success rate: interquartile mean over tasks and seeds, 95% interval")
    if others:
        names = ", ".join(data.short_name(task) for task in others)
        axes.set_title(
            f"without tasks that a row has no results on: {names}", loc="left", wrap=True
        )
    return figure


@styled
def improvement(data: StudyData) -> Any | None:
    """P(X > Y) with its 95% interval for the pairs of methods that a study compares.

    Args:
        data: The study.
    Returns:
        The figure, or None without two methods that share a task.
    Raises:
        ModuleNotFoundError: If matplotlib is not installed.
    """
    rows = improvements(data)[::-1]
    if not rows:
        return None
    figure = new_figure(_WIDTH, _FRAME + _ROW * len(rows))
    axes = figure.subplots()
    for position, row in enumerate(rows):
        _interval(axes, position, row.chance, look(row.x, data.methods))
    axes.axvline(0.5, color=GREY, linewidth=1.2, linestyle="--")
    _rows(axes, [f"{row.x} over {_short(row)}" for row in rows])
    axes.set_xlim(-0.03, 1.03)
    axes.set_xlabel("probability of improvement P(X > Y), 95% interval (dashed: no difference)")
    return figure


def _interval(
    axes: Any, position: float, estimate: Estimate, style: Look, filled: bool = True
) -> None:
    """A thick horizontal bar from low to high, a marker at the value, and the value in words."""
    axes.plot(
        [estimate.low, estimate.high],
        [position, position],
        color=style.colour,
        alpha=0.45,
        linewidth=7,
        solid_capstyle="butt",
    )
    axes.plot(
        [estimate.value],
        [position],
        marker=style.marker,
        markersize=7,
        color=style.colour,
        markerfacecolor=style.colour if filled else "white",
        markeredgecolor=style.colour if not filled else "black",
        markeredgewidth=1.4 if not filled else 0.6,
        linestyle="none",
        clip_on=False,
        zorder=3,
    )
    axes.annotate(
        f"{estimate.value:.2f} [{estimate.low:.2f}, {estimate.high:.2f}]",
        xy=(1.02, position),
        xycoords=("axes fraction", "data"),
        va="center",
        fontsize=8.5,
        annotation_clip=False,
    )


def _short(row: Improvement) -> str:
    return "its offline policy" if row.y == row.x + OFFLINE_SUFFIX else row.y


def _rows(axes: Any, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(axis="y", length=0, labelsize=9)
    axes.set_ylim(-0.6, len(names) - 0.4)
    light_grid(axes, "x")
    axes.spines["left"].set_visible(False)
