"""What a study's results lack, and where methods were not treated equally."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from rllib_fmq.analysis.study_inequalities import (
    empty_curves,
    left_out,
    other_selectors,
    setting_words,
    unequal_budgets,
)
from rllib_fmq.analysis.study_trials import Trial
from rllib_fmq.studies.definition import DEFAULT

if TYPE_CHECKING:
    from rllib_fmq.analysis.study_data import StudyData


def gaps(data: StudyData) -> list[str]:
    """Sentences on what is incomplete or unequal.

    Args:
        data: Of a study.
    Returns:
        Whole planned tasks and settings first, then task by task, then what figures over all
        tasks leave out; empty if nothing is missing.
    """
    found = [
        f"{data.short_name(task)}: planned, but there are no results."
        for task in _absent(data.info.get("tasks"), data.tasks)
    ]
    found += [
        f"Method {method}: planned, but there are no results."
        for method in _absent(data.info.get("methods"), data.methods)
    ]
    found += [
        f"Setting {setting}: planned, but there are no results."
        for setting in _absent(data.info.get("settings"), data.settings)
    ]
    planned = list(data.info.get("trials") or ())
    absent = _absent(planned, (trial.id for trial in data.trials))
    if absent:
        found.append(f"{len(absent)} of {len(planned)} planned trials have no results.")
    for task in data.tasks:
        name = data.short_name(task)
        sentences = [
            *_unfinished(data, task),
            *_results(data, task),
            *unequal_budgets(data, task),
            *other_selectors(data, task),
            *_repeated(data, task),
        ]
        found += [f"{name}: {sentence}" for sentence in sentences]
    return found + left_out(data)


def _absent(planned: Iterable[str] | None, found: Iterable[str]) -> list[str]:
    there = set(found)
    return [name for name in planned or () if name not in there]


def _unfinished(data: StudyData, task: str) -> list[str]:
    seeds: dict[str, list[int]] = {}
    for trial in data.trials:
        if trial.task == task and not trial.complete:
            phase = "pre-training" if trial.pretraining else f"{trial.phase} training"
            what = f"{phase} of {'/'.join(trial.methods)}{setting_words(trial.setting)}"
            seeds.setdefault(what, []).append(trial.seed)
    return [
        f"{what} has no final evaluation for {_seeds(numbers)}; it is left out."
        for what, numbers in seeds.items()
    ]


def _results(data: StudyData, task: str) -> list[str]:
    """What success rates lack, on a task that reports them."""
    if not data.has_success(task):
        return [
            "this task reports no success rate, so no figure or table of success shows it; its "
            "returns are in the column `return` of the study's table."
        ]
    return [
        *_methods_without_results(data, task),
        *_unequal_seeds(data, task),
        *_settings_with_other_seeds(data, task),
        *empty_curves(data, task),
    ]


def _methods_without_results(data: StudyData, task: str) -> list[str]:
    scores = data.final_scores()
    sentences = []
    for label in dict.fromkeys([*data.methods, *scores]):
        if task in scores.get(label, {}):
            continue
        others = any(
            t.complete and t.own(label, data.final_phase, t.evaluated_with) is None
            for t in data.runs(task, label).values()
        )
        why = " with the selector of its evaluations during training" if others else ""
        sentences.append(f"{label} has no final results{why}.")
    return sentences


def _unequal_seeds(data: StudyData, task: str) -> list[str]:
    scores = data.final_scores()
    seeds = {label: sorted(tasks[task]) for label, tasks in scores.items() if task in tasks}
    if len({tuple(numbers) for numbers in seeds.values()}) < 2:
        return []
    listed = ", ".join(f"{label}: {_seeds(numbers)}" for label, numbers in seeds.items())
    return [f"methods have different seeds ({listed})."]


def _settings_with_other_seeds(data: StudyData, task: str) -> list[str]:
    """Settings without results for a seed of the default, where that was not planned so."""
    default = data.final_scores()
    planned = data.info.get("trials")
    sentences = []
    for setting in data.settings:
        for method in data.methods if setting != DEFAULT else ():
            found = data.final_scores(setting).get(method, {}).get(task, {})
            lacking = sorted(set(default.get(method, {}).get(task, {})) - set(found))
            runs = data.runs(task, method, setting)
            name = f"{method}{setting_words(setting)}"
            if planned is None and found and lacking:
                sentences.append(f"{name} was run with {_seeds(found)} only.")
            elif planned is not None and runs:
                missing = [s for s in lacking if _is_planned(planned, [*runs.values()], s)]
                if missing:
                    sentences.append(f"{name} has no results for {_seeds(missing)}.")
    return sentences


def _is_planned(planned: Iterable[str], trials: list[Trial], seed: int) -> bool:
    """Whether the study names a trial that differs from these in its seed alone.

    Args:
        planned: Names of trials: PHASE-TASK-METHOD-SETTING-sSEED-HASH.
        trials: Of a task, method and setting.
        seed: Of the trial in question.
    """
    stems = {re.sub(rf"-s{trial.seed}-[0-9a-f]+$", "", trial.id) for trial in trials}
    return any(
        str(name).startswith(tuple(f"{stem}-s{seed}-" for stem in stems)) for name in planned
    )


def _repeated(data: StudyData, task: str) -> list[str]:
    ids: dict[tuple[str, str, int, bool], list[str]] = {}
    for t in data.trials:
        if t.task == task:
            ids.setdefault(("/".join(t.methods), t.setting, t.seed, t.pretraining), []).append(t.id)
    return [
        f"{method}{setting_words(setting)} has {len(names)} "
        f"{'pre-training ' if before else ''}trials of seed {seed}; {names[-1]} counts."
        for (method, setting, seed, before), names in ids.items()
        if len(names) > 1
    ]


def _seeds(numbers: Iterable[int]) -> str:
    listed = sorted(numbers)
    return f"seed{'s' if len(listed) > 1 else ''} {', '.join(map(str, listed))}"
