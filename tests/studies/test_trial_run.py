"""One trial: kept results, restarts, and what it starts from."""

from __future__ import annotations

import dataclasses
import json
import shutil
import types
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from ray.exceptions import ActorDiedError

from rllib_fmq.studies import Method, Study, StudyTask, trial_run
from rllib_fmq.studies.locks import locked
from rllib_fmq.studies.store import read_configs, read_results
from rllib_fmq.studies.trial_run import (
    MAX_RESTARTS,
    _restore,
    is_complete,
    missing_selectors,
    parent_error,
    run_trial,
    trial_folder,
)
from rllib_fmq.studies.trials import Trial, plan_trials
from tests.problems import TWO_MODES

CONFIG = {
    "horizon_length": 1,
    "actor_hidden": [8],
    "critic_hidden": [8],
    "num_candidates": 2,
    "diagonal_warmup_updates": 2,
    "interval_anneal_end": 4,
    "train_batch_size_per_learner": 8,
    "offline_updates": 30,
    "online_env_steps": 20,
    "updates_per_iteration": 10,
    "learning_starts": 0,
    "rollout_fragment_length": 5,
    "evaluation_interval": 1,
    "evaluation_duration": 1,
    "learner_threads": 1,
}


@pytest.fixture()
def trials(two_modes: Path, ray_session: None) -> tuple[Trial, Trial]:
    study = Study(
        name="s",
        tasks=[StudyTask(TWO_MODES, str(two_modes))],
        methods=[Method("FMQ", final_selectors=("qgbs",))],
        seeds=(0,),
        config=CONFIG,
        final_episodes=3,
    )
    offline, online = plan_trials(study)
    return offline, online


def nothing(metrics: Mapping[str, Any]) -> None:
    """Nobody listens."""


def updates(folder: Path, trial: Trial) -> list[int]:
    """Of the training rows, in the order in which they were written."""
    text = (trial_folder(folder, trial.id) / "rows.jsonl").read_text()
    rows = [json.loads(line) for line in text.splitlines()]
    return [row["update"] for row in rows if row["kind"] == "training"]


def test_trial_that_failed_goes_on_from_its_checkpoint(
    trials: tuple[Trial, Trial], tmp_path: Path
) -> None:
    offline, online = trials

    def fail_at_twenty(metrics: Mapping[str, Any]) -> None:
        if metrics["num_updates"] == 20:
            raise RuntimeError("the machine is gone")

    with pytest.raises(RuntimeError, match="the machine is gone"):
        run_trial("s", tmp_path, offline, 1, fail_at_twenty)
    assert updates(tmp_path, offline) == [10, 20]
    # It has a checkpoint, but nothing may start from it.
    assert (trial_folder(tmp_path, offline.id) / "checkpoint").is_dir()
    assert "is not finished" in parent_error(tmp_path, online)
    with pytest.raises(FileNotFoundError, match="is not finished"):
        run_trial("s", tmp_path, online, 1, nothing)

    run_trial("s", tmp_path, offline, 1, nothing)
    assert updates(tmp_path, offline) == [10, 20, 30]
    assert is_complete(tmp_path, offline)
    assert parent_error(tmp_path, online) == ""
    written = (trial_folder(tmp_path, offline.id) / "rows.jsonl").read_text()
    run_trial("s", tmp_path, offline, 1, nothing)
    assert (trial_folder(tmp_path, offline.id) / "rows.jsonl").read_text() == written


