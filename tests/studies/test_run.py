"""A whole small study: run, killed in the middle, resumed, with a trial that fails."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from rllib_fmq.studies.store import read_configs, read_info, read_results
from tests.command import Command, Outcome

pytestmark = pytest.mark.slow

STUDY = """
from rllib_fmq.studies import Method, Setting, Study, StudyTask

TASKS = ["pointmaze-medium-navigate-singletask-task%d-v0" % n for n in (1, 2)]
study = Study(
    name="small",
    description="Does it run?",
    scale_note="Everything is tiny.",
    tasks=[StudyTask(task, config={"env_config": {"max_episode_steps": 20}}) for task in TASKS],
    methods=[Method("FMQ", final_selectors=("qgbs",)), Method("MVP")],
    seeds=SEEDS,
    config={
        "actor_hidden": [16],
        "critic_hidden": [16],
        "train_batch_size_per_learner": 16,
        "num_candidates": 2,
        "diagonal_warmup_updates": 5,
        "interval_anneal_end": 10,
        "offline_updates": 40,
        "online_env_steps": 60,
        "updates_per_iteration": 20,
        "learning_starts": 20,
        "learner_threads": 1,
        "evaluation_interval": 1,
        "evaluation_duration": 1,
    },
    settings=[Setting("fails", {"lr": 1e38}, methods=("FMQ",), tasks=TASKS[:1], seeds=(0,))],
    final_episodes=2,
    checkpoint_interval=1,
)
"""


class Small:
    """The study in a folder, and what its runs said."""

    def __init__(self, folder: Path, data: Path) -> None:
        self.file, self.out = folder / "small.py", folder / "out"
        self.write("(0,)")
        self.arguments = (
            *("study", "run", str(self.file), "--dataset-dir", str(data)),
            *("-o", str(self.out), "--ray-num-cpus", "2"),
        )

    def write(self, seeds: str) -> None:
        self.file.write_text(STUDY.replace("SEEDS", seeds))

    def rows(self) -> dict[str, str]:
        """Trial -> everything that it has written."""
        files = self.out.glob("trials/*/rows.jsonl")
        return {file.parent.name: file.read_text() for file in files}

    def kill_in_the_middle(self) -> None:
        """SIGKILL the command and all that it started, when two online trials have begun."""
        process = subprocess.Popen(
            [sys.executable, "-m", "rllib_fmq.cli", *self.arguments],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + 400
        while len(list(self.out.glob("trials/online*/rows.jsonl"))) < 2:
            assert process.poll() is None, "the study ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, rllib_here: Command) -> Path:
    folder = tmp_path_factory.mktemp("maze")
    made = rllib_here(
        *("data", "generate", "pointmaze-medium-navigate-v0", "--steps", "2000", "--seed", "0"),
        *("--val-fraction", "0", "--num-workers", "0"),
        *("-o", folder / "pointmaze-medium-navigate-v0.npz"),
    )
    assert made.code == 0, made.err
    return folder


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Iterator[Small]:
    small = Small(tmp_path_factory.mktemp("study"), data)
    small.kill_in_the_middle()
    yield small


@pytest.fixture(scope="module")
def before(killed: Small) -> dict[str, str]:
    return killed.rows()


@pytest.fixture(scope="module")
def resumed(killed: Small, before: dict[str, str], rllib_here: Command) -> Outcome:
    return rllib_here(*killed.arguments)


def test_kill_leaves_a_table_that_can_be_read(killed: Small, before: dict[str, str]) -> None:
    assert before
    names = set(read_results(killed.out)["trial"])
    assert names == {name for name, text in before.items() if "\n" in text}


def test_second_start_runs_what_is_missing(
    killed: Small, before: dict[str, str], resumed: Outcome
) -> None:
    after = killed.rows()
    done_before = [name for name, text in before.items() if '"kind": "final"' in text]
    assert done_before, "nothing was complete when the study was killed"
    for name in done_before:
        started = f"{name}: starts" in resumed.out
        finals = after[name].count('"kind": "final"')
        assert started == (finals > before[name].count('"kind": "final"'))
        assert after[name].startswith(before[name])  # append-only
    table = read_results(killed.out)
    final = table[(table["kind"] == "final") & (table["setting"] == "default")]
    # 2 tasks: offline by best-of-N; FMQ by best-of-N and QGBS; MVP by best-of-N.
    assert final.groupby(["method", "selector"]).size().to_dict() == {
        ("FMQ", "best_of_n"): 2,
        ("FMQ", "qgbs"): 2,
        ("FMQ/MVP", "best_of_n"): 2,
        ("MVP", "best_of_n"): 2,
    }
    assert not final.duplicated(["trial", "selector_config"]).any()


def test_trial_that_fails_is_reported_and_does_not_stop_the_others(resumed: Outcome) -> None:
    assert resumed.code == 1
    (failed,) = re.findall(r"^(offline-\S+): FAILED: .*finite", resumed.out, flags=re.M)
    line = resumed.err.strip().splitlines()[-1]
    assert line.startswith(f"rllib: 1 trial failed, such as {failed}: ")
    assert re.search(
        r"1 trial cannot start, such as online-\S+-FMQ-fails-s0-\S+: its offline", line
    )
    assert f"its offline phase {failed} is not finished" in line
    assert "6 of 8 trials are complete" in resumed.out


def test_online_phases_start_from_shared_offline_policies(killed: Small, resumed: Outcome) -> None:
    table = read_results(killed.out)
    default = table[table["setting"] == "default"]
    online = default[default["phase"] == "online"]
    parents = online.groupby(["task", "seed"])["parent"].agg(lambda names: sorted(set(names)))
    assert [len(names) for names in parents] == [1, 1]
    offline = default[default["phase"] == "offline"]
    assert set(offline["trial"]) == {names[0] for names in parents}
    assert set(offline["method"]) == {"FMQ/MVP"}
    assert offline["update"].max() == 40
    # The fork goes on counting: 40 offline updates, then one a step after learning_starts.
    assert online["update"].max() == 40 + 60 - 20
    assert online["env_step"].max() == 60


def test_table_says_what_was_run(killed: Small, resumed: Outcome) -> None:
    parquet = pd.read_parquet(killed.out / "results.parquet")
    row = parquet[(parquet["method"] == "FMQ") & (parquet["kind"] == "final")].iloc[0]
    config = json.loads(row["config"])
    assert (config["algorithm"], config["eta"], config["seed"]) == ("FMQ", 1.0, row["seed"])
    assert read_configs(killed.out)[row["config_id"]] == config
    assert row["episodes"] == 2
    assert row["version"]
    assert 0.0 <= row["success"] <= 1.0
    assert row["return"] <= 0.0
    assert row["latency_ms"] > 0.0
    training = parquet[parquet["kind"] == "training"]
    fmq = training[(training["method"] == "FMQ") & (training["phase"] == "online")]
    assert fmq["displacement"].notna().any()
    info = read_info(killed.out)
    assert info["name"] == "small"
    assert len(info["trials"]) == 8
    assert info["command"] == "rllib " + " ".join(
        killed.arguments[:-2]  # without the CPUs, which change nothing
    )
    assert str(killed.out) not in json.dumps(read_configs(killed.out))


def test_finished_study_runs_nothing_new_but_what_failed(
    killed: Small, resumed: Outcome, rllib_here: Command
) -> None:
    before = killed.rows()
    again = rllib_here(*killed.arguments, "--only", "default")
    assert again.code == 0, again.err
    assert "starts" not in again.out
    assert killed.rows() == before


def test_seeds_that_are_added_later_run_alone(
    killed: Small, resumed: Outcome, rllib_here: Command
) -> None:
    before = killed.rows()
    killed.write("(0, 1)")
    again = rllib_here(*killed.arguments, "--only", "-MVP-", "--only", "task1")
    assert again.code == 0, again.err
    new = set(killed.rows()) - set(before)
    assert {re.sub(r"-[0-9a-f]{12}$", "", name) for name in new} == {
        "offline-pointmaze-medium-navigate-singletask-task1-v0-s1",
        "online-pointmaze-medium-navigate-singletask-task1-v0-MVP-default-s1",
    }


def test_dry_run_lists_trials_and_starts_nothing(
    tmp_path: Path, data: Path, rllib_here: Command
) -> None:
    small = Small(tmp_path, data)
    listed = rllib_here(*small.arguments, "--dry-run")
    assert listed.code == 0, listed.err
    assert len(re.findall(r"^ +to run  o", listed.out, flags=re.M)) == 8
    assert not small.out.exists()


STOPPER = """
from ray.tune.schedulers import FIFOScheduler

