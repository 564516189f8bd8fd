"""How far the policy moves from its offline copy, and how far it may (the paper's Fig. 18)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rllib_fmq.analysis.aggregates import Band, curve_band, mean_of
from rllib_fmq.analysis.figures.style import label_outer, light_grid, panel_grid, short, styled
from rllib_fmq.analysis.study_data import METHOD, Configs, StudyData

DISPLACEMENT, RADIUS, UNCERTAINTY = "#0072B2", "#D55E00", "#8a6100"
_MOST_POINTS = 200
"""Of a curve; a trial has a row for each of its iterations."""


@styled
def trust_region(data: StudyData, configs: Configs) -> Any | None:
    """A panel per task: displacement, radius eta_eff, and the uncertainty that it implies.

        sigma = (eta / eta_eff - 1) / beta        (1 / eta_eff with radius_numerator "one")

    Means over seeds with 95% bands, during FMQ's online phase.

    Args:
        data: The study.
        configs: config_id -> config, of which eta, beta and radius_numerator are read; where
            they are missing, or beta is 0, the uncertainty is left out.
    Returns:
        The figure, or None where no trial reported a displacement.
    Raises:
        ModuleNotFoundError: If matplotlib is not installed.
    """
    runs = {task: seeds for task in data.tasks if (seeds := _measured(data, task))}
    if not runs:
        return None
    from matplotlib.ticker import MaxNLocator

    figure, panels = panel_grid(len(runs), height=2.35, sharey=False)
    uncertain = False
    for axes, (task, seeds) in zip(panels, runs.items(), strict=True):
        frames = list(seeds.values())
        _line(axes, _mean(frames, "displacement"), DISPLACEMENT, "-")
        _line(axes, _mean(frames, "eta_eff"), RADIUS, (0, (4, 2)))
        axes.set_title(data.short_name(task))
        axes.set_ylim(bottom=0.0)
        axes.set_xlim(left=0.0)
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.xaxis.set_major_formatter(lambda value, _: short(value))
        light_grid(axes)
        implied = [_uncertainty(rows, configs) for rows in frames]
        if all(rows is not None for rows in implied):
            uncertain = True
            _right_axis(axes, [rows for rows in implied if rows is not None])
    label_outer(panels, "online environment steps", "distance, radius")
    _legend(figure, uncertain)
    return figure


def implied_uncertainty(
    eta_eff: NDArray[np.float64], eta: float, beta: float
) -> NDArray[np.float64]:
    """The relative critic disagreement that a radius implies.

        eta_eff = eta / (1 + beta * sigma)   <=>   sigma = (eta / eta_eff - 1) / beta

    Args:
        eta_eff: Shape (n,), > 0.
        eta: Largest radius, > 0; 1 where the config's radius_numerator is "one".
        beta: Sensitivity to disagreement, > 0.
    Returns:
        sigma, shape (n,).
    Source: Eq. 13; Fig. 18.
    """
    return (eta / eta_eff - 1.0) / beta


def _measured(data: StudyData, task: str) -> dict[int, pd.DataFrame]:
    """Rows of each seed at the steps that all seeds have; of many steps every so manieth one."""
    kept = {}
    for seed, rows in data.training(task, METHOD).items():
        rows = rows[rows["displacement"].notna() & (rows["eta_eff"] > 0)]
        rows = rows.drop_duplicates("env_step", keep="last")
        if not rows.empty:
            kept[seed] = rows.set_index("env_step", drop=False)
    if not kept:
        return {}
    steps = sorted(set.intersection(*(set(rows.index) for rows in kept.values())))
    chosen = steps[:: max(1, len(steps) // _MOST_POINTS)]
    return {seed: rows.loc[chosen] for seed, rows in kept.items()} if chosen else {}


def _mean(frames: list[pd.DataFrame], column: str) -> Band:
    curves = [(rows["env_step"].to_numpy(float), rows[column].to_numpy(float)) for rows in frames]
    return curve_band(curves, mean_of)


def _uncertainty(rows: pd.DataFrame, configs: Configs) -> pd.DataFrame | None:
    config = configs.get(str(rows["config_id"].iloc[0]), {})
    eta = 1.0 if config.get("radius_numerator") == "one" else config.get("eta")
    beta = config.get("beta")
    if not eta or not beta:
        return None
    sigma = implied_uncertainty(rows["eta_eff"].to_numpy(float), float(eta), float(beta))
    return rows.assign(uncertainty=sigma)


def _line(axes: Any, drawn: Band, colour: str, style: Any) -> None:
    axes.plot(drawn.x, drawn.centre, color=colour, linestyle=style, linewidth=1.7)
    axes.fill_between(drawn.x, drawn.low, drawn.high, color=colour, alpha=0.16, linewidth=0)


def _right_axis(axes: Any, implied: list[pd.DataFrame]) -> None:
    right = axes.twinx()
    _line(right, _mean(implied, "uncertainty"), UNCERTAINTY, (0, (1, 1.4)))
    # Room above, so that it does not lie on the radius.
    right.set_ylim(0.0, 1.3 * right.get_ylim()[1])
    right.locator_params(axis="y", nbins=5)
    right.spines["right"].set(visible=True, color=UNCERTAINTY)
    right.tick_params(axis="y", colors=UNCERTAINTY)


def _legend(figure: Any, uncertain: bool) -> None:
    from matplotlib.lines import Line2D

    shown: list[tuple[str, str, Any]] = [
        ("distance from the offline policy", DISPLACEMENT, "-"),
        (r"radius $\eta_\mathrm{eff}$", RADIUS, (0, (4, 2))),
    ]
    if uncertain:
        shown.append(("implied uncertainty of Q (right axis)", UNCERTAINTY, (0, (1, 1.4))))
    handles = [
        Line2D([], [], color=colour, linestyle=style, linewidth=1.7, label=name)
        for name, colour, style in shown
    ]
    figure.legend(
        handles=handles, loc="outside lower center", ncols=3, frameon=False, handlelength=3.0
    )
