"""Reading what Tune writes: one row a training iteration, of one or more runs."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RESULT_FILES = ("result.json", "progress.csv")
_TELLING = ("env", "eta", "beta", "seed")


@dataclass(frozen=True)
class Run:
    """The results of one trial, in order."""

    path: Path
    label: str
    group: str
    """The label without its seed: runs of one group are averaged."""
    rows: tuple[Mapping[str, Any], ...]
    """Flat: keys such as "evaluation/env_runners/success_rate"."""

    def column(self, key: str) -> list[float]:
        """One number a row.

        Args:
            key: Flat key.
        Returns:
            Values, NaN where a row has none.
        """
        return [_number(row.get(key)) for row in self.rows]


def find_trials(path: str | Path) -> list[Path]:
    """Folders with results in a trial folder, an experiment folder or a folder of experiments.

    Args:
        path: Folder, or a result.json or progress.csv itself.
    Returns:
        Trial folders, sorted.
    Raises:
        FileNotFoundError: If there are none.
    """
    folder = Path(path).expanduser()
    if not folder.exists():
        raise FileNotFoundError(f"results not found: {path} does not exist.")
    if folder.is_file():
        folder = folder.parent
    for pattern in ("", "*/", "*/*/"):
        found = {p.parent for name in RESULT_FILES for p in folder.glob(pattern + name)}
        if found:
            return sorted(found)
    raise FileNotFoundError(
        f"no results in {path}: expected a trial or experiment folder of a run, with "
        f"{' or '.join(RESULT_FILES)} in it."
    )


def read_runs(paths: Sequence[str | Path]) -> list[Run]:
    """Read all trials below the given folders; each gets a label that tells it from the others.

    Args:
        paths: See ``find_trials``.
    Returns:
        At least one run with at least one result each.
    Raises:
        FileNotFoundError: If a path has no results.
        ValueError: If a file is damaged or no run has finished an iteration.
    """
    folders = list(dict.fromkeys(t.resolve() for path in paths for t in find_trials(path)))
    rows = [_without_repeats(_read_rows(folder)) for folder in folders]
    kept = [(folder, table) for folder, table in zip(folders, rows, strict=True) if table]
    if not kept:
        raise ValueError(
            f"no finished iteration in {', '.join(map(str, folders))}: nothing to plot yet."
        )
    return _labelled(kept)


def _read_rows(folder: Path) -> Iterator[Mapping[str, Any]]:
    as_json, as_csv = (folder / name for name in RESULT_FILES)
    if as_json.is_file():
        try:
            lines = as_json.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError as error:
            raise ValueError(f"{as_json} is damaged: it is no text ({error}).") from error
        for number, line in enumerate(lines, start=1):
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                if number == len(lines):  # a run that is being written to, or was killed
                    return
                raise ValueError(f"{as_json} is damaged in line {number}: {error}.") from error
            if not isinstance(row, Mapping):
                raise ValueError(f"{as_json} is damaged in line {number}: it holds no result.")
            yield dict(_flatten(row))
    elif as_csv.is_file():
        with open(as_csv, newline="", encoding="utf-8") as file:
            try:
                yield from csv.DictReader(file)
            except (UnicodeDecodeError, csv.Error) as error:
                raise ValueError(f"{as_csv} is damaged: it is no table ({error}).") from error


def _without_repeats(rows: Iterable[Mapping[str, Any]]) -> tuple[Mapping[str, Any], ...]:
    """A resumed trial goes through its iterations since the last checkpoint once more."""
    kept: list[Mapping[str, Any]] = []
    for row in rows:
        iteration = _number(row.get("training_iteration"))
        while kept and _number(kept[-1].get("training_iteration")) >= iteration:
            kept.pop()
        kept.append(row)
    return tuple(kept)


def _flatten(row: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in row.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}/")
        else:
            yield f"{prefix}{key}", value


def _number(value: Any) -> float:
    if isinstance(value, str) and value in ("True", "False"):
        return float(value == "True")
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def _labelled(runs: Sequence[tuple[Path, tuple[Mapping[str, Any], ...]]]) -> list[Run]:
    """Name runs by algorithm and whatever of environment, eta, beta, seed tells them apart."""
    described = [_described(folder, table) for folder, table in runs]
    telling = [key for key in _TELLING if len({d.get(key) for d in described}) > 1]

    def name(description: Mapping[str, Any], keys: Sequence[str]) -> str:
        words = [str(description["algorithm"])]
        for key in keys:
            if description.get(key) is not None:
                value = description[key]
                words.append(str(value) if key == "env" else f"{key}={value}")
        return " ".join(words)

    labels = [name(d, telling) for d in described]
    groups = [name(d, [key for key in telling if key != "seed"]) for d in described]
    if len(set(labels)) < len(labels):
        # The same settings twice: the folders tell them apart, and they are one group.
        labels = [f"{label} {folder.name}" for label, (folder, _) in zip(labels, runs, strict=True)]
    return [
        Run(folder, label, group, table)
        for (folder, table), label, group in zip(runs, labels, groups, strict=True)
    ]


def _described(folder: Path, table: tuple[Mapping[str, Any], ...]) -> dict[str, Any]:
    last = table[-1]
    # Tune's folder names begin with the trainable's name.
    return {"algorithm": folder.name.split("_")[0]} | {
        key: last.get(f"config/{key}") for key in _TELLING
    }
