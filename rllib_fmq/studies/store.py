"""The results of a study: one tidy table, written by many trials at once.

Each trial appends to a file of its own, ``trials/<id>/rows.jsonl``, one line and one write a
measurement. So trials never wait for each other, a kill costs at most the line that was being
written, and nothing that was written is ever changed. ``read_results`` puts the files together;
``export`` writes that as Parquet and CSV.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rllib_fmq.atomic import replacing

if TYPE_CHECKING:
    import pandas as pd

TRIALS, ROWS, TABLE, CSV = "trials", "rows.jsonl", "results.parquet", "results.csv"
INFO, CONFIGS = "study.json", "configs.json"
CONFIG_FILES = "config*.json"

TEXTS = (
    "study",
    "trial",
    "parent",
    "task",
    "method",
    "setting",
    "kind",
    "phase",
    "selector",
    "selector_config",
    "time",
    "version",
    "git_revision",
    "config_id",
)
INTEGERS = ("seed", "update", "env_step")
NUMBERS = (
    "nfe",
    "success",
    "episodes",
    "return",
    "length",
    "latency_ms",
    "displacement",
    "eta_eff",
    "disagreement",
    "q_mean",
    "critic_loss",
    "guidance_loss",
    "collected_success",
    "wall_seconds",
)
COLUMNS = (
    *("study", "trial", "parent", "task", "method", "setting", "seed", "kind", "phase"),
    *("update", "env_step", "selector", "selector_config", "nfe", "success", "episodes"),
    *("return", "length", "latency_ms", "displacement", "eta_eff", "disagreement", "q_mean"),
    *("critic_loss", "guidance_loss", "collected_success", "wall_seconds", "time"),
    *("version", "git_revision", "config_id"),
)
"""Of the table, in order; docs/STUDIES.md says what each is."""

KEY = ("trial", "kind", "update", "env_step", "selector_config")
"""What tells measurements apart; of repeated ones the last counts."""


class RowWriter:
    """Appends measurements of one trial.

    Args:
        path: The trial's ``rows.jsonl``; no other process may write to it.
        common: Columns that all its rows share.
    """

    def __init__(self, path: Path, common: Mapping[str, Any]) -> None:
        self._path = path
        self._common = dict(common)

    def append(self, row: Mapping[str, Any]) -> None:
        """Write one measurement; it is on the disk when this returns.

        Args:
            row: Columns and values; those that are not given are missing.
        Raises:
            ValueError: For a column that is not in ``COLUMNS``.
        """
        content = self._common | dict(row)
        unknown = sorted(set(content) - set(COLUMNS))
        if unknown:
            raise ValueError(f"unknown columns {unknown}: expected some of {list(COLUMNS)}.")
        kept = {
            key: value
            for key, value in content.items()
            if not (isinstance(value, float) and not math.isfinite(value))
        }
        line = json.dumps(kept).encode() + b"\n"
        self._path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            size = os.fstat(file).st_size
            if size and os.pread(file, 1, size - 1) != b"\n":
                line = b"\n" + line  # a kill left half a line: it stays one line of its own
            os.write(file, line)
            os.fsync(file)
        finally:
            os.close(file)


def config_id(config: Mapping[str, Any]) -> str:
    """A short name for a config: equal configs have equal names.

    Args:
        config: JSON values.
    Returns:
        12 hexadecimal digits.
    """
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:12]


def config_file(trial: Path, name: str) -> Path:
    """Where a trial keeps a config; one that changes does not replace the one before.

    Args:
        trial: Folder of the trial.
        name: From ``config_id``.
    """
    return trial / f"config-{name}.json"


def read_results(path: str | Path) -> pd.DataFrame:
    """The table of a study, whether it is running, finished or only its table was kept.

    Args:
        path: Folder of a study; or a ``results.parquet`` or ``results.csv``.
    Returns:
        ``COLUMNS``, a row a measurement, in the order of trials and time; of repeated
        measurements the last. Missing texts are "", missing numbers NaN.
    Raises:
        FileNotFoundError: If there are no results.
        ValueError: If a file is damaged or lacks a column.
    """
    source = Path(path).expanduser()
    if not source.exists():
        raise FileNotFoundError(f"study not found: {path} does not exist.")
    if source.is_dir() and not (source / TRIALS).is_dir():
        tables = [source / name for name in (TABLE, CSV) if (source / name).is_file()]
        if not tables:
            raise FileNotFoundError(
                f"no results in {path}: expected the folder of a study, with {TABLE}, {CSV} or "
                f"{TRIALS}/*/{ROWS} in it, as `rllib study run` writes it."
            )
        source = tables[0]
    frame = _assembled(source) if source.is_dir() else _read_table(source)
    if frame.empty:
        raise ValueError(f"{path} holds no measurement yet.")
    return _typed(frame, source).drop_duplicates(list(KEY), keep="last", ignore_index=True)


def _assembled(folder: Path) -> pd.DataFrame:
    """What the trials wrote; those of an earlier definition of the study are left out."""
    import pandas as pd

    info = read_info(folder)
    planned, parents = info.get("trials"), info.get("parents", {})
    files = sorted(folder.glob(f"{TRIALS}/*/{ROWS}"))
    chosen = [f for f in files if planned is None or f.parent.name in planned]
    frame = pd.DataFrame([row for f in chosen for row in read_lines(f)], columns=list(COLUMNS))
    # Methods that were added to the study later start from it, too.
    labels = zip(frame["trial"], frame["method"], strict=True)
    frame["method"] = [parents.get(trial, method) for trial, method in labels]
    return frame


def read_lines(file: Path) -> Iterator[Mapping[str, Any]]:
    """The whole lines of a trial's rows; the half line of one that was killed is left out.

    Args:
        file: ``rows.jsonl``.
    Yields:
        Columns and values.
    """
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(row, Mapping):
            yield row


def read_info(path: str | Path) -> dict[str, Any]:
    """What a study says of itself: name, tasks, methods, scale; {} where only a table was kept.

    Args:
        path: As for ``read_results``.
    Returns:
        Content of ``study.json``.
    Raises:
        ValueError: If it is damaged.
    """
    return _read_json(_folder(path) / INFO)


def read_configs(path: str | Path) -> dict[str, dict[str, Any]]:
    """The full config of each ``config_id`` in the table.

    Args:
        path: As for ``read_results``.
    Returns:
        config_id -> key -> value; {} where the file is missing.
    Raises:
        ValueError: If a file is damaged.
    """
    folder = _folder(path)
    configs = _read_json(folder / CONFIGS)
    for file in sorted(folder.glob(f"{TRIALS}/*/{CONFIG_FILES}")):
        content = _read_json(file)
        configs[config_id(content)] = content
    return configs


def export(folder: Path) -> pd.DataFrame | None:
    """Write ``results.parquet``, ``results.csv`` and ``configs.json`` of a study.

    Parquet has one column more, ``config``: the JSON text of the full config.

    Args:
        folder: Of the study.
    Returns:
        The table; None, and nothing written, where no trial has measured anything yet.
    """
    if _assembled(folder).empty:
        return None
    frame = read_results(folder)
    configs = read_configs(folder)
    texts = {key: json.dumps(value, sort_keys=True) for key, value in configs.items()}
    with replacing(folder / TABLE) as staged:
        frame.assign(config=frame["config_id"].map(texts)).to_parquet(staged, index=False)
    with replacing(folder / CSV) as staged:
        frame.to_csv(staged, index=False)
    write_json(folder / CONFIGS, configs)
    return frame


def check_table_is_ours(folder: Path) -> None:
    """Refuse to replace a table whose trials are not in the folder.

    Args:
        folder: Where a study is to be run.
    Raises:
        ValueError: If a table that was kept lies there without what it was made from.
    """
    if not (folder / TABLE).is_file():
        return
    known = {file.parent.name for file in folder.glob(f"{TRIALS}/*/{ROWS}")}
    gone = set(_read_table(folder / TABLE)["trial"]) - known
    if gone:
        raise ValueError(
            f"{folder} holds the table of {len(gone)} trials whose folders are gone, and running "
            "would replace it: name another folder with -o, or move the table away."
        )


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file as a whole or not at all.

    Args:
        path: File.
        content: JSON values.
    """
    with replacing(path) as staged:
        staged.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def _read_table(path: Path) -> pd.DataFrame:
    import pandas as pd

    try:
        if path.suffix == ".parquet":
            frame = pd.read_parquet(path)
        else:  # names such as 1234567e89 or NA are no numbers
            frame = pd.read_csv(
                path,
                dtype=dict.fromkeys(TEXTS, str),
                keep_default_na=False,
                na_values={name: [""] for name in (*INTEGERS, *NUMBERS)},
            )
    except Exception as error:  # whatever pandas and pyarrow make of a damaged file
        raise ValueError(f"cannot read {path} as a table of results: {error}") from error
    missing = [name for name in COLUMNS if name not in frame.columns]
    if missing:
        raise ValueError(f"{path} has no column {missing[0]!r}: it is not a study's table.")
    return frame[list(COLUMNS)]


def _typed(frame: pd.DataFrame, source: Path) -> pd.DataFrame:
    columns: dict[str, Any] = {n: frame[n].astype(object).fillna("").astype(str) for n in TEXTS}
    for names, kind in ((INTEGERS, "int64"), (NUMBERS, "float64")):
        for name in names:
            try:
                columns[name] = frame[name].astype(kind)
            except (TypeError, ValueError) as error:
                raise ValueError(
                    f"{source} has values in its column {name!r} that are no numbers or missing: "
                    "the table is damaged."
                ) from error
    return frame.assign(**columns)


def _folder(path: str | Path) -> Path:
    source = Path(path).expanduser()
    return source if source.is_dir() else source.parent


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is damaged: {error}.") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} is damaged: expected a JSON object.")
    return content


def methods_label(methods: Sequence[str]) -> str:
    """Label of a trial whose policy several methods start from.

    Args:
        methods: Their names.
    Returns:
        Such as "FMQ/MVP".
    """
    return "/".join(sorted(set(methods)))
