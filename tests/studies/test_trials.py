"""What a study is made of, and what shares an offline phase."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from rllib_fmq.studies import Method, Setting, Study, StudyTask, load_study
from rllib_fmq.studies.trials import Trial, choose_trials, full_config, plan_trials

TASK = "pointmaze-medium-navigate-singletask-task{}-v0"
SMALL = {"offline_updates": 10, "online_env_steps": 20, "actor_hidden": [8], "critic_hidden": [8]}


def study(**changes: Any) -> Study:
    base = Study(
        name="small",
        tasks=[StudyTask(TASK.format(1)), StudyTask(TASK.format(2), seeds=(7,))],
        methods=[Method("FMQ"), Method("MVP"), Method("QC")],
        seeds=(0, 1),
        config=SMALL,
    )
    return dataclasses.replace(base, **changes)


def named(trials: list[Trial], phase: str) -> list[tuple[str, str, str, int]]:
    short = {TASK.format(n): str(n) for n in range(1, 6)}
    return [(short[t.task], t.method, t.setting, t.seed) for t in trials if t.phase == phase]


def test_methods_share_the_offline_phase_of_a_task_and_seed() -> None:
    trials = plan_trials(study())
    assert named(trials, "offline") == [
        ("1", "FMQ/MVP", "default", 0),
        ("1", "FMQ/MVP", "default", 1),
        ("1", "QC", "default", 0),
        ("1", "QC", "default", 1),
        ("2", "FMQ/MVP", "default", 7),
        ("2", "QC", "default", 7),
    ]
    assert len(named(trials, "online")) == 9
    by_id = {trial.id: trial for trial in trials}
    assert len(by_id) == len(trials)
    for trial in trials:
        if trial.phase == "online":
            parent = by_id[trial.parent]
            assert trial.method in parent.method.split("/")
            assert (parent.task, parent.seed) == (trial.task, trial.seed)
            assert trials.index(parent) < trials.index(trial)


@pytest.mark.parametrize(
    ("config", "shared"),
    [
        ({"eta": 0.3}, True),
        ({"beta": 0.0}, True),
        ({"parameter_check_interval": 0}, True),
        ({"online_diagonal_weight": 1.0}, True),
        ({"collection_selector": "sample"}, True),
        ({"num_candidates": 4, "target_num_candidates": 32}, True),
        ({"beam_width": 16, "euler_steps": 3}, True),
        ({"num_candidates": 4}, False),
        ({"target_selector": "sample"}, False),
        ({"target_selector": {"kind": "qgbs"}}, False),
        ({"lambda_sd": 0.3}, False),
        ({"distillation": "lsd"}, False),
        ({"lr": 1e-3}, False),
        ({"gamma": 0.9}, False),
        ({"train_batch_size_per_learner": 64}, False),
        ({"offline_updates": 11}, False),
        ({"critic_hidden": [16]}, False),
        ({"target_aggregation": "mean"}, False),
        ({"dataset": "other.npz"}, False),
    ],
)
def test_settings_share_it_where_only_the_online_phase_differs(
    config: dict[str, Any], shared: bool
) -> None:
    plan = plan_trials(
        study(
            tasks=[StudyTask(TASK.format(1))],
            methods=[Method("FMQ")],
            seeds=(0,),
            settings=[Setting("other", config)],
        )
    )
    online = [trial for trial in plan if trial.phase == "online"]
    assert len({trial.id for trial in online}) == 2
    assert (online[0].parent == online[1].parent) is shared


def initial_checkpoint(folder: Path) -> str:
    (folder / "learner_group").mkdir()
    (folder / "algorithm_state.pkl").touch()
    return str(folder)


def test_parent_and_child_do_the_phases_of_the_whole(tmp_path: Path) -> None:
    parent, child = plan_trials(
        study(tasks=[StudyTask(TASK.format(1))], methods=[Method("MVP")], seeds=(3,))
    )
    offline, online = parent.config(), child.config(initial_checkpoint(tmp_path))
    assert (offline.offline_updates, offline.online_env_steps) == (10, 0)
    assert (online.offline_updates, online.online_env_steps) == (0, 20)
    assert online.initial_checkpoint == str(tmp_path)
    assert offline.seed == online.seed == 3
    assert offline.actor_hidden == [8]


def test_later_layers_of_settings_go_before_earlier_ones() -> None:
    plan = plan_trials(
        study(
            tasks=[StudyTask(TASK.format(1), config={"eta": 0.2, "beta": 0.2, "lr": 0.2})],
            methods=[Method("FMQ", config={"beta": 0.3, "lr": 0.3})],
            seeds=(0,),
            config=SMALL | {"eta": 0.1, "beta": 0.1, "lr": 0.1, "gamma": 0.1},
            settings=[Setting("s", {"lr": 0.4})],
        )
    )
    config = next(t for t in plan if t.setting == "s" and t.phase == "offline").config()
    assert (config.gamma, config.eta, config.beta, config.lr) == (0.1, 0.2, 0.3, 0.4)


def test_final_selectors() -> None:
    first, second = (TASK.format(n) for n in (1, 2))
    plan = plan_trials(
        study(
            tasks=[StudyTask(first), StudyTask(second, final_selectors=("qgbs",))],
            methods=[
                Method("FMQ", final_selectors=("qgbs", {"kind": "qgbs", "beam_width": 16})),
                Method("QC"),
            ],
            seeds=(0,),
            config=SMALL | {"num_candidates": 4},
            settings=[Setting("own only", {"eta": 2.0}, methods=("FMQ",), final_selectors=())],
        )
    )
    assert [len(t.selectors) for t in plan if t.setting == "own only"] == [1, 1]
    kinds = {
        (t.task, t.method, t.phase): [(s["kind"], s["beam_width"]) for s in t.selectors]
        for t in plan
        if t.setting == "default"
    }
    assert kinds[first, "FMQ", "online"] == [("best_of_n", 4), ("qgbs", 4), ("qgbs", 16)]
    assert kinds[second, "FMQ", "online"] == [("best_of_n", 4), ("qgbs", 4)]
    assert kinds[first, "QC", "online"] == [("euler", 4)]
    assert kinds[first, "FMQ", "offline"] == [("best_of_n", 4)]
    assert plan[0].selectors[0]["num_candidates"] == 4


def test_settings_are_run_where_they_say() -> None:
    only = Setting("s", {"eta": 2.0}, methods=("FMQ",), tasks=(TASK.format(1),), seeds=(0,))
    plan = plan_trials(study(settings=[only]))
    assert [x for x in named(plan, "online") if x[2] == "s"] == [("1", "FMQ", "s", 0)]


def test_names_do_not_depend_on_where_things_lie_or_what_else_there_is(tmp_path: Path) -> None:
    (tmp_path / "d.npz").touch()
    tasks = [StudyTask(TASK.format(1), dataset="d.npz")]
    here = plan_trials(study(tasks=tasks), tmp_path)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "d.npz").touch()
    there = plan_trials(study(tasks=tasks, methods=[Method("FMQ")]), tmp_path / "other")
    ids = {trial.id for trial in here}
    assert {trial.id for trial in there} < ids
    changed = plan_trials(study(tasks=tasks, config=SMALL | {"tau": 0.1}), tmp_path)
    assert not ids & {trial.id for trial in changed}


def test_dataset_is_looked_for_in_the_given_folder_first(tmp_path: Path) -> None:
    (tmp_path / "d.npz").touch()
    plan = plan_trials(study(tasks=[StudyTask(TASK.format(1), dataset="d.npz")]), tmp_path)
    assert plan[0].config().dataset == str(tmp_path / "d.npz")


def test_setting_may_name_another_dataset(tmp_path: Path) -> None:
    for name in ("all.npz", "half.npz"):
        (tmp_path / name).touch()
    plan = plan_trials(
        study(
            tasks=[StudyTask(TASK.format(1), "all.npz")],
            settings=[Setting("half", {"dataset": "half.npz"})],
        ),
        tmp_path,
    )
    used = {(t.setting, Path(t.config().dataset).name) for t in plan if t.phase == "offline"}
    assert used == {("default", "all.npz"), ("half", "half.npz")}


def test_full_config_is_complete_and_json() -> None:
    described = full_config(plan_trials(study())[0].config())
    json.dumps(described)
    assert described["train_batch_size_per_learner"] == 256
    assert described["algorithm"] == "FMQ"
    assert described["eta"] == 1.0
    assert described["lr"] == 3e-4
    assert described["gamma"] == 0.99
    assert described["actor_hidden"] == [8]
    assert described["seed"] == 0


def test_choosing() -> None:
    plan = plan_trials(study())
    chosen = choose_trials(plan, ["task1", "-FMQ-", "-s1-"])
    assert [(t.phase, t.seed) for t in chosen] == [("offline", 1), ("online", 1)]
    assert choose_trials(plan, []) == plan
    with pytest.raises(ValueError, match="no trial's name holds 'task1' and 'nothing'"):
        choose_trials(plan, ["task1", "nothing"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tasks": []}, "has no tasks"),
        ({"methods": []}, "has no methods"),
        ({"methods": [Method("FMQ"), Method("FMQ")]}, "names 'FMQ' twice among its methods"),
        ({"name": "a/b"}, "study name 'a/b'"),
        ({"seeds": (0, 0)}, r"seeds=\(0, 0\): expected different whole numbers"),
        ({"seeds": ()}, r"seeds=\(\): expected"),
        ({"seeds": (-1,)}, r"seeds=\(-1,\): expected"),
        ({"settings": [Setting("default", {})]}, "names 'default' twice among its settings"),
        ({"settings": [Setting("s", {}, methods=("XY",))]}, "names the method 'XY'"),
        ({"settings": [Setting("s", {}, tasks=("XY",))]}, "names the task 'XY'"),
        ({"final_episodes": 0}, "final_episodes=0"),
        ({"final_episodes": "50"}, "final_episodes='50'"),
        ({"tasks": [StudyTask("x", final_episodes=0)]}, "final_episodes=0"),
        ({"cpus_per_trial": 0}, "cpus_per_trial=0"),
        ({"scale": "huge"}, "scale='huge'"),
        ({"tasks": ["can"]}, r"'can' among its tasks: expected a StudyTask\(...\)"),
        ({"methods": ["FMQ"]}, r"'FMQ' among its methods"),
        ({"seeds": 5}, "seeds=5: expected different whole numbers"),
        ({"scheduler": "asha"}, "scheduler='asha'"),
        ({"config": {"seed": 3}}, "'seed' in a `config`: name it in .*`seeds`"),
        ({"methods": [Method("FMQ", config={"env": "x"})]}, "'env' in a `config`"),
        ({"settings": [Setting("s", {"dataset_dir": "x"})]}, "'dataset_dir' in a `config`"),
    ],
)
def test_what_cannot_be_run_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        study(**changes).check()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"etaa": 1.0}, "task1-v0, FMQ, seed 0.*'etaa'"),
        ({"eta": -1.0}, "eta=-1.0"),
        ({"actor_hidden": range}, "not JSON serializable"),
    ],
)
def test_wrong_config_is_refused_before_anything_runs(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plan_trials(study(config=SMALL | config))


def test_other_algorithms_are_refused() -> None:
    with pytest.raises(ValueError, match="'PPO': studies compare FMQ, QGBS, MVP, QC"):
        plan_trials(study(methods=[Method("PPO")]))


def test_study_files(tmp_path: Path) -> None:
    file = tmp_path / "s.py"
    with pytest.raises(ValueError, match="no such file"):
        load_study(file)
    (tmp_path / "folder").mkdir()
    with pytest.raises(ValueError, match="not a Python file"):
        (tmp_path / "s.txt").touch()
        load_study(tmp_path / "s.txt")
    for text, message in (
        ("x = 1", "defines no `study`"),
        ("study = 3", "`study` = 3"),
        ("raise KeyError('k')", "failed: KeyError"),
        ("import nothing_like_this", "failed: ModuleNotFoundError"),
    ):
        file.write_text(text)
        with pytest.raises(ValueError, match=message):
            load_study(file)
