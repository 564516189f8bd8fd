"""Success against training: per task, and over all tasks (the paper's Figs. 2 and 17)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rllib_fmq.analysis.aggregates import Band, curve_band, mean_of
from rllib_fmq.analysis.figures.style import (
    GREY,
    label_outer,
    light_grid,
    look,
    new_figure,
    panel_grid,
    short,
    styled,
)
from rllib_fmq.analysis.panels import OFFLINE
from rllib_fmq.analysis.study_data import StudyData

_LEAST_SHARE, _MOST_SHARE = 0.25, 0.42
"""Of a panel's width for the offline phase: methods differ after it."""
_MARKERS_UP_TO = 30
"""Points of a curve; more would hide the line."""


@dataclass(frozen=True)
class Span:
    """Length of both phases of a task: offline updates lie at [0, updates], online steps after."""

    updates: int
    steps: int

    @property
    def share(self) -> float:
        """Of the panel's width for the offline phase."""
        total = self.updates + self.steps
        if self.updates == 0 or self.steps == 0:
            return float(self.updates > 0)
        return min(max(self.updates / total, _LEAST_SHARE), _MOST_SHARE)

    def position(self, rows: pd.DataFrame) -> NDArray[np.float64]:
        """Place of each evaluation on the axis: the update offline, updates + env step online."""
        online = self.updates + rows["env_step"].to_numpy(float)
        offline = rows["update"].to_numpy(float)
        return np.asarray(np.where(rows["phase"] == OFFLINE, offline, online))

    def fraction(self, rows: pd.DataFrame) -> NDArray[np.float64]:
        """Of the offline phase in [0, 1], of the online phase in [1, 2]."""
        online = 1.0 + rows["env_step"].to_numpy(float) / max(self.steps, 1)
        offline = rows["update"].to_numpy(float) / max(self.updates, 1)
        return np.asarray(np.round(np.where(rows["phase"] == OFFLINE, offline, online), 6))


Runs = Mapping[str, Mapping[int, pd.DataFrame]]
"""Method -> seed -> evaluations."""


@styled
def learning_curves(data: StudyData) -> Any | None:
    """A panel per task: mean success over seeds with its 95% band, one curve per method.

    The axis runs through the offline updates, then the online environment steps. Methods that
    share their pre-training coincide up to the switch.

    Args:
        data: The study.
    Returns:
        The figure, or None without evaluations of a finished trial. A method whose seeds were
        never evaluated at the same point has no curve.
    Raises:
        ModuleNotFoundError: If matplotlib is not installed.
    """
    bands = {task: drawn for task in data.tasks if (drawn := _bands(data, task))}
    if not bands:
        return None
    figure, panels = panel_grid(len(bands))
    for axes, (task, drawn) in zip(panels, bands.items(), strict=True):
        for method, band in drawn.items():
            draw_band(axes, band, method, data.methods)
        axes.set_title(data.short_name(task))
        _success_axis(axes)
        _training_axis(axes, span_of(_runs(data, task)))
    label_outer(panels, "offline updates | online environment steps", "success rate")
    method_legend(figure, data, [m for m in data.methods if any(m in d for d in bands.values())])
    return figure


@styled
def aggregate_iqm_curves(data: StudyData) -> Any | None:
    """Interquartile mean over all tasks and seeds against the fraction of each phase.

    Only tasks on which every method has results count, and only points at which all of their
    runs were evaluated.

    Args:
        data: The study.
    Returns:
        The figure, or None if no such task or no two such points exist.
    Raises:
        ModuleNotFoundError: If matplotlib is not installed.
    """
    tasks = {task: runs for task in data.tasks if (runs := _runs(data, task))}
    methods = [m for m in data.methods if any(m in runs for runs in tasks.values())]
    shared = {task: runs for task, runs in tasks.items() if set(runs) == set(methods)}
    bands = {}
    for method in methods if shared else ():
        bands[method] = curve_band(
            {
                task: [_curve(rows, span_of(runs).fraction) for rows in runs[method].values()]
                for task, runs in shared.items()
            }
        )
    bands = {method: band for method, band in bands.items() if band.x.size}
    if not any(b.x.size > 1 for b in bands.values()):
        return None
    figure = new_figure(7.2, 4.0)
    axes = figure.subplots()
    for method, drawn in bands.items():
        draw_band(axes, drawn, method, data.methods)
    axes.axvline(1.0, color=GREY, linewidth=1.2, linestyle=(0, (4, 3)))
    ticks = [0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0]
    names = ["0", "25%", "50%", "75%", "100% | 0", "25%", "50%", "75%", "100%"]
    axes.set_xticks(ticks, names)
    axes.set_xlim(0.0, 2.0)
    _success_axis(axes)
    axes.set_xlabel("offline updates | online environment steps, as a share of each phase")
    axes.set_ylabel("success rate, interquartile mean")
    method_legend(figure, data, list(bands))
    return figure


