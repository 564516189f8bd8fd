"""The tasks as tables: sizes, the paper's scores, and what of their data is on this disk."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from rllib_fmq.data.downloads.integrity import State, state_of
from rllib_fmq.data.downloads.locate import data_dirs, find_local
from rllib_fmq.tasks.catalog import ROBOMIMIC, Task, all_tasks, paper_tasks
from rllib_fmq.tasks.names import DATASET_TYPES

SHOWN_SCORES = ("FMQ", "FMQ + QGBS", "MVP", "QC")
"""Methods whose scores the table shows; `--json` has all that the paper reports."""

WIDTH = 100
"""Columns that the tables need; where the output is no terminal they get as many."""

_STYLES: dict[State, str] = {
    "official": "green",
    "generated": "yellow",
    "missing": "dim",
    "damaged": "red",
}


@dataclasses.dataclass(frozen=True)
class Listed:
    """A task, and its dataset on this disk.

    Args:
        task: Record.
        state: "official" (a file that does not say it was generated), "generated", "damaged" (it
            does not open) or "missing".
        path: The file that `--dataset auto` takes; None if there is none.
        size: Its bytes.
    """

    task: Task
    state: State = "missing"
    path: Path | None = None
    size: int = 0

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        record = dataclasses.asdict(self.task)
        path = None if self.path is None else str(self.path)
        return {**record, "on_disk": {"state": self.state, "path": path, "size": self.size}}


def list_tasks(*, data_dir: str | Path | None = None, every: bool = False) -> list[Listed]:
    """Tasks, with what is on this disk; reads no more than the headers of files.

    Args:
        data_dir: Folder to look in first.
        every: All tasks, not only the paper's twelve.
    Returns:
        The paper's tasks in its order, then the others.
    """
    seen: dict[str, tuple[State, Path | None, int]] = {}
    listed = []
    for task in all_tasks() if every else paper_tasks():
        if task.dataset not in seen:
            path = find_local(task, data_dir)
            seen[task.dataset] = (
                ("missing", None, 0)
                if path is None
                else (state_of(path), path, path.stat().st_size)
            )
        listed.append(Listed(task, *seen[task.dataset]))
    return listed


def paper_tables(listed: Sequence[Listed], data_dir: str | Path | None = None) -> RenderableType:
    """The paper's tasks in two tables: what they are; scores, and what is on this disk.

    Args:
        listed: As `list_tasks` returns them.
        data_dir: Folder that was looked in first.
    """
    conventions = list(dict.fromkeys(entry.task.rewards for entry in listed))
    tasks = _table("task", "full name", ">obs", ">action", ">limit", "rewards")
    scores = _table("task", *(f">{name}" for name in SHOWN_SCORES), "data", ">size", "file")
    for entry in listed:
        task = entry.task
        short = task.short_name or task.name
        mark = _mark(conventions.index(task.rewards))
        numbers = map(str, (task.obs_dim, task.action_dim, task.max_episode_steps))
        tasks.add_row(short, task.name, *numbers, mark)
        scores.add_row(
            short, *(_score(task, method) for method in SHOWN_SCORES), *_on_disk(entry, data_dir)
        )
    legend = "\n".join(
        f"rewards {_mark(number)}: {words}" for number, words in enumerate(conventions)
    )
    return Group(
        tasks,
        Text(f"{legend}\nlimit: environment steps of an episode\n"),
        scores,
        Text(
            "scores: the paper's success rates in percent, mean ± standard deviation over 5 seeds\n"
            f"{_looked_in(data_dir)}"
        ),
    )


def dataset_table(listed: Sequence[Listed], data_dir: str | Path | None = None) -> RenderableType:
    """All tasks in one table, a row for each dataset.

    Args:
        listed: As `list_tasks(every=True)` returns them.
        data_dir: Folder that was looked in first.
    """
    table = _table("dataset", ">obs", ">action", ">limit", "in the paper", "data", ">size")
    by_dataset: dict[str, list[Listed]] = {}
    for entry in sorted(listed, key=lambda entry: _place(entry.task)):
        by_dataset.setdefault(entry.task.dataset, []).append(entry)
    previous = ""
    for dataset, entries in by_dataset.items():
        task = entries[0].task
        family = _family(task)
        if previous and family != previous:
            table.add_section()
        previous = family
        table.add_row(
            dataset,
            *map(str, (task.obs_dim, task.action_dim, task.max_episode_steps)),
            ", ".join(entry.task.short_name for entry in entries if entry.task.short_name),
            *_on_disk(entries[0], data_dir)[:2],
        )
    return Group(
        table,
        Text(
            f"{len(listed)} tasks on {len(by_dataset)} datasets. RoboMimic's are named like the "
            "dataset; OGBench has tasks 1\nto 5 on each of its own: task 3 of cube-double-play-v0 "
            "is cube-double-play-singletask-task3-v0\n"
            f"{_looked_in(data_dir)}"
        ),
    )


def _family(task: Task) -> str:
    return "robomimic" if task.benchmark == "robomimic" else task.environment.split("-")[0]


def _place(task: Task) -> tuple[bool, int]:
    """Where a dataset stands in a list by environment."""
    if task.benchmark == "robomimic":
        return False, list(ROBOMIMIC).index(task.dataset.split("-")[0])
    return True, list(DATASET_TYPES).index(task.environment)


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for name in columns:
        right = name.startswith(">")
        table.add_column(
            name.lstrip(">"),
            justify="right" if right else "left",
            no_wrap=name != "file",
            overflow="fold",
        )
    return table


def _mark(number: int) -> str:
    return chr(ord("a") + number)


def _score(task: Task, method: str) -> str:
    if method not in task.paper_scores:
        return ""
    mean, deviation = task.paper_scores[method]
    return f"{100 * mean:.0f}±{100 * deviation:.0f}"


def _on_disk(entry: Listed, data_dir: str | Path | None) -> tuple[Text, str, str]:
    state = Text(entry.state, style=_STYLES[entry.state])
    if entry.path is None:
        return state, "", ""
    shown = entry.path
    for folder in data_dirs(data_dir):
        if entry.path.is_relative_to(folder):
            shown = entry.path.relative_to(folder)
            break
    return state, decimal(entry.size), str(shown)


def _looked_in(data_dir: str | Path | None) -> str:
    folders = ", ".join(str(folder) for folder in data_dirs(data_dir))
    return (
        "data: official, unless the file says that it was generated\n"
        f"looked in {folders}\nget what is missing with `rllib data download TASK`"
    )
