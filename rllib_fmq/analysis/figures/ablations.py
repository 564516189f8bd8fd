"""What settings do: the self-distillation loss, eta, beta, N, lambda and others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rllib_fmq.analysis.aggregates import Estimate, stratified_bootstrap
from rllib_fmq.analysis.comparison import values_by_task
from rllib_fmq.analysis.figures.style import (
    GREY,
    label_outer,
    light_grid,
    look,
    panel_grid,
    styled,
)
from rllib_fmq.analysis.study_data import METHOD, Configs, StudyData, TaskScores
from rllib_fmq.analysis.variations import LOSSES, group_scores, loss_scores, setting_groups
from rllib_fmq.studies.definition import DEFAULT

# Names of settings that are not config keys themselves.
_CONFIG_KEYS = {"N": "num_candidates", "lambda": "lambda_sd"}
_SYMBOLS = {"eta": r"$\eta$", "beta": r"$\beta$", "lambda": r"$\lambda$", "N": "$N$"}


@dataclass(frozen=True)
class Variation:
    """One setting within a group of which only one key differs."""

    value: str
    """As the axis shows it."""
    scores: TaskScores


@styled
def distillation_ablation(data: StudyData) -> Any | None:
    """FMQ after pre-training with each self-distillation loss: ESD (the default), PSD, LSD.

    Args:
        data: The study.
    Returns:
        The figure, or None without a setting "distillation=...".
    Raises:
        ModuleNotFoundError: If matplotlib is not installed.
    """
    losses = loss_scores(data).scores
    group = [
        Variation(f"{loss}\n(default)" if loss == LOSSES[0].upper() else loss, scores)
        for loss, scores in losses.items()
    ]
    return _variations(data, {"self-distillation loss": group}) if group else None


@styled
def settings_ablation(data: StudyData, configs: Configs) -> Any | None:
    """FMQ's final success for each value of each key that was varied, a panel per key.

    Within a panel only tasks and seeds that all values have count; a value with few of them is
    left out, which ``StudyData.missing`` says.

    Args:
        data: The study.
        configs: config_id -> config, which say where the default lies among the values.
    Returns:
        The figure, or None where no setting but the default has results.
    Raises:
        ModuleNotFoundError: If matplotlib is not installed.
    """
    groups = {}
    for key, values in setting_groups(data).items():
        texts = _with_default(data, configs, key, values)
        scores = group_scores(data, list(texts)).scores
        if scores:
            groups[_SYMBOLS.get(key, key)] = [Variation(texts[s], scores[s]) for s in scores]
    return _variations(data, groups) if groups else None


def _errors(estimates: Sequence[Estimate]) -> list[list[float]]:
    return [[e.value - e.low for e in estimates], [e.high - e.value for e in estimates]]


def _with_default(
    data: StudyData, configs: Configs, key: str, values: Mapping[str, str]
) -> dict[str, str]:
    """Setting -> text on the axis, the default in its place among numbers, else in front."""
    default = _default_value(data, configs, key)
    texts = {DEFAULT: default or "default"} | {s: _plain(value) for s, value in values.items()}
    if all(_is_number(text) for text in texts.values()):
        texts = dict(sorted(texts.items(), key=lambda item: float(item[1])))
    if default:
        texts[DEFAULT] = f"{default}\n(default)"
    return texts


def _default_value(data: StudyData, configs: Configs, key: str) -> str:
    rows = data.frame
    rows = rows[(rows["setting"] == DEFAULT) & (rows["method"] == METHOD)]
    name = _CONFIG_KEYS.get(key, key)
    found = {str(configs.get(c, {}).get(name, "")) for c in rows["config_id"].unique()}
    return _plain(found.pop()) if len(found) == 1 else ""


def _plain(value: str) -> str:
    """Numbers in one form: "3.0" -> "3"."""
    return f"{float(value):g}" if _is_number(value) else value


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _variations(data: StudyData, groups: Mapping[str, Sequence[Variation]]) -> Any:
    """A panel per group: IQM with its interval, and a thin line for each task's mean."""
    figure, panels = panel_grid(len(groups), height=2.7)
    for axes, (name, group) in zip(panels, groups.items(), strict=True):
        positions = list(range(len(group)))
        _thin_lines(axes, group)
        estimates = [stratified_bootstrap(values_by_task(v.scores)) for v in group]
        style = look(METHOD)
        axes.errorbar(
            positions,
            [e.value for e in estimates],
            yerr=_errors(estimates),
            color=style.colour,
            marker=style.marker,
            markersize=6,
            # Between names, unlike numbers, there is nothing that a line could show.
            linestyle="-" if all(map(_is_number, _values(group))) else "none",
            linewidth=1.8,
            capsize=3,
            zorder=3,
        )
        axes.set_xticks(positions, [v.value for v in group])
        axes.set_xlim(-0.4, len(group) - 0.6)
        axes.set_ylim(0.0, 1.0)
        axes.set_xlabel(name)
        light_grid(axes, "y")
    label_outer(panels, None, f"{METHOD}'s success rate")
    return figure


def _values(group: Sequence[Variation]) -> list[str]:
    """Without the mark of the default."""
    return [variation.value.partition("\n")[0] for variation in group]


def _thin_lines(axes: Any, group: Sequence[Variation]) -> None:
    """One line a task: where the aggregate hides that tasks disagree."""
    for task in group[0].scores:
        axes.plot(
            range(len(group)),
            [float(np.mean(list(v.scores[task].values()))) for v in group],
            color=GREY,
            linewidth=0.8,
            alpha=0.6,
            zorder=1,
        )
