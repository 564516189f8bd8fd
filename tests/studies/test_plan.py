"""The cost of a study: counts, packing and hours by hand, and one real calibration."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from ray import tune
from ray.tune.schedulers import FIFOScheduler

from rllib_fmq.studies import Method, Setting, Study, StudyTask, calibration
from rllib_fmq.studies.calibration import ITERATIONS, calibrate, measure, short_config
from rllib_fmq.studies.costs import (
    Calibration,
    Work,
    cost_key,
    is_compiled,
    selector_key,
    trial_seconds,
    work_of,
)
from rllib_fmq.studies.plan import (
    Job,
    describe_bundles,
    find_room,
    fit_at_once,
    make_plan,
    wall_seconds,
)
from rllib_fmq.studies.run import batches, stages, trial_resources
from rllib_fmq.studies.trials import Trial, plan_trials
from tests.problems import TWO_MODES

TASK = "pointmaze-medium-navigate-singletask-task1-v0"
OTHER_TASK = "pointmaze-medium-navigate-singletask-task2-v0"
CONFIG = {
    "actor_hidden": [8],
    "critic_hidden": [8],
    "num_candidates": 2,
    "train_batch_size_per_learner": 8,
    "offline_updates": 1_000,
    "online_env_steps": 650,
    "updates_per_iteration": 200,
    "learning_starts": 100,
    "evaluation_interval": 2,
    "evaluation_duration": 10,
    "learner_threads": 1,
}


def trials_of(config: dict[str, Any] | None = None, **changes: Any) -> list[Trial]:
    study = Study(
        name="s",
        tasks=[StudyTask(TASK)],
        methods=[Method("FMQ", final_selectors=("qgbs",)), Method("MVP")],
        seeds=(0, 1),
        config=CONFIG | (config or {}),
        final_episodes=7,
    )
    return plan_trials(dataclasses.replace(study, **changes))


def test_work_is_counted() -> None:
    offline, online = (next(t for t in trials_of() if t.phase == p) for p in ("offline", "online"))
    # 5 iterations: evaluated after the 2nd, the 4th, and, being the last, the 5th.
    assert work_of(offline, 10) == Work(
        updates=1_000,
        collected=0,
        trained=0,
        episodes=3 * 10,
        final={selector_key(offline.selectors[0]): 7},
        checkpoints=1,
    )
    # 4 iterations of 200 steps, the last one shorter; two selectors in the end.
    work = work_of(online, 3)
    assert (work.updates, work.collected, work.trained) == (0, 100, 550)
    assert (work.episodes, work.checkpoints) == (2 * 10, 2)
    assert list(work.final.values()) == [7, 7]


def test_phases_of_one_trial_are_counted_together() -> None:
    online = next(t for t in trials_of({"utd_ratio": 0.5}) if t.phase == "online")
    whole = dataclasses.replace(online, parent="")
    # 5 iterations offline, then 2 of 400 steps: after the 2nd, 4th, 5th (a switch), 6th, 7th.
    work = work_of(whole, 10)
    assert (work.updates, work.collected, work.trained) == (1_000, 100, 550)
    assert work.episodes == 5 * 10
    shared = trials_of({"evaluation_num_env_runners": 4})[0]
    assert work_of(shared, 10).episodes == 3 * 3  # ten episodes by four runners
    never = trials_of({"evaluation_interval": None})[0]
    assert work_of(never, 10).episodes == 0


def test_seconds_by_hand() -> None:
    work = Work(
        updates=100, collected=10, trained=20, episodes=4, final={"a": 2, "b": 3}, checkpoints=5
    )
    measured = Calibration(
        setup=7.0,
        update=0.01,
        collect=0.1,
        train=0.2,
        checkpoint=0.5,
        load=1.5,
        episode={"a": 2.0, "b": 10.0},
    )
    # 7 set-up + 1 + 1 + 4 + 8 evaluations + 2.5 + (1.5 + 4) + (1.5 + 30)
    assert trial_seconds(work, measured) == pytest.approx(60.5)


def test_equal_costs_share_a_calibration() -> None:
    settings = [
        Setting("eta", {"eta": 0.3, "lr": 1e-4}, methods=("FMQ",)),
        Setting("wide", {"actor_hidden": [16]}, methods=("FMQ",)),
    ]
    trials = trials_of(settings=settings)
    costs = {t.id: cost_key(t) for t in trials}
    by_name = {(t.phase, t.method, t.setting, t.seed): costs[t.id] for t in trials}
    default = by_name["online", "FMQ", "default", 0]
    assert by_name["online", "FMQ", "default", 1] == default
    assert by_name["online", "FMQ", "eta", 0] == default
    assert by_name["online", "FMQ", "wide", 0] != default
    assert by_name["online", "MVP", "default", 0] != default
    assert len({cost for (phase, *_), cost in by_name.items() if phase == "offline"}) == 2


GPU = [{"CPU": 1.0}, {"CPU": 1.0, "GPU": 0.5}, {"CPU": 1.0, "GPU": 0.5}]


def test_packing() -> None:
    assert fit_at_once([{"CPU": 1.0}], [{"CPU": 4.0}, {"CPU": 2.0}]) == 6
    # A GPU holds both learners of a trial; CPUs of the other machine do not help.
    assert fit_at_once(GPU, [{"CPU": 8.0, "GPU": 2.0}, {"CPU": 64.0}]) == 2
    assert fit_at_once([{"CPU": 3.0}], [{"CPU": 2.0}, {"CPU": 2.0}]) == 0
    assert fit_at_once([{"CPU": 1.0, "GPU": 0.1}], [{"CPU": 99.0, "GPU": 1.0}]) == 10
    assert describe_bundles(GPU) == "1 CPU + 2 x (1 CPU, 0.5 GPU)"


def test_packing_tries_the_smallest_machine_too() -> None:
    bundles = [{"CPU": 4.0}, {"CPU": 3.0}, {"CPU": 3.0}]
    machines = [{"CPU": 6.0}, {"CPU": 4.0}]
    assert find_room(bundles, machines) and fit_at_once(bundles, machines) == 1
    assert wall_seconds(jobs(2.0, 3.0, bundles=bundles), machines) == 5.0


def test_a_scheduler_compares_online_trials_of_one_task() -> None:
    tasks = [StudyTask(TASK), StudyTask(OTHER_TASK, config={"online_env_steps": 0})]
    trials = trials_of(tasks=tasks, seeds=(0,))
    study = Study("s", tasks, [Method("FMQ")], seeds=(0,), scheduler=FIFOScheduler())
    offline, last = stages(trials)
    # Offline phases of all tasks at once, and no trial is left out.
    assert batches(study, offline) == [offline]
    first, *others = batches(study, last)
    assert {(t.task, t.phase) for t in first} == {(OTHER_TASK, "offline")}
    assert [{t.task for t in batch} for batch in others] == [{TASK}]
    assert sorted(t.id for b in (first, *others) for t in b) == sorted(t.id for t in last)
    assert batches(dataclasses.replace(study, scheduler=None), last) == [last]
    assert batches(study, []) == []


def test_updates_of_a_parent_do_not_count_for_compiling(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rllib_fmq.learner.compiling.has_compiler", lambda device: True)
    config = {"offline_updates": 100_000, "online_env_steps": 50_000, "evaluation_interval": None}
    trials = trials_of(config | {"compile_updates": "auto"})
    assert {(t.phase, is_compiled(t)) for t in trials} == {("offline", True), ("online", False)}
    online = next(t for t in trials if t.phase == "online")
    assert not short_config(online).compile_updates


def jobs(*seconds: float, bundles: Any = ({"CPU": 1.0},)) -> list[Job]:
    trial = trials_of()[0]
    return [Job(trial, bundles, second) for second in seconds]


def test_wall_time_by_hand() -> None:
    two = [{"CPU": 2.0}]
    assert wall_seconds(jobs(3, 1, 1, 4), two) == 6  # 3 | 1 1 4
    assert wall_seconds(jobs(3, 1, 1, 4), two, max_concurrent=1) == 9
    wide = jobs(5, bundles=({"CPU": 1.0}, {"CPU": 1.0}))
    assert wall_seconds([*jobs(3, 1), *wide, *jobs(1)], two) == 9  # in order, as Tune does
    with pytest.raises(ValueError, match=r"needs 2 x 1 CPU, and the machines have no room"):
        wall_seconds(wide, [{"CPU": 1.0}])


def test_plan_by_hand() -> None:
    offline = jobs(3_600.0, 3_600.0)
    online = jobs(7_200.0, bundles=GPU)
    online[0] = dataclasses.replace(online[0], trial=trials_of()[-1])
    plan = make_plan([offline, online], [{"CPU": 4.0, "GPU": 1.0}])
    assert plan.cpu_hours == pytest.approx(2 * 1 + 2 * 3)
    assert plan.gpu_hours == pytest.approx(2)
    assert plan.wall_hours == pytest.approx(1 + 2)
    assert [(g.phase, len(g.seconds), g.at_once) for g in plan.groups] == [
        ("offline", 2, 4),
        ("online", 1, 1),
    ]
    limited = make_plan([offline], [{"CPU": 4.0}], max_concurrent=1)
    assert (limited.wall_hours, limited.groups[0].at_once) == (pytest.approx(2), 1)


def test_real_calibration(two_modes: Path, ray_session: None) -> None:
    trials = trials_of(
        {"horizon_length": 1, "rollout_fragment_length": 5},
        tasks=[StudyTask(TWO_MODES, str(two_modes))],
    )
    offline, online = (next(t for t in trials if t.phase == p) for p in ("offline", "online"))
    seconds = measure(offline)
    assert 0.0 < seconds.update < 1.0
    assert (seconds.collect, seconds.train) == (0.0, 0.0)
    assert list(seconds.episode) == [selector_key(s) for s in offline.selectors]
    seconds = measure(online)
    assert seconds.update == 0.0
    # An update costs more than a step of this environment.
    assert 0.0 < seconds.collect < seconds.train < 1.0
    assert list(seconds.episode) == [selector_key(s) for s in online.selectors]
    assert min(seconds.episode.values()) > 0.0


def test_one_trial_of_each_kind_is_calibrated(
    two_modes: Path, ray_session: None, tmp_path: Path
) -> None:
    config = {"horizon_length": 1, "rollout_fragment_length": 5}
    tasks = [StudyTask(TWO_MODES, str(two_modes))]
    study = Study("s", tasks, [Method("FMQ")], seeds=(0, 1), config=CONFIG | config)
    trials = [trial for trial in plan_trials(study) if trial.phase == "offline"]
    found = calibrate(study, trials, tmp_path, max_concurrent=1)
    assert list(found) == [cost_key(trials[0])] == [cost_key(trials[1])]
    assert 0.0 < found[cost_key(trials[0])].update < 1.0
    gone = dataclasses.replace(study, tasks=[StudyTask(TWO_MODES, str(tmp_path / "gone.npz"))])
    with pytest.raises(ValueError, match=r"calibration of trial offline-\S+ failed: .*gone\.npz"):
        calibrate(gone, plan_trials(gone)[:1], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_units_are_those_that_were_done(monkeypatch: pytest.MonkeyPatch) -> None:
    timed = iter([({"n": 30}, 9.0), ({"n": 70}, 2.0), ({"n": 130}, 4.0)])
    monkeypatch.setattr(calibration, "_timed", lambda iterate: next(timed))
    assert calibration._seconds_a_unit(lambda: None, "n") == pytest.approx((6.0, 6.0 / 100))


def test_interrupted_calibration(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Interrupted:
        def __init__(self, *_: Any, **__: Any) -> None: ...

        def fit(self) -> list[tune.Result]:
            return [tune.Result(metrics={"trial_id": "s_0"}, checkpoint=None, error=None, path="")]

    monkeypatch.setattr(tune, "Tuner", Interrupted)
    with pytest.raises(ValueError, match="the calibration was interrupted: give the command"):
        calibrate(Study("s", [], [], ()), trials_of(), tmp_path)


@pytest.mark.parametrize("strategy", ["PACK", "STRICT_PACK"])
def test_trials_are_placed_as_rllib_is_told(strategy: str) -> None:
    trial = trials_of({"num_env_runners": 2, "placement_strategy": strategy})[-1]
    request = trial_resources(Study("s", [], [], (), cpus_per_trial=3), trial)
    assert request.strategy == strategy
    assert [bundle["CPU"] for bundle in request.bundles[:3]] == [3, 1, 1]


def test_short_runs_are_short_whatever_the_trial() -> None:
    many = {"num_envs_per_env_runner": 64, "rollout_fragment_length": 100, "utd_ratio": 0.25}
    online = next(t for t in trials_of(many) if t.phase == "online")
    config = short_config(online)
    steps = config.learning_starts // ITERATIONS
    assert steps == 640  # ten of each environment
    assert config.updates_per_iteration == 160
    assert config.online_env_steps == 2 * config.learning_starts
    offline = short_config(trials_of()[0])
    assert (offline.offline_updates, offline.online_env_steps) == (ITERATIONS * 50, 0)