def span_of(runs: Runs) -> Span:
    """The longest phases among the runs of a task."""
    rows = pd.concat([frame for seeds in runs.values() for frame in seeds.values()])
    offline = rows[rows["phase"] == OFFLINE]
    updates = 0 if offline.empty else int(offline["update"].max())
    return Span(updates, int(rows["env_step"].max()))


def draw_band(axes: Any, drawn: Band, label: str, labels: list[str]) -> None:
    """A line with markers through the centre, and a shaded area from low to high."""
    style = look(label, labels)
    axes.plot(
        drawn.x,
        drawn.centre,
        color=style.colour,
        linestyle=style.line,
        marker=style.marker if drawn.x.size <= _MARKERS_UP_TO else "",
        markersize=4,
        linewidth=1.8,
        label=label,
        clip_on=False,
        zorder=3,
    )
    axes.fill_between(drawn.x, drawn.low, drawn.high, color=style.colour, alpha=0.16, linewidth=0)


def method_legend(figure: Any, data: StudyData, labels: list[str]) -> None:
    """One legend below all panels."""
    from matplotlib.lines import Line2D

    handles = []
    for label in labels:
        style = look(label, data.methods)
        handles.append(
            Line2D(
                [],
                [],
                color=style.colour,
                linestyle=style.line,
                marker=style.marker,
                markersize=5,
                linewidth=1.8,
                label=label,
            )
        )
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=min(len(handles), 5),
        frameon=False,
        handlelength=3.2,
    )


def _runs(data: StudyData, task: str) -> dict[str, dict[int, pd.DataFrame]]:
    return {m: seeds for m in data.methods if (seeds := data.curves(task, m))}


def _bands(data: StudyData, task: str) -> dict[str, Band]:
    """Method -> mean over seeds where all of them were evaluated, if they ever were."""
    runs = _runs(data, task)
    found = {}
    for method, seeds in runs.items():
        curves = [_curve(rows, span_of(runs).position) for rows in seeds.values()]
        band = curve_band(curves, mean_of)
        if band.x.size:
            found[method] = band
    return found


def _curve(
    rows: pd.DataFrame, place: Callable[[pd.DataFrame], NDArray[np.float64]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Places and success; at the switch the offline policy's value, whose copy goes online."""
    x, first = np.unique(place(rows), return_index=True)
    return x, rows["success"].to_numpy(float)[first]


def _success_axis(axes: Any) -> None:
    axes.set_ylim(0.0, 1.0)
    light_grid(axes)


def _training_axis(axes: Any, span: Span) -> None:
    """Raw updates and steps on the axis; its scale only gives each phase room enough."""
    updates, steps = span.updates, span.steps
    total = updates + steps
    if updates and steps:
        knots, places = [0.0, float(updates), float(total)], [0.0, span.share, 1.0]
        axes.set_xscale(
            "function",
            functions=(
                lambda x: np.interp(x, knots, places),
                lambda p: np.interp(p, places, knots),
            ),
        )
        axes.axvline(updates, color=GREY, linewidth=1.2, linestyle=(0, (4, 3)), zorder=1)
    ticks = {0: "0"} if updates else {}
    if updates:
        ticks |= {updates: short(updates)}
    if steps:
        ticks |= {updates + steps // 2: short(steps / 2), total: short(steps)}
        ticks[updates] = f"{short(updates)} | 0" if updates else "0"
    axes.set_xticks(list(ticks), list(ticks.values()))
    axes.minorticks_off()
    axes.set_xlim(0, max(total, 1))
