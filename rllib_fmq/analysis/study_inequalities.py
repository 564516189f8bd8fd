"""Where a study's methods and settings were not treated equally, and what is not shown for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeAlias

from rllib_fmq.analysis.common_runs import common_runs
from rllib_fmq.analysis.comparison import shared_tasks
from rllib_fmq.analysis.panels import OFFLINE, ONLINE
from rllib_fmq.analysis.search_scores import search_scores
from rllib_fmq.analysis.study_searches import SearchSettings, selector_words
from rllib_fmq.analysis.study_trials import EVALUATION, FINAL, Trial
from rllib_fmq.analysis.table_cells import listed
from rllib_fmq.analysis.variations import group_scores, loss_scores, setting_groups
from rllib_fmq.studies.definition import DEFAULT

if TYPE_CHECKING:
    from rllib_fmq.analysis.study_data import StudyData

Measure: TypeAlias = Callable[[Trial], set[int]]
Measured: TypeAlias = dict[str, dict[str, set[int]]]
"""What was measured -> method -> values of its trials."""


def setting_words(setting: str) -> str:
    """Of a sentence, after a method's name: "" for the default, else " (eta=0.3)"."""
    return "" if setting == DEFAULT else f" ({setting})"


def unequal_budgets(data: StudyData, task: str) -> list[str]:
    """Episodes of evaluations, and how long each phase was, of complete trials of a task.

    Methods are compared with each other in the default setting, other settings with it.

    Args:
        data: Of a study.
        task: Canonical name.
    """
    default = _budgets(data, task, DEFAULT)
    sentences = []
    for what, values in default.items():
        if len(set().union(*values.values())) > 1:
            words = ", ".join(f"{method}: {listed(found)}" for method, found in values.items())
            sentences.append(f"methods have different {what} ({words}).")
    for setting in data.settings:
        if setting == DEFAULT:
            continue
        for what, values in _budgets(data, task, setting).items():
            for method, found in values.items():
                usual = default[what].get(method, found)
                if found != usual:
                    sentences.append(
                        f"{method}{setting_words(setting)} has other {what} than the default "
                        f"({listed(found)}; default: {listed(usual)})."
                    )
    return sentences


def other_selectors(data: StudyData, task: str) -> list[str]:
    """Where both halves of a method's learning curve were evaluated by different selectors.

    Args:
        data: Of a study.
        task: Canonical name.
    """
    sentences = []
    for method in data.methods:
        offline = data.offline_runs(task, method)
        said = set()
        for seed, trial in data.runs(task, method).items():
            before, after = offline[seed].evaluated_with, trial.evaluated_with
            if before is not None and after is not None:
                said.add((selector_words(before), selector_words(after)))
        sentences += [
            f"{method}'s learning curve was evaluated with {before} in the offline phase, which "
            f"it shares with others, and with {after} online."
            for before, after in sorted(said)
            if before != after
        ]
    return sentences


def empty_curves(data: StudyData, task: str) -> list[str]:
    """Methods whose seeds were never evaluated at the same point of training.

    Args:
        data: Of a study.
        task: Canonical name.
    """
    sentences = []
    for method in data.methods:
        curves = data.curves(task, method)
        points = [
            {
                (phase, step if phase == ONLINE else update)
                for phase, update, step in zip(
                    rows["phase"], rows["update"], rows["env_step"], strict=True
                )
            }
            for rows in curves.values()
        ]
        if points and not set.intersection(*points):
            sentences.append(
                f"{method} has no learning curve: its seeds were never evaluated at the same point."
            )
    return sentences


def left_out(data: StudyData) -> list[str]:
    """What figures and tables over several tasks leave out, so that they compare equal runs.

    Args:
        data: Of a study.
    """
    rows = [*data.final_scores().values(), *data.offline_scores().values()]
    _, others = shared_tasks(data, rows)
    sentences = []
    if others:
        names = ", ".join(data.short_name(task) for task in others)
        sentences.append(f"Scores after training: without {names}, which not all rows have.")
    searches = common_runs(search_scores(data)).dropped_words(_label)
    sentences += [f"Search settings: {words}" for words in searches]
    sentences += [f"Self-distillation loss: {words}" for words in loss_scores(data).dropped_words()]
    for settings in setting_groups(data).values():
        dropped = group_scores(data, list(settings)).dropped_words()
        sentences += [f"Other settings: {words}" for words in dropped]
    return sentences


def _budgets(data: StudyData, task: str, setting: str) -> Measured:
    trials = {
        method: [t for t in data.runs(task, method, setting).values() if t.complete]
        for method in data.methods
    }
    offline = {
        method: [data.offline_runs(task, method, setting)[t.seed] for t in found]
        for method, found in trials.items()
    }
    compared: list[tuple[str, Mapping[str, list[Trial]], Measure]] = [
        ("final episodes", trials, lambda t: t.final_episodes),
        ("environment steps", trials, lambda t: {_last(t, "env_step", ONLINE)}),
        ("offline updates", offline, lambda t: {_last(t, "update", OFFLINE)}),
        ("episodes of the evaluations during training", trials, _evaluation_episodes),
    ]
    return {
        what: {m: set().union(*map(measure, found)) for m, found in of_method.items() if found}
        for what, of_method, measure in compared
    }


def _evaluation_episodes(trial: Trial) -> set[int]:
    rows = trial.of_kind(EVALUATION)
    return {int(count) for count in rows[rows["phase"] == trial.phase]["episodes"].dropna()}


def _last(trial: Trial, column: str, phase: str) -> int:
    rows = trial.rows[(trial.rows["phase"] == phase) & (trial.rows["kind"] != FINAL)]
    return 0 if rows.empty else int(rows[column].max())


def _label(search: SearchSettings) -> str:
    return search.label
