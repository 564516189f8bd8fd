"""What `rllib study run --plan` prints, with a made-up calibration and made-up machines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import ray

from rllib_fmq.cli.study_plan import show_plan
from rllib_fmq.studies import Method, Study, StudyTask, calibration
from rllib_fmq.studies.costs import Calibration, cost_key, selector_key
from rllib_fmq.studies.trials import Trial, plan_trials

TASK = "pointmaze-medium-navigate-singletask-task1-v0"


def made_up(
    study: Study, trials: Sequence[Trial], folder: Path, max_concurrent: int
) -> dict[str, Calibration]:
    """A second an update, and ten seconds an episode."""
    assert folder.is_dir()
    return {
        cost_key(trial): Calibration(
            setup=0.0,
            update=1.0,
            collect=0.0,
            train=2.0,
            checkpoint=0.0,
            load=0.0,
            episode={selector_key(selector): 10.0 for selector in trial.selectors},
        )
        for trial in trials
    }


def test_table_and_hours(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    study = Study(
        name="s",
        tasks=[StudyTask(TASK)],
        methods=[Method("FMQ", final_selectors=("qgbs",)), Method("MVP")],
        seeds=(0, 1),
        config={
            "offline_updates": 7_100,
            "online_env_steps": 4_450,
            "learning_starts": 1_000,
            "evaluation_interval": None,
            "num_learners": 2,
            "num_gpus_per_learner": 1,
        },
        final_episodes=10,
        cpus_per_trial=2,
    )
    machine = {"CPU": 4.0, "GPU": 2.0, "memory": 1e9}
    nodes = [{"Alive": True, "Resources": machine}] * 2
    nodes.append({"Alive": False, "Resources": {"CPU": 100.0}})
    monkeypatch.setattr(calibration, "calibrate", made_up)
    monkeypatch.setattr(ray, "nodes", lambda: nodes)
    folder = tmp_path / "out"
    trials = plan_trials(study)
    # On a machine with GPUs, without CPUs for learners.
    show_plan(study, trials, folder, 0)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert not folder.exists()
    assert ["6", "trials,", "0", "of", "them", "done;", "6", "to", "run"] in lines
    reserved = ["2", "CPU", "+", "2", "x", "1", "GPU"]

    def row(*values: Any) -> list[str]:
        return [str(value) for value in values]

    # Offline 7,100 s of updates and 10 episodes: 2 h each, 2 at a time on the 4 GPUs.
    assert row("offline", TASK, "FMQ/MVP", 2, *reserved, 2, 2, 4) in lines
    # Online 6,900 s and 10 episodes with each selector.
    assert row("online", TASK, "FMQ", 2, *reserved, 2, "1.97", "3.94") in lines
    assert row("online", TASK, "MVP", 2, *reserved, 2, "1.94", "3.89") in lines
    total = 2 * (7_200 + 7_100 + 7_000) / 3_600
    assert row("CPU-core", "hours", f"{2 * total:.3g}") in lines
    assert row("GPU", "hours", f"{2 * total:.3g}") in lines
    wall = (7_200 + 7_100 + 7_000) / 3_600
    expected = row("wall", "hours", f"{wall:.3g}", "on", 2, "machines", "with", 8)
    assert [*expected, "CPUs,", "4", "GPUs", "(those", "that", "are", "up", "now)"] in lines
    assert row("machine", "hours", f"{2 * wall:.3g}") in lines


def test_nothing_left(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    show_plan(Study("s", [], [], ()), [], tmp_path, 0)
    assert capsys.readouterr().out == "0 trials, 0 of them done; 0 to run\n"
