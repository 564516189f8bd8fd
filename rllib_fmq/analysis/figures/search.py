"""What searching at inference brings, and what it costs (the paper's Table 2 as a figure)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from rllib_fmq.analysis.aggregates import Estimate, stratified_bootstrap
from rllib_fmq.analysis.common_runs import common_runs
from rllib_fmq.analysis.comparison import values_by_task
from rllib_fmq.analysis.figures.style import light_grid, look, panel_grid, short, styled
from rllib_fmq.analysis.search_scores import search_latencies, search_scores
from rllib_fmq.analysis.study_data import METHOD, StudyData
from rllib_fmq.analysis.study_searches import SearchSettings

Costs = Mapping[SearchSettings, float]

_NEAR, _APART = 1.15, 10.0
"""Searches whose costs differ by a smaller factor are drawn so many points further apart."""
_ROOM_FOR_NAMES = 0.3
"""Of the y-axis, above the highest interval."""


@styled
def qgbs_ablation(data: StudyData) -> Any | None:
    """Success of one policy under several searches, against their cost.

    Left: IQM with its 95% interval over the network evaluations that a decision needs; right:
    the same over the time of a decision. Only tasks and seeds that were evaluated with every
    search count; searches with another eta, snr or completion than the paper's are in the table.

    Args:
        data: The study.
    Returns:
        The figure, or None with fewer than two searches of the same tasks.
    Raises:
        ModuleNotFoundError: If matplotlib is not installed.
    """
    paper_numbers = {s: found for s, found in search_scores(data).items() if not s.others}
    searches = common_runs(paper_numbers)
    if not searches.scores:
        return None
    latencies = search_latencies(data, runs=searches.runs)
    evaluations = {search: search.nfe for search in searches.scores}
    found = {
        search: stratified_bootstrap(values_by_task(scores))
        for search, scores in searches.scores.items()
    }
    figure, panels = panel_grid(2, columns=2, height=3.9)
    names = ("network evaluations per decision (NFE)", "time per decision (ms)")
    for axes, cost, name in zip(panels, (evaluations, latencies), names, strict=True):
        _search_points(axes, found, cost)
        _cost_axis(axes)
        axes.set_xlabel(name)
        light_grid(axes)
    low, high = panels[0].get_ylim()
    panels[0].set_ylim(low, high + _ROOM_FOR_NAMES * (high - low))
    panels[0].set_ylabel("success rate, interquartile mean")
    return figure


def _search_points(axes: Any, found: Mapping[SearchSettings, Estimate], cost: Costs) -> None:
    """A point with its interval for each search; those of equal cost stand beside each other."""
    from matplotlib.transforms import offset_copy

    for search, shift in _shifts(found, cost).items():
        place = offset_copy(axes.transData, fig=axes.figure, x=shift, units="points")
        estimate, x = found[search], cost[search]
        # A shifted artist does not count when the limits of the axes are chosen.
        axes.update_datalim([(x, estimate.low), (x, estimate.high)])
        plain = not search.is_search
        style = look(METHOD if plain else f"{METHOD} + QGBS")
        axes.plot(
            [x, x],
            [estimate.low, estimate.high],
            color=style.colour,
            linewidth=1.6,
            transform=place,
        )
        axes.plot(
            [x],
            [estimate.value],
            marker="*" if plain else style.marker,
            markersize=14 if plain else 6,
            color=style.colour,
            markeredgecolor="black",
            markeredgewidth=0.6,
            linestyle="none",
            zorder=4,
            transform=place,
        )
        axes.annotate(
            search.label,
            (x, estimate.high),
            xytext=(shift, 4),
            textcoords="offset points",
            rotation=90,
            ha="center",
            va="bottom",
            fontsize=8,
            fontweight="bold" if plain else "normal",
        )


def _shifts(found: Mapping[SearchSettings, Estimate], cost: Costs) -> dict[SearchSettings, float]:
    """How far each search is drawn right of its place, in points."""
    groups: list[list[SearchSettings]] = []
    for search in sorted((s for s in found if np.isfinite(cost[s])), key=lambda s: (cost[s], s)):
        if groups and cost[search] < _NEAR * cost[groups[-1][-1]]:
            groups[-1].append(search)
        else:
            groups.append([search])
    return {
        search: _APART * (index - (len(group) - 1) / 2)
        for group in groups
        for index, search in enumerate(group)
    }


def _cost_axis(axes: Any) -> None:
    """Logarithmic where costs differ by more than a factor of two; plain numbers as ticks."""
    from matplotlib.ticker import LogLocator

    low, high = axes.dataLim.intervalx
    if low > 0 and high > 2 * low:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 1.5, 2.0, 3.0, 5.0, 7.0)))
        axes.minorticks_off()
    axes.margins(x=0.12)
    axes.autoscale_view()
    axes.xaxis.set_major_formatter(lambda value, _: short(value))
