"""All figures of a study report: how each is drawn, what to look at, and why one may be absent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rllib_fmq.analysis.comparison import COMPARED
from rllib_fmq.analysis.figures.ablations import distillation_ablation, settings_ablation
from rllib_fmq.analysis.figures.learning_curves import aggregate_iqm_curves, learning_curves
from rllib_fmq.analysis.figures.scores import aggregate_scores, improvement
from rllib_fmq.analysis.figures.search import qgbs_ablation
from rllib_fmq.analysis.figures.speedups import speedup
from rllib_fmq.analysis.figures.trust_region import trust_region
from rllib_fmq.analysis.study_data import BASELINE, METHOD, Configs, StudyData

Draw = Callable[[StudyData, Configs], Any | None]


@dataclass(frozen=True)
class FigureSpec:
    """A figure that a report has if the study has its data."""

    key: str
    """Name of its files."""
    title: str
    draw: Draw
    """Returns a ``matplotlib.figure.Figure``, or None where there are no data."""
    caption: str
    """What to look at, and how it was computed."""
    alt: str
    """Kind of picture and its axes, for those who cannot see it."""
    absent: str
    """Why there is none, if there is none."""


_BOOTSTRAP = "95% stratified bootstrap intervals over seeds"

FIGURES: tuple[FigureSpec, ...] = (
    FigureSpec(
        "aggregate_scores",
        "Scores after training",
        lambda data, _: aggregate_scores(data),
        "Interquartile mean of the success rates of all tasks and seeds after training (filled) "
        "and of the offline policies that online training started from (hollow), each on episodes "
        "that training never saw. Only tasks that all rows have results on. Bars are "
        + _BOOTSTRAP
        + ". Look for bars that do not overlap, and at the distance between a method and its own "
        "offline policy.",
        "Interval plot: one row per method, interquartile mean of success from 0 to 1",
        "no final evaluation with a success rate, or no task on which all methods have one",
    ),
    FigureSpec(
        "learning_curves",
        "Learning curves",
        lambda data, _: learning_curves(data),
        "Mean success of the evaluations during training, a panel per task; bands are "
        + _BOOTSTRAP
        + " (with one seed there is none). Left of the dashed line: offline updates; right of it: "
        "primitive environment steps after the switch. Methods that share their offline "
        "pre-training coincide up to the line. Look at which curve rises first after it.",
        "Line charts, one per task: success rate from 0 to 1 against offline updates, then online "
        "environment steps; one line per method",
        "no finished trial reported a success rate during training, or not at the same points for "
        "all seeds",
    ),
    FigureSpec(
        "aggregate_iqm_curves",
        "Learning curves over all tasks",
        lambda data, _: aggregate_iqm_curves(data),
        "Interquartile mean over all tasks and seeds against the share of each phase that has "
        "passed; bands are " + _BOOTSTRAP + ". Only tasks on which every method has results, and "
        "only points at which all of their runs were evaluated.",
        "Line chart: interquartile mean of success against the share of the offline and the "
        "online phase; one line per method",
        "no two points of training at which all runs of all tasks were evaluated, or no task on "
        "which every method has results",
    ),
    FigureSpec(
        "probability_of_improvement",
        "Probability of improvement",
        lambda data, _: improvement(data),
        "How probable it is that a run of the first method beats one of the second on a task "
        "drawn at random (ties count half), with 95% stratified bootstrap intervals. An interval "
        "that lies right of 0.5 speaks for the first method.",
        "Interval plot: one row per pair of methods, probability from 0 to 1, with a line at 0.5",
        f"no two of the compared methods ({COMPARED}) have success rates of final evaluations on "
        "the same task",
    ),
    FigureSpec(
        "speedup",
        "Speed-up of FMQ over MVP",
        lambda data, _: speedup(data),
        "How many times sooner FMQ than MVP first reaches a share of the highest success that both "
        "of them reach with the same seed. Left: environment steps counted from the switch; right: "
        "updates of both phases. Each light mark is a task (mean over seeds), the diamond the mean "
        "over tasks with its 95% interval (Student's t; it may reach beyond the axis). Above the "
        "dashed line FMQ is faster. Means of ratios lie somewhat above 1 even for equal methods.",
        "Dot plot on a logarithmic axis: ratio of steps, MVP to FMQ, for 75, 85, 95 and 100 "
        "percent of the common target; a line at 1",
        f'no task and seed has complete learning curves of methods named "{METHOD}" and '
        f'"{BASELINE}" with a common target',
    ),
    FigureSpec(
        "trust_region",
        "Convergence to the trust region",
        trust_region,
        "How far FMQ's policy has moved from its frozen offline copy (solid), and the radius "
        "eta_eff that it is drawn to (dashed): L2 norms over the whole action chunk, means over "
        "seeds with 95% bootstrap bands. The solid line should rise from 0 and level off at the "
        "dashed one, or below it where the gradients at neighbouring samples disagree. Dotted, on "
        "the right axis: the relative disagreement of the critics that the radius implies, "
        '(eta / eta_eff - 1) / beta, with 1 in place of eta where radius_numerator is "one"; it '
        "is left out where beta is 0.",
        "Line charts, one per task: distance from the offline policy, radius and implied "
        "uncertainty against online environment steps",
        f'no finished trial of a method named "{METHOD}" reported its displacement and radius at '
        "the same steps as the others of its task",
    ),
    FigureSpec(
        "qgbs_ablation",
        "Search at inference (QGBS)",
        lambda data, _: qgbs_ablation(data),
        "The same trained FMQ policies, evaluated with several searches: K iterations, {B, M} "
        "branches and beam width; the star is best-of-N without search. Interquartile mean with "
        + _BOOTSTRAP
        + ", against what a decision costs: network evaluations (left), milliseconds (right). "
        "Up and to the left is better. Points of nearly equal cost are drawn beside each other.",
        "Two scatter plots with error bars: success against network evaluations per decision, and "
        "against milliseconds per decision",
        f'no final evaluations of a method named "{METHOD}" with several search settings on the '
        "same tasks and seeds",
    ),
    FigureSpec(
        "distillation_ablation",
        "Self-distillation loss",
        lambda data, _: distillation_ablation(data),
        "FMQ's final success after offline pre-training with each loss: interquartile mean with "
        + _BOOTSTRAP
        + " (thick), and the mean of each task (thin). Only the tasks and seeds that all losses "
        "have.",
        "Line chart with error bars: success for each self-distillation loss",
        f'no setting "distillation=..." of a method named "{METHOD}" with final scores on the same '
        "tasks and seeds as the default",
    ),
    FigureSpec(
        "settings_ablation",
        "Other settings",
        settings_ablation,
        "FMQ's final success when one setting is changed, a panel per setting: interquartile "
        "mean with " + _BOOTSTRAP + " (thick), and the mean of each task (thin). Within a panel "
        "all values have the same tasks and seeds; a value with few of them is left out and listed "
        "as missing; across panels tasks and seeds may differ.",
        "Line charts with error bars, one per setting: success for each of its values",
        f'no other setting of a method named "{METHOD}" with final scores on the same tasks and '
        "seeds as the default",
    ),
)
