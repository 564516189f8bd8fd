"""How many times sooner FMQ reaches what MVP reaches (the paper's Figs. 3 and 19)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from rllib_fmq.analysis.figures.style import GREY, light_grid, look, panel_grid, styled
from rllib_fmq.analysis.speedup import CLOCKS, Speedup, SpeedupAverage, study_speedup
from rllib_fmq.analysis.study_data import BASELINE, METHOD, StudyData

# A task is told by its marker; there are twelve in the paper.
_MARKERS = ("o", "s", "^", "v", "P", "X", "<", ">", "p", "h", "*", "d")
_DOTS, _MEAN = (-0.36, -0.06), 0.08
"""Where the dots and the mean of a threshold stand, with one unit between thresholds."""
_TICKS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0)


@styled
def speedup(data: StudyData) -> Any | None:
    """Ratio of the steps that MVP and FMQ need, at four shares of their common target.

    Left: counted in environment steps from the switch on; right: in updates of both phases. A
    dot is a task (mean over seeds), the diamond the mean over tasks with its 95% interval.

    Args:
        data: The study.
    Returns:
        The figure, or None without runs of both methods that reach a common target.
    Raises:
        ModuleNotFoundError: If matplotlib is not installed.
    """
    found = {
        words: result
        for clock, words in CLOCKS.items()
        if (result := study_speedup(data, clock)) is not None
    }
    if not found:
        return None
    figure, panels = panel_grid(len(found), columns=2, height=3.6)
    ratios = [r for result in found.values() for task in result.tasks for r in task.ratios]
    ratios += [average.value for result in found.values() for average in result.averages]
    # The interval of a mean may reach below zero, where a logarithmic axis ends.
    limits = min(*ratios, 0.8) / 1.25, max(*ratios, 1.6) * 1.25
    names = [task for task in data.tasks if any(_has(r, task) for r in found.values())]
    for axes, (words, result) in zip(panels, found.items(), strict=True):
        _draw(axes, result, names, limits)
        axes.set_title(f"counted in {words}")
        axes.set_xlabel("share of the common target")
    panels[0].set_ylabel(rf"speed-up $T_\mathrm{{{BASELINE}}} / T_\mathrm{{{METHOD}}}$")
    _legend(figure, data, names)
    return figure


def _has(result: Speedup, name: str) -> bool:
    return any(task.task == name for task in result.tasks)


def _draw(axes: Any, result: Speedup, names: Sequence[str], limits: tuple[float, float]) -> None:
    places = np.arange(len(result.fractions), dtype=float)
    colour = look(METHOD).colour
    offsets = np.linspace(*_DOTS, len(names))
    for task in result.tasks:
        index = names.index(task.task)
        axes.plot(
            places + offsets[index],
            task.ratios,
            linestyle="none",
            marker=_MARKERS[index % len(_MARKERS)],
            markersize=5.5,
            color=colour,
            alpha=0.6,
            markeredgewidth=0,
        )
    for place, average in zip(places, result.averages, strict=True):
        _diamond(axes, place + _MEAN, average, limits[0])
    axes.axhline(1.0, color=GREY, linewidth=1.2, linestyle=(0, (4, 3)), zorder=1)
    axes.set_yscale("log")
    axes.set_ylim(*limits)
    ticks = [tick for tick in _TICKS if limits[0] <= tick <= limits[1]]
    axes.set_yticks(ticks, [f"{tick:g}x" for tick in ticks])
    axes.minorticks_off()
    axes.set_xticks(places, [f"{100 * fraction:g}%" for fraction in result.fractions])
    axes.set_xlim(-0.5, len(places) - 0.5)
    light_grid(axes, "y")


def _diamond(axes: Any, place: float, average: SpeedupAverage, lowest: float) -> None:
    if np.isfinite(average.low):
        axes.vlines(place, max(average.low, lowest), average.high, color="black", linewidth=1.6)
    axes.plot([place], [average.value], marker="D", markersize=7, color="black", zorder=4)
    axes.annotate(
        f"{average.value:.2f}x",
        (place, average.value),
        xytext=(7, 0),
        textcoords="offset points",
        va="center",
        fontsize=8,
        fontweight="bold",
    )


def _legend(figure: Any, data: StudyData, names: Sequence[str]) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D(
            [],
            [],
            linestyle="none",
            marker=_MARKERS[index % len(_MARKERS)],
            color=look(METHOD).colour,
            alpha=0.6,
            markersize=5.5,
            label=data.short_name(task),
        )
        for index, task in enumerate(names)
    ]
    mean = Line2D([], [], linestyle="-", marker="D", color="black", label="mean, 95% interval")
    figure.legend(
        handles=[*handles, mean],
        loc="outside lower center",
        ncols=min(len(handles) + 1, 4),
        frameon=False,
    )
