"""What a learning-curve figure shows: its panels, and the points of a curve."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from rllib_fmq.analysis.results import Run

OFFLINE, ONLINE = "offline", "online"
X_LABELS = {OFFLINE: "gradient updates (offline)", ONLINE: "environment steps (online)"}
_EVALUATION = "evaluation/env_runners/"
_COLLECTED = "env_runners/"
_LEARNER = "learners/default_policy/"

LineStyle = Literal["-", "--", "-.", ":"]

Curve = tuple[NDArray[np.float64], NDArray[np.float64]]
"""x and y, shapes (n,) and (n,)."""


@dataclass(frozen=True)
class Series:
    """One kind of curve in a panel."""

    key: str
    name: str
    style: LineStyle = "-"
    marker: str = ""
    evaluation: bool = False
    """Of an evaluation: only fresh ones count, and the curve starts where the phase before
    ended."""


@dataclass(frozen=True)
class Panel:
    """One row of the figure."""

    title: str
    series: tuple[Series, ...]
    unit: bool = False
    """Values lie in [0, 1]."""
    log: bool = False

    def shown(self, runs: Sequence[Run]) -> tuple[Series, ...]:
        """Those series of which any run has a number."""
        return tuple(
            series
            for series in self.series
            if any(math.isfinite(v) for run in runs for v in run.column(series.key))
        )


SUCCESS = Panel(
    "success rate",
    (
        Series(_EVALUATION + "success_rate", "evaluation", "-", "o", evaluation=True),
        Series(_COLLECTED + "success_rate", "collected episodes", ":"),
    ),
    unit=True,
)
RETURN = Panel(
    "episode return",
    (
        Series(_EVALUATION + "episode_return_mean", "evaluation", "-", "o", evaluation=True),
        Series(_COLLECTED + "episode_return_mean", "collected episodes", ":"),
    ),
)
TRUST_REGION = Panel(
    "distance from the\noffline policy",
    (
        Series(_LEARNER + "displacement", "mean displacement", "-"),
        Series(_LEARNER + "eta_eff", r"mean radius $\eta_\mathrm{eff}$", "--"),
    ),
)
LOSSES = Panel(
    "losses",
    (
        Series(_LEARNER + "critic_loss", "critic", "-"),
        Series(_LEARNER + "diagonal_loss", "diagonal", "--"),
        Series(_LEARNER + "distillation_loss", "self-distillation", "-."),
        Series(_LEARNER + "q_guidance_loss", "Q-guidance", ":"),
    ),
    log=True,
)


def choose_panels(runs: Sequence[Run]) -> list[Panel]:
    """Success (or return), the trust region, and the losses of a single run.

    Args:
        runs: At least one.
    Returns:
        Panels of which there is something to show; the first one always.
    """
    panels = [SUCCESS if SUCCESS.shown(runs) else RETURN]
    if TRUST_REGION.shown(runs):
        panels.append(TRUST_REGION)
    if len(runs) == 1 and LOSSES.shown(runs):
        panels.append(LOSSES)
    return panels


def phase_of(run: Run) -> list[str]:
    """Phase of each row; RLlib's own algorithms know no phases and count as online."""
    return [OFFLINE if row.get("phase") == OFFLINE else ONLINE for row in run.rows]


def x_values(run: Run) -> NDArray[np.float64]:
    """Updates in offline rows, primitive environment steps in online ones; shape (rows,)."""
    updates = run.column("num_updates")
    steps = run.column("num_online_env_steps")
    sampled = run.column("num_env_steps_sampled_lifetime")
    return np.array(
        [
            update if phase == OFFLINE else (step if math.isfinite(step) else other)
            for phase, update, step, other in zip(
                phase_of(run), updates, steps, sampled, strict=True
            )
        ]
    )


def curve(run: Run, series: Series, phase: str) -> Curve:
    """Points of one curve in one phase.

    Args:
        run: Its results.
        series: What to show.
        phase: "offline" or "online".
    Returns:
        x and y without missing values.
    """
    y = np.array(run.column(series.key))
    usable = np.isfinite(y)
    if series.evaluation:
        fresh = np.array(run.column("evaluated_this_iteration"))
        # Where nothing tells (RLlib's own algorithms), every number counts as fresh.
        usable &= np.isnan(fresh) | (fresh == 1.0)
    phases = np.array(phase_of(run))
    here = usable & (phases == phase)
    x, values = x_values(run)[here], y[here]
    if phase == ONLINE and series.evaluation:
        before = y[usable & (phases == OFFLINE)]
        if before.size:  # the policy that goes online
            x, values = np.insert(x, 0, 0.0), np.insert(values, 0, before[-1])
    return x, values


def mean_curve(curves: Sequence[Curve]) -> Curve:
    """Mean over runs where all of them have data, interpolated between their points.

    Args:
        curves: At least one, each with x in ascending order.
    Returns:
        x and the mean; empty if there is no common range.
    """
    if any(x.size == 0 for x, _ in curves):
        return np.empty(0), np.empty(0)
    low, high = max(x[0] for x, _ in curves), min(x[-1] for x, _ in curves)
    grid = np.unique(np.concatenate([x for x, _ in curves]))
    grid = grid[(grid >= low) & (grid <= high)]
    if grid.size == 0:
        return np.empty(0), np.empty(0)
    return grid, np.mean([np.interp(grid, x, y) for x, y in curves], axis=0)
