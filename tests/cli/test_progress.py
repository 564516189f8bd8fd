"""The progress line: phase, updates, steps, success, speed, time left."""

from __future__ import annotations

import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pyarrow.fs import LocalFileSystem

from rllib_fmq.cli.progress import ProgressCallback
from rllib_fmq.cli.progress_line import TrialProgress, duration

CONFIG = {"offline_updates": 200, "online_env_steps": 100}


def result(phase: str, updates: int, steps: int, seconds: float, **more: Any) -> dict[str, Any]:
    return {
        "phase": phase,
        "num_updates": updates,
        "num_online_env_steps": steps,
        "time_total_s": seconds,
        "time_this_iter_s": 10.0,
        "training_iteration": round(seconds / 10),
        "evaluated_this_iteration": False,
        "done": False,
        "config": CONFIG,
    } | more


def test_both_phases() -> None:
    progress = TrialProgress()
    assert progress.line(result("offline", 100, 0, 10.0)) == (
        "offline  updates 100/200  10 updates/s  0:00:10 left of this phase"
    )
    evaluated = {"evaluation": {"env_runners": {"success_rate": 0.25}}}
    line = progress.line(
        result("offline", 200, 0, 20.0, evaluated_this_iteration=True, **evaluated)
    )
    assert line == "offline  updates 200/200  eval success 0.25*  10 updates/s"
    collected = {"env_runners": {"success_rate": 0.5, "episode_return_mean": -7.0}}
    line = progress.line(result("online", 240, 40, 30.0, **evaluated, **collected))
    assert line == (
        "online   env steps 40/100  updates 240  eval success 0.25  collected success 0.50  "
        "4.0 steps/s  0:00:15 left"
    )


def test_a_resumed_trial_claims_no_speed_before_it_knows() -> None:
    progress = TrialProgress()
    first = result("online", 900, 60, 5.0, training_iteration=40)
    assert "steps/s" not in progress.line(first)
    second = result("online", 920, 80, 15.0, training_iteration=41)
    assert progress.line(second).endswith("2.0 steps/s  0:00:10 left")


def test_missing_and_undefined_scores() -> None:
    line = TrialProgress().line(
        result("online", 10, 10, 10.0, env_runners={"success_rate": float("nan")}, config={})
    )
    assert "success" not in line and "left" not in line


def test_rllibs_own_algorithms() -> None:
    line = TrialProgress().line(
        {
            "training_iteration": 1,
            "num_env_steps_sampled_lifetime": 4000.0,
            "env_runners": {"episode_return_mean": 21.5},
            "time_total_s": 8.0,
            "time_this_iter_s": 8.0,
        }
    )
    assert line == (
        "iteration 1  env steps 4,000  collected return 21.5  500 steps/s  0:00:08 so far"
    )


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00:00"), (59.6, "0:01:00"), (7325, "2:02:05")]
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def trial(number: int, **searched: Any) -> Any:
    return SimpleNamespace(
        trial_id=f"abcde_{number:05d}",
        experiment_tag=f"{number}_tag" if searched else "0",
        evaluated_params=searched,
        is_finished=lambda: False,
    )


def test_one_trial_prints_what_is_new(capsys: pytest.CaptureFixture[str]) -> None:
    callback, only = ProgressCallback(live=False), trial(0)
    for iteration in range(1, 5):
        callback.on_trial_result(
            iteration, [only], only, result("offline", 50 * iteration, 0, 10.0 * iteration)
        )
    callback.on_trial_result(5, [only], only, result("online", 250, 50, 50.0))
    callback.on_trial_result(6, [only], only, result("online", 300, 100, 60.0, done=True))
    lines = capsys.readouterr().out.splitlines()
    # The first of a phase and the last; the others came in the same second.
    assert [line.split()[0] for line in lines] == ["offline", "online", "online"]
    assert "0:00:00" not in lines[-1]


def test_several_trials_have_a_prefix(capsys: pytest.CaptureFixture[str]) -> None:
    callback = pickle.loads(pickle.dumps(ProgressCallback(live=False)))
    trials = [trial(0, eta=0.3), trial(1, eta=1.0)]
    callback.on_trial_result(1, trials, trials[1], result("offline", 100, 0, 10.0))
    callback.on_trial_complete(2, trials, trials[1])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("[00001 eta=1] offline  updates 100/200")
    assert lines[1] == "[00001 eta=1] is done (1 of 2)"


@pytest.mark.parametrize(
    ("known", "start"), [(None, "the beginning"), (object(), "its last checkpoint")]
)
def test_where_a_trial_starts_again(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, known: Any, start: str
) -> None:
    only = trial(0)
    only.error_file, only.max_failures, only.checkpoint = None, 3, known
    only.run_metadata = SimpleNamespace(num_failures=1)
    only.path, only.storage = str(tmp_path), SimpleNamespace(storage_filesystem=LocalFileSystem())
    ProgressCallback(live=False).on_trial_recover(1, [only], only)
    assert f"starts again from {start}: " in capsys.readouterr().out


def test_a_terminal_gets_a_bar(capsys: pytest.CaptureFixture[str]) -> None:
    callback, only = ProgressCallback(live=True), trial(0)
    callback.on_trial_result(1, [only], only, result("offline", 100, 0, 10.0))
    callback.on_trial_complete(2, [only], only)
    callback.on_experiment_end([only])
    assert "updates 100/200" in capsys.readouterr().out
