"""Settings that vary one key, grouped by the key: what ablations compare."""

from __future__ import annotations

import re

from rllib_fmq.analysis.common_runs import CommonRuns, common_runs
from rllib_fmq.analysis.study_data import METHOD, StudyData
from rllib_fmq.studies.definition import DEFAULT

LOSSES = ("esd", "psd", "lsd")
"""Self-distillation losses, in the order of Table 3; the first is the default."""
_DISTILLATION = "distillation="
_SETTING = re.compile(r"([A-Za-z_]\w*)=([^=,]+)")
_OTHER = "other settings"


def loss_scores(data: StudyData, method: str = METHOD) -> CommonRuns[str]:
    """Final scores after pre-training with each self-distillation loss.

    Args:
        data: Of a study. The default setting counts as ESD, unless there is a setting
            "distillation=esd".
        method: Whose.
    Returns:
        Loss in capitals -> scores; empty without another loss than ESD.
    """
    found = {
        setting.removeprefix(_DISTILLATION): data.final_scores(setting).get(method, {})
        for setting in data.settings
        if setting.startswith(_DISTILLATION)
    }
    scores = {loss: by_task for loss, by_task in found.items() if by_task}
    default = LOSSES[0]
    if not set(scores) - {default}:
        return common_runs({})
    scores.setdefault(default, data.final_scores().get(method, {}))
    order = [loss for loss in dict.fromkeys((*LOSSES, *sorted(scores))) if loss in scores]
    return common_runs({loss.upper(): scores[loss] for loss in order}, default.upper())


def setting_groups(data: StudyData) -> dict[str, dict[str, str]]:
    """Settings but the default and those of the self-distillation loss, by their key.

    Args:
        data: Of a study.
    Returns:
        key -> setting -> value: "eta=0.3" is 0.3 of "eta"; names that are no such pair are
        values of "other settings".
    """
    groups: dict[str, dict[str, str]] = {}
    for setting in data.settings:
        if setting == DEFAULT or setting.startswith(_DISTILLATION):
            continue
        match = _SETTING.fullmatch(setting)
        key, value = match.groups() if match else (_OTHER, setting)
        groups.setdefault(key, {})[setting] = value
    return groups


def group_scores(data: StudyData, settings: list[str], method: str = METHOD) -> CommonRuns[str]:
    """Final scores of the default and of these settings.

    Args:
        data: Of a study.
        settings: Names; the default may be among them.
        method: Whose.
    Returns:
        Setting -> scores, in the given order.
    """
    named = settings if DEFAULT in settings else [DEFAULT, *settings]
    scores = {setting: data.final_scores(setting).get(method, {}) for setting in named}
    return common_runs(scores, DEFAULT)