def test_online_trial_starts_where_its_parent_ended(
    trials: tuple[Trial, Trial], tmp_path: Path
) -> None:
    reports: list[Mapping[str, Any]] = []
    for trial in trials:
        run_trial("s", tmp_path, trial, 10, reports.append)
    offline, online = trials
    assert updates(tmp_path, online) == [40, 50]
    table = read_results(tmp_path)
    final = table[table["kind"] == "final"]
    assert final["selector"].tolist() == ["best_of_n", "best_of_n", "qgbs"]
    assert final["episodes"].tolist() == [3, 3, 3]
    # The last report of a trial comes when it is complete, so that no scheduler can cut it.
    assert [r["num_online_env_steps"] for r in reports] == [0, 0, 0, 10, 20]
    config = read_configs(tmp_path)[final["config_id"].iloc[-1]]
    assert config["dataset_fingerprint"]
    assert config["dataset_generated"] is False
    assert config["dataset"] == Path(str(online.values["dataset"])).name

    more = dataclasses.replace(online, final_episodes=2)
    assert len(missing_selectors(tmp_path, more)) == 2
    shutil.rmtree(trial_folder(tmp_path, offline.id) / "checkpoint")
    run_trial("s", tmp_path, more, 10, nothing)  # evaluating needs no parent
    assert is_complete(tmp_path, more)
    assert not is_complete(tmp_path, online)
    assert "remove that trial's folder" in parent_error(tmp_path, online)


def test_other_data_of_the_same_name_are_refused(
    trials: tuple[Trial, Trial], tmp_path: Path, two_modes: Path
) -> None:
    offline, online = trials
    run_trial("s", tmp_path, offline, 10, nothing)
    config = next(trial_folder(tmp_path, offline.id).glob("config-*.json"))
    config.write_text(json.dumps(json.loads(config.read_text()) | {"dataset_fingerprint": "f00"}))
    with pytest.raises(ValueError, match="was trained on another dataset"):
        run_trial("s", tmp_path, online, 10, nothing)
    assert not (trial_folder(tmp_path, online.id) / "rows.jsonl").exists()


def test_learners_that_die_are_survived_a_few_times(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    deaths = iter([True] * MAX_RESTARTS + [False] + [True] * (MAX_RESTARTS + 1))

    def train(*arguments: Any) -> Mapping[str, Any]:
        if next(deaths):
            raise ActorDiedError
        return {"success_rate": 1.0}

    monkeypatch.setattr(trial_run, "_train", train)
    trial = types.SimpleNamespace(id="trial-1")
    run = partial(trial_run._train_with_restarts, "s", tmp_path, trial, 1, nothing)
    assert run() == {"success_rate": 1.0}
    assert "trial-1: a learner died" in caplog.text and "restart 3 of 3" in caplog.text
    with pytest.raises(ActorDiedError):
        run()


def test_trial_runs_once_at_a_time(trials: tuple[Trial, Trial], tmp_path: Path) -> None:
    offline, _ = trials
    with (
        locked(trial_folder(tmp_path, offline.id), "it"),
        pytest.raises(ValueError, match="is being run by another process"),
    ):
        run_trial("s", tmp_path, offline, 10, nothing)


class Restored:
    def __init__(self) -> None:
        self.paths: list[str] = []
        self.checkpoint_notes: dict[str, Any] = {}

    def restore_from_path(self, path: str) -> None:
        self.paths.append((Path(path) / "trial.json").read_text())


@pytest.mark.parametrize(
    ("folders", "expected"),
    [
        ({}, None),
        ({"checkpoint": 2.0}, 2.0),
        ({"checkpoint": 2.0, "checkpoint.new": None}, 2.0),
        ({"checkpoint.old": 1.0, "checkpoint.new": 2.0}, 1.0),
        ({"checkpoint.old": 1.0, "checkpoint": 2.0}, 2.0),
    ],
)
def test_checkpoints_of_format_1_and_kills_while_one_was_replaced(
    tmp_path: Path, folders: dict[str, float | None], expected: float | None
) -> None:
    for name, seconds in folders.items():
        (tmp_path / name / "learner_group").mkdir(parents=True)
        (tmp_path / name / "rllib_checkpoint.json").write_text("{}")
        if seconds is not None:
            (tmp_path / name / "trial.json").write_text(json.dumps({"wall_seconds": seconds}))
    algorithm = Restored()
    assert _restore(algorithm, tmp_path) == (expected or 0.0)
    assert len(algorithm.paths) == (expected is not None)
    if expected is not None:
        assert (tmp_path / "checkpoint" / "trial.json").is_file()
