"""Whether a study ran at the paper's scale: what it says, and what its configs say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rllib_fmq.analysis.panels import ONLINE
from rllib_fmq.analysis.study_data import Configs, StudyData
from rllib_fmq.analysis.study_trials import Trial
from rllib_fmq.studies.definition import DEFAULT

PAPER = "paper"
GENERATED = "dataset_generated"
"""Key of a config: whether a script made its dataset; None where that is unknown."""
_BUDGETS = {"offline_updates": 1_000_000, "online_env_steps": 1_000_000}
_NETWORKS: dict[str, Any] = {
    "actor_hidden": [512] * 4,
    "critic_hidden": [512] * 4,
    "num_candidates": 32,
}
_UNSAID = "not recorded"


def has_papers_scale(data: StudyData, configs: Configs) -> bool:
    """Whether a study's numbers can stand beside the paper's.

    Args:
        data: The study.
        configs: config_id -> full config.
    """
    return data.scale == PAPER and not scale_departures(data, configs)


def scale_departures(data: StudyData, configs: Configs) -> list[str]:
    """Where the default setting's trials differ from the paper's: budgets, networks, N, data.

    Args:
        data: The study.
        configs: config_id -> full config.
    Returns:
        Such as "offline_updates 8,000 instead of 1,000,000"; empty if nothing does. What a
        config does not hold counts as different, except for the origin of the dataset.
    """
    trials = [trial for trial in data.trials if trial.setting == DEFAULT]
    known = [(trial, _config(trial, configs)) for trial in trials]
    if not any(config for _, config in known):
        return ["its configs are missing, so nothing shows it"]
    found = []
    for key, expected in (_BUDGETS | _NETWORKS).items():
        concerned = [config for trial, config in known if key in _NETWORKS or _has(trial, key)]
        values = _distinct(config.get(key) for config in concerned)
        other = [value for value in values if value != expected]
        if other:
            found.append(f"{key} {' and '.join(map(_shown, other))} instead of {_shown(expected)}")
    made = {data.short_name(trial.task) for trial, config in known if config.get(GENERATED)}
    if made:
        found.append(f"generated datasets ({', '.join(sorted(made))})")
    return found


def _config(trial: Trial, configs: Configs) -> Mapping[str, Any]:
    return configs.get(str(trial.rows["config_id"].iloc[0]), {})


def _has(trial: Trial, budget: str) -> bool:
    """Whether the phase of a budget is the trial's own."""
    if budget == "offline_updates":
        return not trial.parent
    return not trial.pretraining and trial.phase == ONLINE


def _distinct(values: Iterable[Any]) -> list[Any]:
    found: list[Any] = []
    for value in values:
        if value not in found:
            found.append(value)
    return found


def _shown(value: Any) -> str:
    if value is None:
        return _UNSAID
    return f"{value:,}" if isinstance(value, int) else str(value)
