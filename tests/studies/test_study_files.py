"""The studies that come with the package can be run as they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rllib_fmq.python_files import run_python_file
from rllib_fmq.studies import load_study
from rllib_fmq.studies.trials import Trial, plan_trials
from rllib_fmq.tasks.catalog import paper_tasks

TUNED = Path(__file__).resolve().parents[2] / "tuned_examples"


def plan(name: str) -> list[Trial]:
    return plan_trials(load_study(TUNED / "studies" / f"{name}.py"))


@pytest.mark.parametrize(
    ("name", "offline", "online"),
    [
        # Tasks x seeds x {shared, QC}, and the losses of Table 3; then each method online.
        ("paper", 12 * 5 * 2 + 2 * 6 * 5, 12 * 5 * 3 + 2 * 6 * 5),
        # (5 + 3 + 3 + 3) seeds; N = 1, N = 16, lambda and two losses have offline phases,
        # and N = 16 has two methods.
        ("reduced", 14 * 2 + 5 * 3, 14 * 3 + 10 * 3),
        ("quick", 4, 4 * 3),
    ],
)
def test_trials(name: str, offline: int, online: int) -> None:
    trials = plan(name)
    phases = [trial.phase for trial in trials]
    assert (phases.count("offline"), phases.count("online")) == (offline, online)


def own(config: Any, *without: str) -> dict[str, Any]:
    left_out = {"seed", "initial_checkpoint", "offline_updates", "online_env_steps", *without}
    return {k: v for k, v in vars(config).items() if not k.startswith("_") and k not in left_out}


def test_paper_study_is_what_the_files_of_single_runs_are() -> None:
    trials = plan("paper")
    short = {task.name: task.short_name for task in paper_tasks()}
    compared = 0
    for trial in trials:
        if trial.phase == "offline" or trial.seed or trial.setting != "default":
            continue
        stem = f"{trial.method.lower()}_{short[trial.task].replace('-', '_')}"
        single = vars(run_python_file(TUNED / "paper" / f"{stem}.py", "single"))["config"]
        single.validate()
        config = trial.config()
        assert config.offline_updates == single.offline_updates == 1_000_000
        assert config.online_env_steps == single.online_env_steps == 1_000_000
        # MVP shares FMQ's offline phase here, and the GPU is the study's choice.
        ours = own(config, "conditioning_axis", "num_gpus_per_learner", "env_config")
        theirs = own(single, "conditioning_axis", "num_gpus_per_learner", "env_config")
        different = {k for k in ours if repr(ours[k]) != repr(theirs[k])} - {"class", "policies"}
        assert different <= {"env"}, different  # one task by two of its names
        compared += 1
    assert compared == 12 * 3


def test_reduced_study_is_equal_for_all_methods() -> None:
    budgets = {
        (t.task, c.offline_updates, c.online_env_steps, c.evaluation_duration, c.num_candidates)
        for t in plan("reduced")
        if t.phase == "online" and t.setting == "default"
        for c in [t.config()]
    }
    assert len(budgets) == 4
