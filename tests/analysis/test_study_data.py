"""What a study's table says when it is asked."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest

from rllib_fmq.analysis.search_scores import search_latencies, search_scores
from rllib_fmq.analysis.study_data import LABELS, StudyData, study_data
from rllib_fmq.analysis.study_searches import SearchSettings
from tests.analysis.study_frames import (
    CAN,
    CUBE,
    MAZE,
    StudyBuilder,
    best_of,
    euler,
    final_success,
    qgbs,
    small_study,
)


@pytest.fixture(scope="module")
def data() -> StudyData:
    return study_data(*small_study())


def test_names_in_the_studys_order(data: StudyData) -> None:
    assert data.tasks == [CUBE, MAZE, CAN]
    assert data.methods == ["QC", "MVP", "FMQ"]  # and no "FMQ/MVP"
    assert data.settings == ["default", "eta=0.3", "distillation=lsd", "distillation=psd"]
    assert data.scale == "reduced"
    alone = study_data(data.frame, {})
    assert alone.tasks == [CAN, CUBE, MAZE] and alone.methods == ["FMQ", "MVP", "QC"]
    assert alone.settings[0] == "default" and alone.scale == "unknown"


@pytest.mark.parametrize(
    ("task", "short"),
    [
        (CUBE, "cube-single-task2"),
        (MAZE, "pointmaze-medium-task1"),
        (CAN, "can"),
        ("can-ph", "can-ph"),
        ("cube-double-play-singletask-task3-v0", "cube-dbl-t3"),
        ("cube-single-noisy-singletask-task1-v0", "cube-single-noisy-task1"),
        ("scene-play-singletask-v0", "scene"),
        ("Pendulum-v1", "Pendulum"),
    ],
)
def test_short_names(data: StudyData, task: str, short: str) -> None:
    assert data.short_name(task) == short


def test_final_scores_by_label(data: StudyData) -> None:
    scores = data.final_scores()
    assert list(scores) == list(LABELS)
    for i, task in enumerate((CUBE, MAZE, CAN)):
        for method in ("QC", "MVP", "FMQ"):
            expected = {s: pytest.approx(final_success(method, i, s)) for s in range(3)}
            assert scores[method][task] == expected
        assert scores["FMQ + QGBS"][task][2] == pytest.approx(0.7 - 0.1 * i + 0.04 + 0.05)
    assert data.final_scores("eta=0.3")["FMQ"][CUBE][1] == pytest.approx(0.72 - 0.1)
    assert data.final_scores("no such setting") == {}


def test_offline_scores_are_the_shared_parents(data: StudyData) -> None:
    offline = data.offline_scores()
    assert list(offline) == ["QC", "MVP", "FMQ"]
    assert offline["FMQ"] == offline["MVP"]
    assert offline["FMQ"][CAN] == {s: pytest.approx(0.2 + 0.01 * s) for s in range(3)}
    # eta acts online only: its trials start from the default's pre-training.
    assert data.offline_scores("eta=0.3") == {"FMQ": offline["FMQ"]}
    assert data.offline_runs(CUBE, "FMQ", "distillation=lsd")[0].setting == "distillation=lsd"


def test_each_methods_own_selector_of_a_shared_offline_phase() -> None:
    builder = StudyBuilder()
    finals = [best_of(32, 0.2), qgbs(0.3), best_of(64, 0.4)]
    methods = {"FMQ": best_of(32, 0.6), "QGBS": qgbs(0.7), "FMQ-64": best_of(64, 0.8)}
    parent = builder.trial(CUBE, "FMQ/FMQ-64/QGBS", 0, offline=[(1000, 0.2)], finals=finals)
    for method, own in methods.items():
        options = {"evaluated_with": own, "finals": [own], "parent": parent}
        builder.trial(CUBE, method, 0, online=[(100, 0.5)], **options)
    # The offline phase of another seed, from which nothing has started yet.
    builder.trial(CUBE, "FMQ/FMQ-64/QGBS", 1, offline=[(1000, 0.2)], finals=finals)
    data = study_data(builder.frame(), {})
    assert data.final_scores() == {
        "FMQ": {CUBE: {0: 0.6}},
        "FMQ-64": {CUBE: {0: 0.8}},
        "QGBS": {CUBE: {0: 0.7}},
    }
    assert data.offline_scores() == {
        "FMQ": {CUBE: {0: 0.2, 1: 0.2}},
        "FMQ-64": {CUBE: {0: 0.4, 1: 0.4}},
        "QGBS": {CUBE: {0: 0.3, 1: 0.3}},
    }
    others = [sentence for sentence in data.missing() if "learning curve" in sentence]
    assert others == [
        f"cube-single-task2: {method}'s learning curve was evaluated with best of 32 in the "
        f"offline phase, which it shares with others, and with {words} online."
        for method, words in (("FMQ-64", "best of 64"), ("QGBS", "QGBS K=1 {4, 4}"))
    ]


def test_a_shared_offline_phase_says_nothing_of_a_method_that_has_not_begun() -> None:
    builder = StudyBuilder()
    finals = [best_of(32, 0.2), qgbs(0.3)]
    builder.trial(CUBE, "FMQ/Mine", 0, offline=[(1000, 0.2)], finals=finals)
    # FMQ is evaluated as in the paper; of Mine nothing says which of the two is its own.
    assert study_data(builder.frame(), {}).offline_scores() == {"FMQ": {CUBE: {0: 0.2}}}


def test_a_study_without_an_online_phase() -> None:
    builder = StudyBuilder()
    for method, score in (("FMQ", 0.5), ("MVP", 0.3)):
        builder.trial(CUBE, method, 0, offline=[(1000, score)], finals=[best_of(32, score)])
    builder.trial(CUBE, "FMQ", 1, offline=[(1000, 0.5)])
    data = study_data(builder.frame(), {})
    assert data.final_phase == "offline"
    assert data.final_scores() == {"MVP": {CUBE: {0: 0.3}}, "FMQ": {CUBE: {0: 0.5}}}
    assert data.offline_scores() == {}
    assert data.curves(CUBE, "FMQ")[0]["update"].tolist() == [1000]
    assert data.missing() == [
        "cube-single-task2: offline training of FMQ has no final evaluation for seed 1; "
        "it is left out."
    ]
    # The same table while the online phases of the study have not begun.
    planned = ["offline-cube-s0-1a", "online-cube-FMQ-default-s0-2b"]
    running = study_data(builder.frame(), {"trials": planned})
    assert running.final_phase == "online" and running.final_scores() == {}
    assert running.offline_scores()["FMQ"] == {CUBE: {0: 0.5}}


def test_wall_time_of_a_trial() -> None:
    builder = StudyBuilder()
    finals = [best_of(32, 0.5), qgbs(0.6)]
    builder.trial(CUBE, "FMQ", 0, online=[(100, 0.5), (200, 0.5)], finals=finals)
    frame = builder.frame()
    (trial,) = study_data(frame, {}).trials
    # Ten minutes of training, and each final evaluation's own minute.
    assert trial.wall_seconds == 600 + 60 + 60
    (trial,) = study_data(frame[frame["kind"] == "final"], {}).trials
    assert trial.wall_seconds == 120
    (trial,) = study_data(frame.assign(wall_seconds=float("nan")), {}).trials
    assert math.isnan(trial.wall_seconds)


def test_rows_of_equal_updates_are_in_the_order_of_their_steps() -> None:
    builder = StudyBuilder()
    steps = [(300, 0.3), (100, 0.1), (200, 0.2)]
    builder.trial(CUBE, "FMQ", 0, offline=[(1000, 0.0)], online=steps, finals=[best_of(32, 0.3)])
    frame = builder.frame()
    frame["update"] = 1000  # learning has not started
    curve = study_data(frame, {}).curves(CUBE, "FMQ")[0]
    assert curve["success"].tolist() == [0.0, 0.1, 0.2, 0.3]


def test_curves_begin_with_the_parent(data: StudyData) -> None:
    curve = data.curves(CUBE, "FMQ")[1]
    assert curve["phase"].tolist() == ["offline"] * 2 + ["online"] * 4
    assert curve["update"].tolist() == [500, 1000, 1250, 1500, 1750, 2000]
    assert curve["env_step"].tolist() == [0, 0, 250, 500, 750, 1000]
    assert curve["success"].tolist() == pytest.approx([0.1, 0.2, 0.46, 0.72, 0.72, 0.72])
    assert data.curves(CUBE, "QC")[0]["update"].tolist()[:2] == [500, 1000]
    assert data.curves(CUBE, "nobody") == {}


def test_training_rows_of_the_online_phase(data: StudyData) -> None:
    rows = data.training(CUBE, "FMQ")[0]
    assert rows["env_step"].tolist() == [250, 500, 750, 1000]
    assert rows["displacement"].tolist() == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert data.training(CUBE, "FMQ", "eta=0.3")[0]["eta_eff"].tolist() == [0.24] * 4


def test_searches_by_k_b_m(data: StudyData) -> None:
    scores = search_scores(data)
    assert list(scores) == [
        SearchSettings(0, 1, 32, 32.0, "best_of_n"),
        SearchSettings(1, 2, 8, 24.0),
        SearchSettings(1, 4, 4, 20.0),
    ]
    assert [s.label for s in scores] == ["best of 32", "K=1 {2, 8}", "K=1 {4, 4}"]
    assert scores[SearchSettings(1, 2, 8, 24.0)][CUBE][0] == pytest.approx(0.71)
    assert list(search_latencies(data).values()) == [1.0, 0.75, 0.625]


def test_qgbs_without_iterations_is_no_best_of_n() -> None:
    # It takes a step to the critic, so that its NFE alone are those of best of 32.
    scores = search_scores(_one([best_of(32, 0.5), qgbs(0.9, 32, 0, 1)]))
    assert {search.label: by_task[CUBE][0] for search, by_task in scores.items()} == {
        "best of 32": 0.5,
        "K=0 {1, 32}": 0.9,
    }


def _one(finals: list[Any], method: str = "FMQ", **options: Any) -> StudyData:
    builder = StudyBuilder()
    builder.trial(CUBE, method, 0, online=[(100, 0.5)], finals=finals, **options)
    return study_data(builder.frame(), {})


def test_latencies_are_medians_over_runs() -> None:
    frame = study_data(*small_study()).frame
    slow = (frame["kind"] == "final") & (frame["seed"] == 2) & (frame["task"] == CAN)
    frame.loc[slow, "latency_ms"] = 1000.0  # the machine was busy
    assert list(search_latencies(study_data(frame, {})).values()) == [1.0, 0.75, 0.625]


def test_the_methods_own_selector_among_several() -> None:
    # 32 candidates are those of the evaluations during training.
    chosen = _one([best_of(64, 0.6), best_of(32, 0.5), best_of(1, 0.1), ("sample", {}, 0.2)])
    assert chosen.final_scores() == {"FMQ": {CUBE: {0: 0.5}}}
    # None is: the one with the most evaluations.
    assert _one([best_of(8, 0.3), best_of(16, 0.4)]).final_scores()["FMQ"][CUBE][0] == 0.4
    assert _one([best_of(32, 0.5), euler(0.7)], "QC").final_scores() == {"QC": {CUBE: {0: 0.7}}}
    # What the evaluations during training used goes before the paper's selector of that name.
    euler_fmq = _one([best_of(32, 0.5), euler(0.7)], "FMQ", evaluated_with=euler())
    assert euler_fmq.final_scores()["FMQ"] == {CUBE: {0: 0.7}}
    sampled = ("sample", {}, 0.2)
    assert _one([sampled], "FMQ", evaluated_with=sampled).final_scores() == {
        "FMQ": {CUBE: {0: 0.2}}
    }
    lost = _one([best_of(32, 0.5)], "FMQ", evaluated_with=sampled)
    assert lost.final_scores() == {} and lost.missing() == [
        "cube-single-task2: FMQ has no final results with the selector of its evaluations during "
        "training."
    ]
    # Without such evaluations it is the paper's.
    frame = _one([best_of(32, 0.5), euler(0.7)], "QC").frame
    unwatched = study_data(frame[frame["kind"] == "final"], {})
    assert unwatched.final_scores() == {"QC": {CUBE: {0: 0.7}}}
    # A method that the paper does not have: what its evaluations during training used.
    assert _one([qgbs(0.9), best_of(32, 0.5)], "Mine").final_scores() == {
        "Mine": {CUBE: {0: 0.5}},
        "Mine + QGBS": {CUBE: {0: 0.9}},
    }


def test_the_default_search_among_several() -> None:
    other = ("qgbs", {"beam_width": 4, "search_iters": 1, "branches": 4, "eta": 1.0}, 0.1)
    finals = [best_of(32, 0.5), qgbs(0.6, 8, 1, 2), other, qgbs(0.7), qgbs(0.8, 4, 2, 4)]
    assert _one(finals).final_scores()["FMQ + QGBS"] == {CUBE: {0: 0.7}}
    labels = {
        search.label: by_task[CUBE][0] for search, by_task in search_scores(_one(finals)).items()
    }
    assert (labels["K=1 {4, 4}"], labels["K=1 {4, 4}, eta 1"]) == (0.7, 0.1)
    assert "FMQ + QGBS" not in _one([best_of(32, 0.5), qgbs(0.6, 8, 1, 2)]).final_scores()
    # Numbers that the table does not name are the defaults.
    assert _one([("qgbs", {}, 0.4)]).final_scores() == {"FMQ + QGBS": {CUBE: {0: 0.4}}}


def test_a_method_that_is_evaluated_with_qgbs_is_one_method() -> None:
    data = _one([qgbs(0.9)], "QGBS", evaluated_with=qgbs())
    assert data.final_scores() == {"QGBS": {CUBE: {0: 0.9}}}


def test_of_a_resumed_trials_repeated_rows_the_last_counts() -> None:
    builder = StudyBuilder()
    points = [(100, 0.1), (200, 0.2), (200, 0.5), (300, 0.6)]
    other = ("euler", best_of(32, 0)[1], 0.1)  # which has the same numbers as best_of(32)
    finals = [best_of(32, 0.3), best_of(32, 0.6), qgbs(0.7), other]
    builder.trial(CUBE, "FMQ", 0, online=points, finals=finals)
    data = study_data(builder.frame(), {})
    assert data.curves(CUBE, "FMQ")[0]["success"].tolist() == [0.1, 0.5, 0.6]
    assert data.final_scores()["FMQ"][CUBE] == {0: 0.6}
    # Evaluations that differ in their selector alone are not repetitions.
    assert len(data.frame) == 3 + 3


def test_csv_says_the_same(data: StudyData) -> None:
    # Empty strings come back from CSV as missing.
    text = data.frame.sample(frac=1.0, random_state=0).sort_values("time", kind="stable").to_csv()
    again = study_data(pd.read_csv(io.StringIO(text)), data.info)
    assert again.final_scores().keys() == data.final_scores().keys()
    for label, tasks in data.final_scores().items():
        assert again.final_scores()[label] == tasks
    assert again.curves(MAZE, "MVP")[2].equals(data.curves(MAZE, "MVP")[2])


def test_a_column_that_is_empty_in_csv(data: StudyData) -> None:
    frame = data.frame.assign(git_revision=float("nan"), parent=float("nan"))
    again = study_data(frame, {})
    assert set(again.frame["git_revision"]) == {""} and set(again.frame["parent"]) == {""}


def _without_column(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.drop(columns="selector_config")


def _without_rows(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.iloc[:0]


def _with_words(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(success="high")


def _without_seed(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(seed=float("nan"))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_without_column, r"no column 'selector_config'.*rllib study run"),
        (_without_rows, "no rows"),
        (_with_words, "'success' holds no numbers"),
        (_without_seed, "without a 'seed'"),
    ],
)
def test_refuses_another_table(
    data: StudyData, damage: Callable[[pd.DataFrame], pd.DataFrame], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        study_data(damage(data.frame), {})


def test_refuses_selectors_that_are_no_json() -> None:
    frame = _one([best_of(32, 0.5)]).frame
    for text in ("{", json.dumps([1])):
        with pytest.raises(ValueError, match="selector_config"):
            search_scores(study_data(frame.assign(selector_config=text), {}))
