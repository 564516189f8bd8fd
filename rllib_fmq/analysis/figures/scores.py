"""Scores after training: aggregates with intervals, and how likely one method beats another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rllib_fmq.analysis.aggregates import (
    Estimate,
    probability_of_improvement,
    stratified_bootstrap,
)
from rllib_fmq.analysis.comparison import PAIRS, values_by_task
from rllib_fmq.analysis.figures.style import GREY, light_grid, look, new_figure, styled
from rllib_fmq.analysis.study_data import StudyData

_WIDTH = 7.2
_ROW = 0.36
_FRAME = 1.1
"""Inches for title and axis."""


@styled
def aggregate_scores(data: StudyData) -> Any | None:
    """IQM over tasks and seeds with its 95% interval: before and after online training.

    Args:
        data: The study.
    Returns:
        The figure, or None without final scores.
    Raises:
        ModuleNotFoundError: If matplotlib is not installed.
    """
    final, offline = data.final_scores(), data.offline_scores()
    rows: list[tuple[str, str, Estimate, bool]] = []
    for label, scores in reversed(list(final.items())):
        if pooled := values_by_task(scores):
            rows.append((label, label, stratified_bootstrap(pooled), True))
    # Below the others: what online training started from.
    before = [
        (f"{label}, offline only", label, stratified_bootstrap(pooled), False)
        for label, scores in reversed(list(offline.items()))
        if (pooled := values_by_task(scores))
    ]
    if not rows:
        return None
    figure = new_figure(_WIDTH, _FRAME + _ROW * (len(rows) + len(before)))
    axes = figure.subplots()
    for position, (_, label, estimate, trained) in enumerate(before + rows):
        _interval(axes, position, estimate, label, filled=trained)
    if before:
        axes.axhline(len(before) - 0.5, color="#bbbbbb", linewidth=0.8)
    _rows(axes, [name for name, *_ in before + rows])
    axes.set_xlim(-0.03, 1.03)
    axes.set_xlabel("success rate: interquartile mean over tasks and seeds, 95% interval")
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
    final = data.final_scores()
    rows: list[tuple[str, str, Estimate]] = []
    for one, other in PAIRS:
        first, second = values_by_task(final.get(one, {})), values_by_task(final.get(other, {}))
        shared = [task for task in first if task in second]
        if shared:
            estimate = probability_of_improvement(
                {task: first[task] for task in shared}, {task: second[task] for task in shared}
            )
            rows.append((f"{one} over {other}", one, estimate))
    if not rows:
        return None
    rows.reverse()
    figure = new_figure(_WIDTH, _FRAME + _ROW * len(rows))
    axes = figure.subplots()
    for position, (_, label, estimate) in enumerate(rows):
        _interval(axes, position, estimate, label)
    axes.axvline(0.5, color=GREY, linewidth=1.2, linestyle="--")
    _rows(axes, [name for name, *_ in rows])
    axes.set_xlim(-0.03, 1.03)
    axes.set_xlabel("probability of improvement P(X > Y), 95% interval (dashed: no difference)")
    return figure


def _interval(
    axes: Any, position: float, estimate: Estimate, label: str, filled: bool = True
) -> None:
    """A thick horizontal bar from low to high, a marker at the value, and the value in words."""
    style = look(label)
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


def _rows(axes: Any, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(axis="y", length=0, labelsize=9)
    axes.set_ylim(-0.6, len(names) - 0.4)
    light_grid(axes, "x")
    axes.spines["left"].set_visible(False)
