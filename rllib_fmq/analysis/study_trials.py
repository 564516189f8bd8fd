"""The trials of a study's table, and which of their evaluations speak for a method."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import pandas as pd

from rllib_fmq.analysis.panels import OFFLINE, ONLINE

Row: TypeAlias = Mapping[str, Any]
"""A row of the table: column -> value."""

EVALUATION, FINAL, TRAINING = "evaluation", "final", "training"
OWN_SELECTOR = {"QC": "euler", "MVP": "best_of_n", "FMQ": "best_of_n"}
"""How the paper evaluates each method (Table 7)."""
DEFAULT_SEARCH = (1, 4, 4)
"""K, B, M of "+ QGBS" (section 4.1)."""
_QGBS_NUMBERS = {"eta": 0.3, "snr": 1.5, "completion": "jump"}


@dataclass(frozen=True, order=True)
class SearchSettings:
    """How an action is searched for; best-of-N is K = 0, {B, M} = {1, N}.

    Args:
        search_iters: K.
        branches: B.
        beam_width: M.
        nfe: Network evaluations a decision; M (1 + K B).
    """

    search_iters: int
    branches: int
    beam_width: int
    nfe: float

    @property
    def braces(self) -> str:
        """Of the paper's Table 2: "{B, M}"."""
        return f"{{{self.branches}, {self.beam_width}}}"

    @property
    def label(self) -> str:
        """For a point in a figure: "best of 32", "K=1 {4, 4}"."""
        if self.search_iters == 0 and self.branches == 1:
            return f"best of {self.beam_width}"
        return f"K={self.search_iters} {self.braces}"


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
        rows: Of the table, by update.
    """

    id: str
    parent: str
    task: str
    methods: tuple[str, ...]
    setting: str
    seed: int
    pretraining: bool
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
        return bool(self.final(OFFLINE if self.pretraining else ONLINE))

    def own(self, method: str, phase: str) -> Row | None:
        """Final evaluation with the method's own selector.

        The selector of a method is the paper's; of an unknown method, that of its evaluations
        during training. Of several with other numbers: those of training, else the most NFE.

        Args:
            method: Name.
            phase: That the policy ended.
        Returns:
            A row of the table; None if there is none.
        """
        selector, numbers = self._trained_with
        selector = OWN_SELECTOR.get(method, selector)
        rows = [row for row in self.final(phase) if row["selector"] == selector]
        same = [row for row in rows if row["selector_config"] == numbers]
        if same:
            return same[-1]
        return max(rows, key=lambda row: float(row["nfe"]), default=None)

    def searches(self, phase: str) -> dict[SearchSettings, Row]:
        """Final evaluations by best-of-N and QGBS.

        Of several QGBS runs with equal K, B and M the one whose remaining numbers are the
        paper's (eta 0.3, snr 1.5, X_{t',1}) counts, else the first.
        """
        found: dict[SearchSettings, tuple[int, Row]] = {}
        for row in self.final(phase):
            numbers = selector_numbers(row["selector_config"])
            search = search_settings(row["selector"], numbers, float(row["nfe"]))
            if search is None:
                continue
            others = sum(numbers.get(k, v) != v for k, v in _QGBS_NUMBERS.items())
            rank = 0 if row["selector"] == "best_of_n" else 1 + others
            if search not in found or rank < found[search][0]:
                found[search] = (rank, row)
        return {search: row for search, (_, row) in found.items()}

    def default_search(self, phase: str) -> Row | None:
        """Final evaluation by QGBS with the paper's K, B and M; None if there is none."""
        for search, row in self.searches(phase).items():
            found = (search.search_iters, search.branches, search.beam_width)
            if row["selector"] == "qgbs" and found == DEFAULT_SEARCH:
                return row
        return None

    @cached_property
    def _finals(self) -> list[Row]:
        return [
            {str(key): value for key, value in row.items()}
            for row in self.of_kind(FINAL).to_dict("records")
        ]

    @cached_property
    def _trained_with(self) -> tuple[str, str]:
        """Selector and its settings of the last evaluation during training."""
        used = self.of_kind(EVALUATION)
        if used.empty:
            return "", ""
        return str(used["selector"].iloc[-1]), str(used["selector_config"].iloc[-1])


def selector_numbers(text: str) -> dict[str, Any]:
    """Settings of a selector.

    Args:
        text: JSON object, or "".
    Raises:
        ValueError: If it is something else.
    """
    try:
        numbers = json.loads(text) if text else {}
    except json.JSONDecodeError as error:
        raise ValueError(f"selector_config {text!r} is not JSON: {error}.") from error
    if not isinstance(numbers, dict):
        raise ValueError(f"selector_config {text!r}: expected a JSON object.")
    return numbers


def search_settings(selector: str, numbers: Mapping[str, Any], nfe: float) -> SearchSettings | None:
    """K, B, M and NFE of best-of-N or QGBS; None for another selector.

    Args:
        selector: Kind.
        numbers: Its settings; the defaults stand in for missing ones.
        nfe: As it was recorded; computed if NaN.
    """
    if selector == "best_of_n":
        k, b, m = 0, 1, int(numbers.get("num_candidates", 32))
    elif selector == "qgbs":
        k, b, m = (
            int(numbers.get(key, default))
            for key, default in zip(
                ("search_iters", "branches", "beam_width"), DEFAULT_SEARCH, strict=True
            )
        )
    else:
        return None
    return SearchSettings(k, b, m, float(m * (1 + k * b)) if nfe != nfe else nfe)


def trials_of(frame: pd.DataFrame) -> list[Trial]:
    """Split a table into its trials, in the table's order.

    Args:
        frame: Table without repeated rows.
    """
    parents = set(frame["parent"])
    trials = []
    for name, rows in frame.groupby("trial", sort=False):
        first = rows.iloc[0]
        # "offline" sorts before "online": at the switch both have the same update.
        trials.append(
            Trial(
                id=str(name),
                parent=first["parent"],
                task=first["task"],
                methods=tuple(first["method"].split("/")),
                setting=first["setting"],
                seed=int(first["seed"]),
                pretraining=name in parents or not (rows["phase"] == ONLINE).any(),
                rows=rows.sort_values(["update", "phase"], kind="stable"),
            )
        )
    return trials