class StopSeedOne(FIFOScheduler):
    def on_trial_result(self, tune_controller, trial, result):
        assert 0.0 <= result["success_rate"] <= 1.0
        behind = "-s1-" in str(trial) and result["num_online_env_steps"] == 20
        return self.STOP if behind else self.CONTINUE
"""


def test_scheduler_stops_what_falls_behind(tmp_path: Path, data: Path, rllib_here: Command) -> None:
    small = Small(tmp_path, data)
    small.write("(0, 1)")
    text = small.file.read_text().split("    settings=")[0]
    text = text.replace("for n in (1, 2)", "for n in (1,)").replace(', Method("MVP")', "")
    small.file.write_text(STOPPER + text + "    scheduler=StopSeedOne(),\n)\n")
    first = rllib_here(*small.arguments)
    assert first.code == 0, first.err
    assert "3 of 4 trials are complete, 1 stopped by the scheduler" in first.out
    table = read_results(small.out)
    online = table[table["phase"] == "online"]
    assert online.groupby("seed")["env_step"].max().to_dict() == {0: 60, 1: 20}
    assert set(online[online["kind"] == "final"]["seed"]) == {0}
    before = small.rows()
    assert rllib_here(*small.arguments).code == 0
    assert small.rows() == before
    small.file.write_text(text + ")\n")  # without the scheduler, what it stopped goes on
    assert rllib_here(*small.arguments).code == 0
    online = read_results(small.out).query("phase == 'online'")
    assert online.groupby("seed")["env_step"].max().to_dict() == {0: 60, 1: 60}
