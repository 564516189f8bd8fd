"""What a study report says, before it becomes HTML or Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from rllib_fmq.analysis import comparison
from rllib_fmq.analysis.comparison import COMPARED, FEWEST_SEEDS
from rllib_fmq.analysis.paper_scale import PAPER, scale_departures
from rllib_fmq.analysis.study_data import Configs, StudyData
from rllib_fmq.analysis.study_trials import FINAL
from rllib_fmq.analysis.table_cells import listed, revision_words
from rllib_fmq.analysis.table_format import Table

_UNSAID_SCALE = "The study does not say how its budgets compare with the paper's."
_SCALES = {PAPER: "the paper's", "reduced": "reduced"}


NOTHING_MISSING = (
    "Nothing: every method has results on every task, with equal budgets, in every setting."
)
NOTHING_COMPARED = (
    f"No two of the methods that this report compares ({COMPARED}) have final success rates on the "
    "same task."
)
NOTHING_ABSENT = "Every figure and table that a study report can have is here."
REPRODUCE = (
    "The study, then this report from its folder or its table. Version, revision and wall time "
    "are listed under “What was run”; the full config of each trial lies in the study's "
    "configs.json."
)
# Words and a sign, since colour alone tells nothing to some readers.
_VERDICTS = {"above": "▲ above", "below": "▼ below", "overlap": "≈ not told apart"}
_TOO_FEW_SEEDS = "? too few seeds"


@dataclass(frozen=True)
class Answer:
    """One finding: a sentence, and its verdict in two words."""

    verdict: str
    sentence: str


@dataclass(frozen=True)
class ReportFigure:
    """A figure that was drawn; its files are figures/KEY.png and figures/KEY.svg."""

    key: str
    title: str
    caption: str
    alt: str


@dataclass(frozen=True)
class ReportTable:
    """A table with data; its files are tables/KEY.md and tables/KEY.tex."""

    key: str
    table: Table


@dataclass(frozen=True)
class Report:
    """Everything that both forms of the report show, in order."""

    title: str
    description: str
    facts: Sequence[tuple[str, str]]
    """What was run, in rows of a name and its value."""
    scale: str
    scale_note: str
    answers: Sequence[Answer]
    figures: Sequence[ReportFigure]
    tables: Sequence[ReportTable]
    missing: Sequence[str]
    """What is incomplete or unequal, in sentences."""
    absent: Sequence[tuple[str, str]]
    """Titles of the figures and tables without data, with the reason."""
    commands: Sequence[str]
    """What makes the study, if it is known, and this report of it."""


def answers(data: StudyData) -> list[Answer]:
    """What the comparisons of a study say."""
    return [
        Answer(
            _VERDICTS[found.verdict] if found.fewest_seeds >= FEWEST_SEEDS else _TOO_FEW_SEEDS,
            found.sentence,
        )
        for found in comparison.answers(data)
    ]


def facts(data: StudyData) -> list[tuple[str, str]]:
    """What was run: tasks, methods, settings, seeds, budgets, versions, wall time."""
    frame, info = data.frame, data.info
    shown = [
        ("Tasks", ", ".join(data.short_name(task) for task in data.tasks)),
        ("Methods", ", ".join(data.methods)),
        ("Settings", ", ".join(data.settings)),
        ("Seeds", _seeds(frame)),
        ("Offline updates", _budget(frame, "update", "offline")),
        ("Online environment steps", _budget(frame, "env_step", "online")),
        (
            "Episodes of a final evaluation",
            listed(frame.loc[frame["kind"] == FINAL, "episodes"].dropna()),
        ),
        ("Trials", f"{len(data.trials)}"),
        ("Wall time", _wall_time(data)),
        ("Version", _version(frame, info)),
    ]
    return [(name, value) for name, value in shown if value]


def scale_words(data: StudyData, configs: Configs) -> tuple[str, str]:
    """Name of the scale and the note on what differs from the paper.

    Args:
        data: The study.
        configs: config_id -> full config, which must agree where the study says "paper".
    """
    note = str(data.info.get("scale_note") or "").strip()
    if data.scale != PAPER:
        return _SCALES.get(data.scale, "not stated"), note or _UNSAID_SCALE
    different = scale_departures(data, configs)
    if not different:
        return _SCALES[PAPER], note or "Tasks, networks and budgets are the paper's."
    said = f"The study says that it runs at the paper's scale, but: {'; '.join(different)}."
    return "not the paper's", f"{said} {note}".strip()


def duration(seconds: float) -> str:
    """45 -> "45 s", 5400 -> "1.5 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def _seeds(frame: pd.DataFrame) -> str:
    seeds = sorted(int(seed) for seed in frame["seed"].unique())
    listed = ", ".join(map(str, seeds))
    return f"{len(seeds)} ({listed})" if len(seeds) > 1 else listed


def _budget(frame: pd.DataFrame, column: str, phase: str) -> str:
    """The largest value of each task, once if it is the same for all."""
    rows = frame[(frame["phase"] == phase) & (frame["kind"] != "final")]
    largest = sorted({int(value) for value in rows.groupby("task")[column].max().dropna()})
    if not largest:
        return ""
    if len(largest) == 1:
        return f"{largest[0]:,}"
    return f"{largest[0]:,} to {largest[-1]:,}, by task"


def _wall_time(data: StudyData) -> str:
    seconds = np.nansum([trial.wall_seconds for trial in data.trials])
    return f"{duration(float(seconds))}, all trials added up"


def _version(frame: pd.DataFrame, info: Mapping[str, Any]) -> str:
    versions = _distinct(frame["version"], info.get("version"))
    revisions = revision_words(_distinct(frame["git_revision"], info.get("git_revision")))
    words = [f"rllib-fmq {', '.join(versions)}"] if versions else []
    if revisions:
        words.append(f"revision {', '.join(revisions)}")
    return "; ".join(words)


def _distinct(column: pd.Series[Any], otherwise: object) -> list[str]:
    found = sorted({str(value) for value in column.unique() if value})
    return found or ([str(otherwise)] if otherwise else [])
