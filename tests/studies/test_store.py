"""The table of a study: appended to by many, read while they write, never half."""

from __future__ import annotations

import json
import multiprocessing
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from rllib_fmq.studies.store import (
    COLUMNS,
    RowWriter,
    check_table_is_ours,
    config_id,
    export,
    read_configs,
    read_info,
    read_results,
    write_json,
)

COMMON: dict[str, Any] = {"study": "s", "task": "t", "method": "FMQ", "setting": "default"}


def writer(folder: Path, trial: str = "a", seed: int = 0) -> RowWriter:
    path = folder / "trials" / trial / "rows.jsonl"
    return RowWriter(path, COMMON | {"trial": trial, "seed": seed, "config_id": "c"})


def row(update: int, success: float = 0.5, **more: Any) -> dict[str, Any]:
    basic = {"kind": "evaluation", "phase": "online", "update": update, "env_step": update}
    return basic | {"success": success, "selector_config": "{}"} | more


def test_rows_come_back_with_types(tmp_path: Path) -> None:
    writer(tmp_path).append(row(1, 0.25))
    writer(tmp_path).append(row(2, float("nan")))
    table = read_results(tmp_path)
    assert list(table.columns) == list(COLUMNS)
    assert table["update"].tolist() == [1, 2]
    assert table["update"].dtype == "int64"
    assert table["success"].iloc[0] == 0.25
    assert pd.isna(table["success"].iloc[1])
    assert table["parent"].tolist() == ["", ""]


def test_half_line_of_a_killed_trial_costs_that_line_only(tmp_path: Path) -> None:
    writer(tmp_path).append(row(1))
    file = tmp_path / "trials" / "a" / "rows.jsonl"
    with open(file, "a") as stream:
        stream.write('{"trial": "a", "kind": "eval')
    assert read_results(tmp_path)["update"].tolist() == [1]
    writer(tmp_path).append(row(2))
    assert read_results(tmp_path)["update"].tolist() == [1, 2]


def test_of_repeated_measurements_the_last_counts(tmp_path: Path) -> None:
    for success in (0.1, 0.9):
        writer(tmp_path).append(row(1, success))
    writer(tmp_path).append(row(1, 0.3, selector_config='{"kind": "qgbs"}'))
    table = read_results(tmp_path)
    assert sorted(table["success"]) == [0.3, 0.9]


def _append_many(folder: Path, trial: str) -> None:
    for update in range(200):
        writer(folder, trial).append(row(update))


def test_trials_write_at_the_same_time(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [
        context.Process(target=_append_many, args=(tmp_path, trial)) for trial in ("a", "b")
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(300)
        assert process.exitcode == 0
    table = read_results(tmp_path)
    assert table.groupby("trial").size().to_dict() == {"a": 200, "b": 200}


def test_unknown_column_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"unknown columns .*'sucess'"):
        writer(tmp_path).append({"sucess": 1.0})
    assert not list(tmp_path.rglob("rows.jsonl"))


def test_export_holds_the_same_table_and_the_full_configs(tmp_path: Path) -> None:
    config = {"eta": 1.0, "beta": 0.3}
    name = config_id(config)
    write_json(tmp_path / "trials" / "a" / "config.json", config)
    RowWriter(
        tmp_path / "trials" / "a" / "rows.jsonl",
        COMMON | {"trial": "a", "seed": 0, "config_id": name},
    ).append(row(1, 1 / 3))
    export(tmp_path)
    direct = read_results(tmp_path)
    parquet = pd.read_parquet(tmp_path / "results.parquet")
    assert json.loads(parquet["config"].iloc[0]) == config
    for kept in ("results.parquet", "results.csv"):
        pd.testing.assert_frame_equal(read_results(tmp_path / kept), direct)
    alone = tmp_path / "alone"
    alone.mkdir()
    for kept in ("results.csv", "configs.json"):
        (alone / kept).write_bytes((tmp_path / kept).read_bytes())
    pd.testing.assert_frame_equal(read_results(alone), direct)
    assert read_configs(alone) == {name: config}
    assert read_info(alone) == {}


def test_trials_of_an_earlier_definition_are_left_out(tmp_path: Path) -> None:
    for trial in ("old", "new"):
        writer(tmp_path, trial).append(row(1))
    assert set(read_results(tmp_path)["trial"]) == {"old", "new"}
    write_json(tmp_path / "study.json", {"trials": ["new"]})
    assert set(read_results(tmp_path)["trial"]) == {"new"}


def test_names_that_look_like_numbers_survive_csv(tmp_path: Path) -> None:
    common = COMMON | {"trial": "a", "seed": 0, "setting": "NA"}
    common |= {"config_id": "012345678901", "git_revision": "1234567e8901", "parent": "None"}
    RowWriter(tmp_path / "trials" / "a" / "rows.jsonl", common).append(row(1))
    export(tmp_path)
    first = read_results(tmp_path / "results.csv").iloc[0]
    for name in ("config_id", "git_revision", "setting", "parent"):
        assert first[name] == common[name]


def test_kept_table_is_not_replaced(tmp_path: Path) -> None:
    writer(tmp_path).append(row(1))
    export(tmp_path)
    check_table_is_ours(tmp_path)
    shutil.rmtree(tmp_path / "trials")
    with pytest.raises(ValueError, match="the table of 1 trials whose folders are gone"):
        check_table_is_ours(tmp_path)


def test_methods_that_came_later_are_in_the_label_of_the_parent(tmp_path: Path) -> None:
    writer(tmp_path).append(row(1))
    write_json(tmp_path / "study.json", {"trials": ["a"], "parents": {"a": "FMQ/MVP"}})
    assert read_results(tmp_path)["method"].tolist() == ["FMQ/MVP"]


def test_export_of_a_new_definition_without_results_writes_nothing(tmp_path: Path) -> None:
    writer(tmp_path, "old").append(row(1))
    write_json(tmp_path / "study.json", {"trials": ["new"]})
    assert export(tmp_path) is None
    assert not (tmp_path / "results.parquet").exists()


def test_damaged_numbers_are_named(tmp_path: Path) -> None:
    writer(tmp_path).append(row(1))
    export(tmp_path)
    text = (tmp_path / "results.csv").read_text()
    (tmp_path / "results.csv").write_text(text.replace(",0.5,", ",half,"))
    with pytest.raises(ValueError, match="column 'success' that are no numbers"):
        read_results(tmp_path / "results.csv")


def test_errors_say_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="does not exist"):
        read_results(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="expected the folder of a study"):
        read_results(tmp_path)
    (tmp_path / "results.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(ValueError, match=r"cannot read .*results\.parquet"):
        read_results(tmp_path)
    (tmp_path / "results.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match="no column 'study'"):
        read_results(tmp_path / "results.csv")
    (tmp_path / "study.json").write_text("{")
    with pytest.raises(ValueError, match=r"study\.json is damaged"):
        read_info(tmp_path)
    (tmp_path / "empty" / "trials").mkdir(parents=True)
    with pytest.raises(ValueError, match="no measurement yet"):
        read_results(tmp_path / "empty")
    assert export(tmp_path / "empty") is None


def test_equal_configs_have_equal_names() -> None:
    assert config_id({"a": 1, "b": [1, 2]}) == config_id({"b": [1, 2], "a": 1})
    assert config_id({"a": 1}) != config_id({"a": 2})
