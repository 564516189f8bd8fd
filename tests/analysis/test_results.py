"""Reading result.json and progress.csv."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from rllib_fmq.analysis.results import find_trials, read_runs

Write = Callable[..., Path]


def test_finds_trials_at_three_depths(write_trial: Write, tmp_path: Path) -> None:
    trials = [write_trial("FMQ_0", seed=0), write_trial("FMQ_1", seed=1)]
    assert find_trials(trials[0]) == [trials[0]]
    assert find_trials(trials[0] / "result.json") == [trials[0]]
    assert find_trials(trials[0].parent) == trials
    assert find_trials(tmp_path) == trials


def test_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="does not exist"):
        find_trials(tmp_path / "nothing")
    with pytest.raises(FileNotFoundError, match=r"result\.json or progress\.csv"):
        find_trials(tmp_path)


def test_columns(write_trial: Write) -> None:
    (run,) = read_runs([write_trial("FMQ_0")])
    assert run.label == "FMQ"
    assert run.column("num_updates")[:2] == [100.0, 200.0]
    assert math.isnan(run.column("env_runners/success_rate")[0])
    assert all(math.isnan(v) for v in run.column("no/such/key"))


def test_csv_reads_like_json(write_trial: Write) -> None:
    folder = write_trial("FMQ_0")
    (from_json,) = read_runs([folder])
    keys = sorted({key for row in from_json.rows for key in row})
    with open(folder / "progress.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, keys)
        writer.writeheader()
        writer.writerows(from_json.rows)
    (folder / "result.json").unlink()
    (from_csv,) = read_runs([folder])
    for key in ("num_updates", "evaluated_this_iteration", "evaluation/env_runners/success_rate"):
        assert from_csv.column(key) == pytest.approx(from_json.column(key), nan_ok=True)


def test_labels_name_what_differs(write_trial: Write) -> None:
    runs = read_runs(
        [
            write_trial("FMQ_a", seed=0, eta=0.3),
            write_trial("FMQ_b", seed=1, eta=0.3),
            write_trial("QC_c", seed=0, eta=1.0),
        ]
    )
    assert [run.label for run in runs] == [
        "FMQ eta=0.3 seed=0",
        "FMQ eta=0.3 seed=1",
        "QC eta=1.0 seed=0",
    ]
    assert [run.group for run in runs] == ["FMQ eta=0.3", "FMQ eta=0.3", "QC eta=1.0"]


def test_same_settings_twice_are_told_apart_by_folder(write_trial: Write) -> None:
    runs = read_runs([write_trial("FMQ_a", seed=0), write_trial("FMQ_b", seed=0)])
    assert len({run.label for run in runs}) == 2
    assert len({run.group for run in runs}) == 1


def test_a_folder_named_twice_counts_once(write_trial: Write) -> None:
    folder = write_trial("FMQ_a")
    assert len(read_runs([folder, folder.parent])) == 1


def test_resumed_trial_has_each_iteration_once(write_trial: Write) -> None:
    folder = write_trial("FMQ_a")
    lines = (folder / "result.json").read_text().splitlines()
    # Interrupted after iteration 7; the last checkpoint was of iteration 5.
    (folder / "result.json").write_text("\n".join(lines[:7] + lines[5:]) + "\n")
    (run,) = read_runs([folder])
    assert run.column("training_iteration") == list(range(1, 11))


def test_a_half_written_last_line_is_left_out(write_trial: Write) -> None:
    folder = write_trial("FMQ_a")
    with open(folder / "result.json", "a") as file:
        file.write('{"training_iteration": 11, "phase')
    (run,) = read_runs([folder])
    assert len(run.rows) == 10


def test_damage_and_emptiness(write_trial: Write) -> None:
    folder = write_trial("FMQ_a")
    lines = (folder / "result.json").read_text().splitlines()
    (folder / "result.json").write_text("\n".join([lines[0], "{broken", lines[1]]))
    with pytest.raises(ValueError, match="damaged in line 2"):
        read_runs([folder])
    (folder / "result.json").write_text("")
    with pytest.raises(ValueError, match="no finished iteration"):
        read_runs([folder])


def test_json_numbers_survive(write_trial: Write) -> None:
    folder = write_trial("FMQ_a")
    (folder / "result.json").write_text(json.dumps({"num_updates": float("nan")}) + "\n")
    (run,) = read_runs([folder])
    assert math.isnan(run.column("num_updates")[0])
