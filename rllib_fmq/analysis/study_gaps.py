"""What a study's results lack, and where methods were not treated equally."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from rllib_fmq.analysis.panels import OFFLINE, ONLINE
from rllib_fmq.analysis.study_trials import EVALUATION, FINAL, Trial

if TYPE_CHECKING:
    from rllib_fmq.analysis.study_data import StudyData


def gaps(data: StudyData) -> list[str]:
    """Sentences on what is incomplete or unequal.

    Args:
        data: Of a study.
    Returns:
        Whole planned tasks and settings first, then task by task; empty if nothing is missing.
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
        found.append(f"{len(absent)} of {len(planned)} planned trials have no results yet.")
    for task in data.tasks:
        name = data.short_name(task)
        sentences = [
            *_unfinished(data, task),
            *_methods_without_results(data, task),
            *_unequal_seeds(data, task),
            *_unequal_budgets(data, task),
            *_repeated(data, task),
        ]
        found += [f"{name}: {sentence}" for sentence in sentences]
    return found


def _absent(planned: Iterable[str] | None, found: Iterable[str]) -> list[str]:
    there = set(found)
    return [name for name in planned or () if name not in there]


def _unfinished(data: StudyData, task: str) -> list[str]:
    seeds: dict[str, list[int]] = {}
    for trial in data.trials:
        if trial.task == task and not trial.complete:
            phase = "pre-training" if trial.pretraining else "online training"
            what = f"{phase} of {'/'.join(trial.methods)}{_setting(trial.setting)}"
            seeds.setdefault(what, []).append(trial.seed)
    return [
        f"{what} has no final evaluation yet for {_seeds(numbers)}; it is left out."
        for what, numbers in seeds.items()
    ]


def _methods_without_results(data: StudyData, task: str) -> list[str]:
    scores = data.final_scores()
    return [
        f"{label} has no final results."
        for label in dict.fromkeys([*data.methods, *scores])
        if task not in scores.get(label, {})
    ]


def _unequal_seeds(data: StudyData, task: str) -> list[str]:
    sentences = []
    scores = data.final_scores()
    seeds = {label: sorted(tasks[task]) for label, tasks in scores.items() if task in tasks}
    if len({tuple(numbers) for numbers in seeds.values()}) > 1:
        listed = ", ".join(f"{label}: {_seeds(numbers)}" for label, numbers in seeds.items())
        sentences.append(f"methods have different seeds ({listed}).")
    for setting in data.settings:
        if setting == "default":
            continue
        for method, tasks in data.final_scores(setting).items():
            lacking = sorted(set(seeds.get(method, [])) - set(tasks.get(task, {})))
            if task in tasks and lacking:
                sentences.append(
                    f"{method}{_setting(setting)} has no results for {_seeds(lacking)}."
                )
    return sentences


def _unequal_budgets(data: StudyData, task: str) -> list[str]:
    """Episodes of the final evaluation, and how long each phase was, of complete trials."""
    online = {
        method: [t for t in data.runs(task, method).values() if t.complete]
        for method in data.methods
    }
    offline = {
        method: [data.offline_runs(task, method)[t.seed] for t in trials]
        for method, trials in online.items()
    }
    compared: list[tuple[str, Mapping[str, list[Trial]], Any]] = [
        ("final episodes", online, _episodes),
        ("environment steps", online, lambda t: _last(t, "env_step")),
        ("offline updates", offline, lambda t: _last(t, "update", OFFLINE)),
        ("episodes of the evaluations during training", online, _evaluation_episodes),
    ]
    sentences = []
    for what, trials_of_method, measure in compared:
        values = {
            method: sorted({measure(t) for t in trials})
            for method, trials in trials_of_method.items()
            if trials
        }
        if len({value for numbers in values.values() for value in numbers}) > 1:
            listed = ", ".join(
                f"{method}: {' and '.join(map(str, numbers))}" for method, numbers in values.items()
            )
            sentences.append(f"methods have different {what} ({listed}).")
    return sentences


def _episodes(trial: Trial) -> int:
    counts = [row["episodes"] for row in trial.final(ONLINE) if row["episodes"] > 0]
    return int(counts[-1]) if counts else 0


def _evaluation_episodes(trial: Trial) -> int:
    rows = trial.of_kind(EVALUATION)
    rows = rows[rows["phase"] == ONLINE]["episodes"].dropna()
    return 0 if rows.empty else int(rows.iloc[-1])


def _last(trial: Trial, column: str, phase: str = ONLINE) -> int:
    rows = trial.rows[(trial.rows["phase"] == phase) & (trial.rows["kind"] != FINAL)]
    return 0 if rows.empty else int(rows[column].max())


def _repeated(data: StudyData, task: str) -> list[str]:
    ids: dict[tuple[str, str, int, bool], list[str]] = {}
    for t in data.trials:
        if t.task == task:
            ids.setdefault(("/".join(t.methods), t.setting, t.seed, t.pretraining), []).append(t.id)
    return [
        f"{method}{_setting(setting)} has {len(names)} {'pre-training ' if before else ''}trials "
        f"of seed {seed}; {names[-1]} counts."
        for (method, setting, seed, before), names in ids.items()
        if len(names) > 1
    ]


def _setting(setting: str) -> str:
    return "" if setting == "default" else f" ({setting})"


def _seeds(numbers: Iterable[int]) -> str:
    listed = sorted(numbers)
    return f"seed{'s' if len(listed) > 1 else ''} {', '.join(map(str, listed))}"
