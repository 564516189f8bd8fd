"""A study's table of results, asked for what tables and figures show."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from rllib_fmq.analysis.panels import OFFLINE, ONLINE
from rllib_fmq.analysis.study_searches import QGBS, Row
from rllib_fmq.analysis.study_trials import (
    EVALUATION,
    FINAL,
    TRAINING,
    Trial,
    in_training_order,
    trials_of,
)
from rllib_fmq.studies.definition import DEFAULT
from rllib_fmq.studies.store import COLUMNS, INTEGERS, NUMBERS, TEXTS
from rllib_fmq.tasks.catalog import find_task
from rllib_fmq.tasks.names import DATASET_TYPES, parse_task

METHOD, BASELINE = "FMQ", "MVP"
"""Names of the method whose ablations are shown, and of the one that its speed-up is against."""
LABELS = ("QC", "MVP", "MVP + QGBS", "FMQ", "FMQ + QGBS")
"""Columns of the paper's Table 1, in its order."""
_REPEATED = ["trial", "kind", "update", "env_step", "selector", "selector_config"]
_CURVE = ["phase", "update", "env_step", "success"]

Configs: TypeAlias = Mapping[str, Mapping[str, Any]]
"""config_id -> full config."""
SeedScores: TypeAlias = dict[int, float]
"""seed -> success rate."""
TaskScores: TypeAlias = dict[str, SeedScores]
"""task -> seed -> success rate."""
Scores: TypeAlias = dict[str, TaskScores]
"""label -> task -> seed -> success rate."""


def study_data(frame: pd.DataFrame, info: Mapping[str, Any]) -> StudyData:
    """Check a table of results.

    Args:
        frame: Table that `rllib study run` writes: one row a measurement. Of a resumed trial's
            repeated rows the last one counts.
        info: Content of study.json; any key may be missing.
    Raises:
        ValueError: If a column is missing, holds no numbers where it should, or there are no
            rows.
    """
    missing = [column for column in COLUMNS if column not in frame.columns]
    if missing:
        raise ValueError(
            f"the results have no column {missing[0]!r}: expected the table that "
            "`rllib study run` writes, with all of its columns."
        )
    if frame.empty:
        raise ValueError("the results have no rows: run the study first (`rllib study run`).")
    clean = frame.assign(
        # As objects: an empty column comes back from CSV as one of numbers, all missing.
        **{column: frame[column].astype(object).fillna("").astype(str) for column in TEXTS},
        **{column: _numbers(frame, column) for column in (*INTEGERS, *NUMBERS)},
    )
    for column in INTEGERS:
        if not np.isfinite(clean[column]).all():
            raise ValueError(f"the results have rows without a {column!r}: the table is damaged.")
        clean[column] = clean[column].astype("int64")
    clean = clean.drop_duplicates(_REPEATED, keep="last", ignore_index=True)
    return StudyData(clean, dict(info))


