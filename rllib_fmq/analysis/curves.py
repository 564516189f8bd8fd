"""Learning curves of one or more runs: offline updates, the switch, online environment steps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rllib_fmq.analysis.panels import (
    OFFLINE,
    ONLINE,
    TRUST_REGION,
    X_LABELS,
    Panel,
    choose_panels,
    curve,
    mean_curve,
    phase_of,
    x_values,
)
from rllib_fmq.analysis.results import Run, read_runs
from rllib_fmq.atomic import replacing

MISSING_MATPLOTLIB = (
    "no plot: the package 'matplotlib' is not installed: pip install 'rllib-fmq[plots]'"
)
FORMATS = (".png", ".svg", ".pdf")
# Okabe and Ito's palette: told apart by colour-blind readers too.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7A5195", "#444444")
_GREY = "#555555"
_LEGEND_COLUMNS = 3


def plot_curves(results: Sequence[str | Path], output: str | Path) -> Path:
    """Draw success, trust-region and loss curves of runs.

    Offline updates lie left of the marked switch, primitive environment steps right of it.
    Runs that differ in their seed only get a thin line each and a thick one for their mean.

    Args:
        results: Trial or experiment folders, or folders of experiments.
        output: File to write: .png, .svg or .pdf.
    Returns:
        The file.
    Raises:
        FileNotFoundError: If there are no results.
        ValueError: If the results are damaged or empty, or the extension is unknown.
        ModuleNotFoundError: If matplotlib is not installed.
    """
    target = Path(output).expanduser()
    if target.suffix.lower() not in FORMATS:
        raise ValueError(
            f"cannot write a plot to {str(output)!r}: the name must end in {', '.join(FORMATS)}."
        )
    figure = draw(read_runs(results))
    with replacing(target) as staged:
        figure.savefig(staged, dpi=150)
    return target


def draw(runs: Sequence[Run]) -> Any:
    """The figure of ``plot_curves``.

    Args:
        runs: At least one.
    Returns:
        A ``matplotlib.figure.Figure``.
    Raises:
        ModuleNotFoundError: If matplotlib is not installed.
    """
    try:
        # Not pyplot: no display, no state that outlives the call.
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(MISSING_MATPLOTLIB, name=error.name) from error

    phases = [p for p in (OFFLINE, ONLINE) if any(p in phase_of(run) for run in runs)]
    panels = choose_panels(runs)
    groups = list(dict.fromkeys(run.group for run in runs))
    legend_rows = math.ceil(len(groups) / _LEGEND_COLUMNS) if len(groups) > 1 else 0
    below = 0.65 + 0.25 * legend_rows
    height = 0.65 + 2.1 * len(panels) + below
    figure = Figure(figsize=(8.6, height))
    grid = figure.subplots(
        len(panels),
        len(phases),
        sharex="col",
        sharey="row",
        squeeze=False,
        width_ratios=_widths(runs, phases),
        # The two phases touch: their border is the switch.
        gridspec_kw={
            "wspace": 0.0,
            "hspace": 0.1,
            "left": 0.1,
            "right": 0.975,
            "top": 1.0 - 0.65 / height,
            "bottom": below / height,
        },
    )
    for row, panel in enumerate(panels):
        for column, phase in enumerate(phases):
            axes = grid[row][column]
            _draw_panel(axes, panel, runs, phase)
            _decorate(axes, panel, first=column == 0)
            if row == len(panels) - 1:
                axes.set_xlabel(X_LABELS[phase])
            if len(phases) == 2:
                _mark_switch(axes, phase, labelled=row == 0)
        if panel is TRUST_REGION:
            # Only now: a limit ends the automatic scaling of the whole row.
            grid[row][0].set_ylim(bottom=0.0)
        _style_legend(grid[row], panel, runs)
    figure.align_ylabels(grid[:, 0])
    _title(figure, runs, groups)
    return figure


def _widths(runs: Sequence[Run], phases: Sequence[str]) -> list[float]:
    """Room for each phase, by its length, but never less than a third."""
    if len(phases) == 1:
        return [1.0]
    spans = []
    for phase in phases:
        ends = [
            max((x for x, p in zip(x_values(r), phase_of(r), strict=True) if p == phase), default=0)
            for r in runs
        ]
        spans.append(float(max(ends)))
    total = sum(spans) or 1.0
    share = min(max(spans[0] / total, 0.34), 0.66)
    return [share, 1.0 - share]


def _draw_panel(axes: Any, panel: Panel, runs: Sequence[Run], phase: str) -> None:
    shown = panel.shown(runs)
    groups = list(dict.fromkeys(run.group for run in runs))
    for number, series in enumerate(shown):
        for index, group in enumerate(groups):
            # One run: a colour for each curve. Several: a colour for each of them.
            colour = _COLOURS[(number if len(runs) == 1 else index) % len(_COLOURS)]
            curves = [curve(run, series, phase) for run in runs if run.group == group]
            several = len(curves) > 1
            marker = "" if several else series.marker
            for x, y in curves:
                axes.plot(
                    x,
                    y,
                    linestyle=series.style,
                    marker=marker,
                    markersize=4,
                    color=colour,
                    linewidth=0.8 if several else 1.7,
                    alpha=0.4 if several else 1.0,
                    clip_on=not panel.unit,
                )
            if several:
                x, y = mean_curve(curves)
                axes.plot(
                    x,
                    y,
                    linestyle=series.style,
                    marker=series.marker,
                    markersize=4,
                    color=colour,
                    linewidth=2.2,
                    clip_on=not panel.unit,
                )


def _decorate(axes: Any, panel: Panel, first: bool) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    if panel.unit:
        axes.set_ylim(0.0, 1.0)
    elif panel.log:
        axes.set_yscale("log")
    if first:
        axes.set_ylabel(panel.title)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, prune="upper"))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))
    axes.margins(x=0.0)
    axes.set_xlim(left=0)
    axes.grid(True, color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _mark_switch(axes: Any, phase: str, labelled: bool) -> None:
    """The border between the two columns is the switch."""
    if phase == OFFLINE:
        axes.set_facecolor("#f4f4f4")
        return
    axes.tick_params(axis="y", which="both", length=0, labelleft=False)
    axes.spines["left"].set(visible=True, color=_GREY, linewidth=1.4, linestyle=(0, (4, 3)))
    if labelled:
        axes.annotate(
            "switch to online",
            xy=(0.0, 1.0),
            xycoords="axes fraction",
            xytext=(0, 3),
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize="small",
            color=_GREY,
        )


def _style_legend(row: Any, panel: Panel, runs: Sequence[Run]) -> None:
    from matplotlib.lines import Line2D

    shown = panel.shown(runs)
    handles: list[Any] = [
        Line2D(
            [],
            [],
            color=_COLOURS[number] if len(runs) == 1 else _GREY,
            linestyle=series.style,
            marker=series.marker,
            markersize=4,
            label=series.name,
        )
        for number, series in enumerate(shown)
    ]
    # In the phase that has nothing to show, if there is one.
    empty = [axes for axes in row if not any(len(line.get_xdata()) for line in axes.lines)]
    axes, place = (empty[0], "center") if empty else (row[-1], "best")
    axes.legend(handles=handles, loc=place, fontsize="small", framealpha=0.85)


def _title(figure: Any, runs: Sequence[Run], groups: Sequence[str]) -> None:
    from matplotlib.lines import Line2D

    environments = {str(run.rows[-1].get("config/env")) for run in runs}
    title = environments.pop() if len(environments) == 1 else ""
    top = 1.0 - 0.12 / figure.get_figheight()
    if len(groups) == 1:
        count = f", {len(runs)} runs" if len(runs) > 1 else ""
        title = f"{groups[0]} on {title}{count}" if title else groups[0]
    figure.suptitle(title, y=top, va="top", fontsize="medium")
    if len(groups) == 1:
        return
    handles: list[Any] = [
        Line2D(
            [], [], color=_COLOURS[index % len(_COLOURS)], linewidth=2.2, label=_counted(g, runs)
        )
        for index, g in enumerate(groups)
    ]
    figure.legend(
        handles=handles,
        loc="lower center",
        ncols=min(_LEGEND_COLUMNS, len(groups)),
        fontsize="small",
        frameon=False,
    )


def _counted(group: str, runs: Sequence[Run]) -> str:
    count = sum(run.group == group for run in runs)
    return f"{group} (mean of {count} runs)" if count > 1 else group


def _short(value: float) -> str:
    """1500 -> "1.5k", 2000000 -> "2M"."""
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"
