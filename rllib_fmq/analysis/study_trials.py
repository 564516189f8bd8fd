"""The trials of a study's table, and which of their evaluations speak for a method."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from rllib_fmq.analysis.panels import OFFLINE, ONLINE
from rllib_fmq.analysis.study_searches import (
    BEST_OF_N,
    DEFAULT_SEARCH,
    EULER,
    Row,
    SearchSettings,
    Selector,
    departures,
    search_settings,
    selector_numbers,
)

EVALUATION, FINAL, TRAINING = "evaluation", "final", "training"
OWN_SELECTOR = {"QC": EULER, "MVP": BEST_OF_N, "FMQ": BEST_OF_N}
"""How the paper evaluates each method (Table 7)."""


@dataclass(frozen=True)
class Trial:
    """One trial: rows of one id.

    Args:
        id: Unique.
        parent: Trial of the offline pre-training; "" if it has none.
        task: Canonical name.
        methods: One, or several that share this pre-training.
        setting: "default" or the name of a variation.
        seed: Of the trial.
        pretraining: Others start from its policy, or it has no online phase (yet).
        phase: That its policy is compared after.
        rows: Of the table, by update, then environment step.
    """

    id: str
    parent: str
    task: str
    methods: tuple[str, ...]
    setting: str
    seed: int
    pretraining: bool
    phase: str
    rows: pd.DataFrame

    def of_kind(self, kind: str) -> pd.DataFrame:
        """Its rows of one kind: "training", "evaluation" or "final"."""
        return self.rows[self.rows["kind"] == kind]

    def final(self, phase: str) -> list[Row]:
        """Final evaluations of the policy that a phase ended with."""
        return [row for row in self._finals if row["phase"] == phase]

    @property
    def complete(self) -> bool:
        """Whether it has been evaluated in the end."""
        return bool(self.final(self.phase))

    @property
    def final_episodes(self) -> set[int]:
        """Episodes of its final evaluations."""
        return {int(row["episodes"]) for row in self._finals if row["episodes"] > 0}

    @property
    def wall_seconds(self) -> float:
        """Seconds that it took: training with its evaluations, and each final evaluation.

        A final row holds the time of that evaluation alone, another row the trial's so far.
        NaN if none were recorded.
        """
        seconds = self.rows["wall_seconds"]
        final = self.rows["kind"] == FINAL
        if seconds.isna().all():
            return math.nan
        training = seconds[~final].max()
        return float(seconds[final].sum() + (0.0 if math.isnan(training) else training))

    @cached_property
    def evaluated_with(self) -> Selector | None:
        """Selector of the last evaluation during training; None if there was none."""
        used = self.of_kind(EVALUATION)
        if used.empty:
            return None
        return str(used["selector"].iloc[-1]), str(used["selector_config"].iloc[-1])

    def own(self, method: str, phase: str, evaluated_with: Selector | None) -> Row | None:
        """Final evaluation with the method's own selector.

        That is the selector of the method's evaluations during training; where there were none,
        the paper's. Of several of this kind: the one with the same numbers, else the most NFE.

        Args:
            method: Name.
            phase: That the policy ended.
            evaluated_with: Of the method's online trial: a pre-training that several methods
                share was evaluated with the selector of one of them.
        Returns:
            A row of the table; None if there is none.
        """
        finals = self.final(phase)
        kind, numbers = evaluated_with or (OWN_SELECTOR.get(method, ""), "")
        if not kind and len(finals) == 1:
            return finals[0]
        rows = [row for row in finals if row["selector"] == kind]
        same = [row for row in rows if row["selector_config"] == numbers]
        if same:
            return same[-1]
        return max(rows, key=lambda row: float(row["nfe"]), default=None)

    def searches(self, phase: str) -> dict[SearchSettings, Row]:
        """Final evaluations by best-of-N and QGBS.

        Args:
            phase: That the policy ended.
        Returns:
            Search -> row of the table; of several evaluations by one search, the first.
        """
        found: dict[SearchSettings, Row] = {}
        for row in self.final(phase):
            numbers = selector_numbers(row["selector_config"])
            search = search_settings(row["selector"], numbers, float(row["nfe"]))
            if search is not None:
                found.setdefault(search, row)
        return found

    def default_search(self, phase: str) -> Row | None:
        """Final evaluation by QGBS with the paper's K, B and M; None if there is none.

        Of several, the one whose remaining numbers are nearest to the paper's.
        """
        found = [
            row
            for search, row in self.searches(phase).items()
            if search.is_search
            and (search.search_iters, search.branches, search.beam_width) == DEFAULT_SEARCH
        ]
        return min(found, key=lambda row: len(departures(row)), default=None)

    @cached_property
    def _finals(self) -> list[Row]:
        return [
            {str(key): value for key, value in row.items()}
            for row in self.of_kind(FINAL).to_dict("records")
        ]


def trials_of(frame: pd.DataFrame, offline_only: bool = False) -> list[Trial]:
    """Split a table into its trials, in the table's order.

    Args:
        frame: Table without repeated rows.
        offline_only: The study has no online phase: its offline policies are what it compares.
    """
    parents = set(frame["parent"])
    trials = []
    for name, rows in frame.groupby("trial", sort=False):
        first = rows.iloc[0]
        online = bool((rows["phase"] == ONLINE).any())
        pretraining = name in parents or not (online or offline_only)
        trials.append(
            Trial(
                id=str(name),
                parent=first["parent"],
                task=first["task"],
                methods=tuple(first["method"].split("/")),
                setting=first["setting"],
                seed=int(first["seed"]),
                pretraining=pretraining,
                phase=OFFLINE if pretraining or offline_only else ONLINE,
                rows=in_training_order(rows),
            )
        )
    return trials


def in_training_order(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows by update, phase and environment step.

    At the switch both phases have the same update, and "offline" sorts before "online"; until
    learning starts, so have all online steps.

    Args:
        rows: Of one trial, or of a pre-training and what starts from it.
    """
    return rows.sort_values(["update", "phase", "env_step"], kind="stable")