@dataclass(frozen=True)
class StudyData:
    """Results of a study; see ``study_data``, which checks them.

    Args:
        frame: The table, without repeated rows.
        info: What the study says of itself.
    """

    frame: pd.DataFrame
    info: Mapping[str, Any]

    @cached_property
    def trials(self) -> list[Trial]:
        """All trials, in the table's order."""
        return trials_of(self.frame, offline_only=self.final_phase == OFFLINE)

    @cached_property
    def final_phase(self) -> str:
        """Phase after which policies are compared: "offline" if the study has no other.

        A study whose online phases have not begun yet has one: its trials name them, or several
        methods share a pre-training.
        """
        planned = self.info.get("trials") or ()
        has_online = (
            (self.frame["phase"] == ONLINE).any()
            or any(str(name).startswith(f"{ONLINE}-") for name in planned)
            or self.frame["method"].str.contains("/", regex=False).any()
        )
        return ONLINE if has_online else OFFLINE

    @property
    def tasks(self) -> list[str]:
        """Tasks that have results: in the study's order, then others by name."""
        return _ordered({t.task for t in self.trials}, self.info.get("tasks"))

    @property
    def methods(self) -> list[str]:
        """Methods that have results, of shared pre-training too, in the study's order."""
        return _ordered({m for t in self.trials for m in t.methods}, self.info.get("methods"))

    @property
    def settings(self) -> list[str]:
        """Settings that have results, "default" first, then in the study's order."""
        planned = [DEFAULT, *(self.info.get("settings") or ())]
        return _ordered({t.setting for t in self.trials}, planned)

    @property
    def scale(self) -> str:
        """Either "paper" or "reduced"; "unknown" if the study does not say."""
        return str(self.info.get("scale") or "unknown")

    def has_success(self, task: str) -> bool:
        """Whether the evaluations on a task report a success rate, as far as there are any.

        Args:
            task: Canonical name.
        """
        rows = self.frame[(self.frame["task"] == task)]
        evaluated = rows[rows["kind"].isin((EVALUATION, FINAL))]
        return bool(evaluated.empty or evaluated["success"].notna().any())

    def short_name(self, task: str) -> str:
        """The paper's short name; else the task's without what all of its kind share.

        Args:
            task: Canonical name.
        """
        known = find_task(task)
        if known is not None and known.short_name:
            return known.short_name
        name = re.sub(r"-singletask|-v\d+$", "", task)
        parsed = parse_task(task)
        if parsed is not None and parsed.dataset_type == DATASET_TYPES[parsed.environment][0]:
            name = name.replace(f"-{parsed.dataset_type}", "", 1)
        return name

    def runs(self, task: str, method: str, setting: str = DEFAULT) -> dict[int, Trial]:
        """Trials whose policies are compared, complete or not; of a seed's several the last one.

        They train a method online; in a study without an online phase, offline.

        Args:
            task: Canonical name.
            method: Name.
            setting: Name.
        Returns:
            seed -> trial, by seed.
        """
        return self._runs.get((task, method, setting), {})

    def final_rows(self, setting: str = DEFAULT) -> dict[str, pd.DataFrame]:
        """Evaluations of the policies after training, over the unseen episodes.

        Args:
            setting: Name.
        Returns:
            label -> one row of the table a run. Labels are "QC", "MVP", "MVP + QGBS", "FMQ",
            "FMQ + QGBS", where they have results, then other methods: with the method's own
            selector, or with QGBS at K = 1, B = 4, M = 4.
        """
        if setting in self._final_rows:
            return self._final_rows[setting]
        rows: dict[str, list[Row]] = {}
        for method in self.methods:
            for task in self.tasks:
                for trial in self.runs(task, method, setting).values():
                    own = trial.own(method, self.final_phase, trial.evaluated_with)
                    search = trial.default_search(self.final_phase)
                    # A method whose own selector is QGBS is no second method with it.
                    if own is not None and own["selector"] == QGBS:
                        search = None
                    for label, row in ((method, own), (f"{method} + QGBS", search)):
                        if row is not None and np.isfinite(row["success"]):
                            rows.setdefault(label, []).append(row)
        found = {label: pd.DataFrame(rows[label]) for label in _ordered(rows, LABELS)}
        self._final_rows[setting] = found
        return found

    def final_scores(self, setting: str = DEFAULT) -> Scores:
        """Success rates after training, over the unseen episodes.

        Args:
            setting: Name.
        Returns:
            label -> task -> seed -> rate; for the labels see ``final_rows``.
        """
        scores: Scores = {}
        for label, rows in self.final_rows(setting).items():
            for row in rows.to_dict("records"):
                _put(scores, label, row["task"], int(row["seed"]), row)
        return scores

    def offline_scores(self, setting: str = DEFAULT) -> Scores:
        """Success rates of the offline policies, from which the online phases start.

        Args:
            setting: Name.
        Returns:
            method -> task -> seed -> rate, with the method's own selector, over the unseen
            episodes; in the order of ``final_scores``. Empty in a study without an online phase.
        """
        scores: Scores = {}
        for method in self.methods if self.final_phase == ONLINE else ():
            for task in self.tasks:
                online = self.runs(task, method, setting)
                for seed, trial in sorted(self.offline_runs(task, method, setting).items()):
                    # Who else shares the pre-training may be evaluated by another selector.
                    own = online.get(seed) or next(iter(online.values()), None)
                    if own is None and len(trial.methods) == 1:
                        own = trial
                    used = own.evaluated_with if own is not None else None
                    _put(scores, method, task, seed, trial.own(method, OFFLINE, used))
        return {label: scores[label] for label in _ordered(scores, LABELS)}

    def offline_runs(self, task: str, method: str, setting: str = DEFAULT) -> dict[int, Trial]:
        """Trials in which a method's offline phase was trained.

        Args:
            task: Canonical name.
            method: Name.
            setting: Name.
        Returns:
            seed -> pre-training trial, or the trial itself if it ran both phases.
        """
        found = {
            t.seed: t
            for t in self.trials
            if t.pretraining and t.task == task and t.setting == setting and method in t.methods
        }
        for seed, trial in self.runs(task, method, setting).items():
            # A setting of the online phase alone starts from another setting's policy.
            found[seed] = self._by_id.get(trial.parent, trial)
        return found

    def curves(self, task: str, method: str, setting: str = DEFAULT) -> dict[int, pd.DataFrame]:
        """Evaluations during the training of complete trials, of the pre-training first.

        Args:
            task: Canonical name.
            method: Name.
            setting: Name.
        Returns:
            seed -> table of phase, update, env_step, success, by update.
        """
        found = {}
        for seed, trial in self.runs(task, method, setting).items():
            if not trial.complete:
                continue
            parent = self._by_id.get(trial.parent)
            parts = [t.of_kind(EVALUATION)[_CURVE] for t in (parent, trial) if t is not None]
            rows = pd.concat(parts, ignore_index=True)
            rows = in_training_order(rows[rows["success"].notna()])
            if not rows.empty:
                found[seed] = rows.reset_index(drop=True)
        return found

    def training(self, task: str, method: str, setting: str = DEFAULT) -> dict[int, pd.DataFrame]:
        """What the learner reported in the online phase of complete trials.

        Args:
            task: Canonical name.
            method: Name.
            setting: Name.
        Returns:
            seed -> the table's training rows, by update.
        """
        found = {}
        for seed, trial in self.runs(task, method, setting).items():
            rows = trial.of_kind(TRAINING)
            rows = rows[rows["phase"] == ONLINE]
            if not rows.empty and trial.complete:
                found[seed] = rows.reset_index(drop=True)
        return found

    def missing(self) -> list[str]:
        """What is incomplete or unequal, in sentences; empty if nothing is.

        A method without results on a task, trials that did not finish, unequal seeds, final
        episodes, training budgets or selectors of the methods and settings of a task, more than
        one trial of a kind, and what figures and tables leave out for it.
        """
        from rllib_fmq.analysis.study_gaps import gaps

        return gaps(self)

    @cached_property
    def _by_id(self) -> dict[str, Trial]:
        return {t.id: t for t in self.trials}

    @cached_property
    def _runs(self) -> dict[tuple[str, str, str], dict[int, Trial]]:
        found: dict[tuple[str, str, str], dict[int, Trial]] = {}
        for t in sorted(self.trials, key=lambda trial: trial.seed):
            if not t.pretraining:
                found.setdefault((t.task, t.methods[0], t.setting), {})[t.seed] = t
        return found

    @cached_property
    def _final_rows(self) -> dict[str, dict[str, pd.DataFrame]]:
        """Filled by ``final_rows``: tables and figures ask for the same ones many times."""
        return {}


def _put(scores: Scores, label: str, task: str, seed: int, row: Row | None) -> None:
    if row is not None and np.isfinite(row["success"]):
        scores.setdefault(label, {}).setdefault(task, {})[seed] = float(row["success"])


def _ordered(found: Iterable[str], planned: Iterable[str] | None) -> list[str]:
    names = set(found)
    first = [name for name in dict.fromkeys(planned or ()) if name in names]
    return [*first, *sorted(names.difference(first))]


def _numbers(frame: pd.DataFrame, column: str) -> pd.Series[Any]:
    try:
        return pd.to_numeric(frame[column]).astype("float64")
    except (TypeError, ValueError) as error:
        raise ValueError(f"the results' column {column!r} holds no numbers: {error}.") from error
