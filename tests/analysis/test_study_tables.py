"""Cells of a report's tables, by hand."""

from __future__ import annotations

import math

import pytest

from rllib_fmq.analysis.aggregates import Estimate
from rllib_fmq.analysis.main_table import main_table
from rllib_fmq.analysis.study_ablation_tables import (
    distillation_table,
    qgbs_table,
    qgbs_task_table,
    settings_table,
)
from rllib_fmq.analysis.study_cost_tables import (
    decision_cost_table,
    training_cost_table,
    trials_table,
)
from rllib_fmq.analysis.study_data import StudyData, study_data
from rllib_fmq.analysis.study_tables import (
    improvement_table,
    offline_online_table,
    speedup_table,
)
from rllib_fmq.analysis.table_catalogue import TABLES
from rllib_fmq.analysis.table_cells import best_two, interval, mean_and_std, number
from rllib_fmq.analysis.table_format import Table, to_html, to_latex, to_markdown
from rllib_fmq.tasks.catalog import paper_tasks
from tests.analysis.study_frames import (
    CAN,
    CUBE,
    StudyBuilder,
    best_of,
    configs,
    euler,
    qgbs,
    small_study,
)


@pytest.fixture(scope="module")
def data() -> StudyData:
    return study_data(*small_study())


def _row(table: Table | None, *start: str) -> dict[str, str]:
    assert table is not None
    (row,) = (row for row in table.rows if row[: len(start)] == start)
    return dict(zip(table.columns, row, strict=True))


def _notes(table: Table | None) -> str:
    assert table is not None
    return " ".join(table.notes)


def test_main_table(data: StudyData) -> None:
    table = main_table(data, {})
    assert table is not None
    assert table.columns == ("Task", "QC", "MVP", "MVP + QGBS", "FMQ", "FMQ + QGBS")
    # 0.70, 0.72, 0.74.
    assert _row(table, "cube-single-task2")["FMQ"] == "0.72 ± 0.02"
    assert _row(table, "can")["MVP + QGBS"] == "0.27 ± 0.02"
    # Nine runs: two fall away on each side of 0.62.
    last = _row(table, "IQM [95% CI]")
    assert last["FMQ"].startswith("0.62 [0.6") and last["FMQ + QGBS"].startswith("0.67 [")
    assert table.bold == {(r, 5) for r in range(4)} and table.summary_rows == 1
    assert table.underlined == {(r, 4) for r in range(4)}
    assert "ddof = 1" in _notes(table) and "Seeds a task: 3." in _notes(table)
    assert "Reduced scale: A thousand updates instead of a million." in _notes(table)


def test_the_papers_numbers_at_its_scale_only(data: StudyData) -> None:
    known = configs(data.frame)
    assert not any("paper" in column for column in main_table(data, known).columns)
    unsaid = main_table(study_data(data.frame, dict(data.info) | {"scale": None}), known)
    assert "(paper)" not in " ".join(unsaid.columns)
    assert "does not say" in _notes(unsaid)
    table = main_table(study_data(data.frame, dict(data.info) | {"scale": "paper"}), known)
    assert table is not None and table.columns[:3] == ("Task", "QC", "QC (paper)")
    can = _row(table, "can")
    assert can["FMQ"] == "0.52 ± 0.02" and can["FMQ (paper)"] == "0.96 ± 0.04"
    assert _row(table, "cube-single-task2")["FMQ (paper)"] == "–"  # noqa: RUF001
    assert _row(table, "IQM [95% CI]")["QC (paper)"] == "–"  # noqa: RUF001
    # Our best is marked, not the paper's.
    assert table.columns[9] == "FMQ + QGBS" and table.bold == {(r, 9) for r in range(4)}
    assert "Reduced" not in _notes(table)


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("FMQ/MVP", {"offline_updates": 8000}, "offline_updates 8,000 instead of 1,000,000"),
        ("MVP", {"online_env_steps": 8000}, "online_env_steps 8,000 instead of 1,000,000"),
        ("FMQ", {"actor_hidden": [256, 256]}, "actor_hidden [256, 256] instead of [512, 512,"),
        ("QC", {"critic_hidden": None}, "critic_hidden not recorded instead of"),
        ("QC", {"num_candidates": 4}, "num_candidates 4 instead of 32"),
        ("MVP", {"dataset_generated": True}, "generated datasets (can, cube-sin"),
    ],
)
def test_no_papers_numbers_beside_another_scale(
    data: StudyData, name: str, change: dict[str, object], words: str
) -> None:
    said = study_data(data.frame, dict(data.info) | {"scale": "paper"})
    known = configs(data.frame)
    known[f"{name}-default"] = known[f"{name}-default"] | change
    table = main_table(said, known)
    assert table is not None and "(paper)" not in " ".join(table.columns)
    assert words in _notes(table)
    # What differs in another setting is no matter, nor is a budget of the other phase.
    harmless = configs(data.frame)
    harmless["FMQ-eta=0.3"] = harmless["FMQ-eta=0.3"] | change
    harmless["FMQ-default"] = harmless["FMQ-default"] | {"offline_updates": 0}
    harmless["QC-default"] = harmless["QC-default"] | {"dataset_generated": None}
    assert "FMQ (paper)" in main_table(said, harmless).columns


def test_a_scale_that_no_config_shows(data: StudyData) -> None:
    table = main_table(study_data(data.frame, {"scale": "paper"}), {})
    assert "configs are missing" in _notes(table)
    assert table is not None and "(paper)" not in " ".join(table.columns)


def test_the_papers_iqm_beside_all_of_its_tasks() -> None:
    frame, info = small_study(tasks=[task.name for task in paper_tasks()], settings={}, search=())
    # Twelve tasks' finals, each 0.1 lower than the one before, would lie below 0.
    frame["success"] = frame["success"].clip(0.0, 1.0)
    table = main_table(study_data(frame, info | {"scale": "paper"}), configs(frame))
    row = _row(table, "IQM [95% CI]")
    assert row["FMQ (paper)"] == "0.91 [0.89, 0.93]"
    assert row["QC (paper)"] == "0.86 [0.84, 0.87]"
    assert row["MVP + QGBS (paper)"] == "0.81 [0.78, 0.83]"


def test_qgbs_with_other_numbers_than_the_papers_says_so() -> None:
    builder = StudyBuilder()
    finals = [best_of(32, 0.5), qgbs(0.9, eta=1.0)]
    builder.trial(CUBE, "FMQ", 0, online=[(100, 0.5)], finals=finals)
    data = study_data(builder.frame(), {})
    assert "FMQ + QGBS: QGBS with eta 1 (the paper's: eta 0.3, snr 1.5, completion jump)." in (
        _notes(main_table(data, {}))
    )
    table = qgbs_table(data)
    assert table is not None and [row[0] for row in table.rows] == ["best of N", "QGBS, eta 1"]


def test_an_iqm_of_fewer_tasks_says_so_and_is_never_the_best() -> None:
    builder = StudyBuilder()
    for task, method, score in ((CUBE, "FMQ", 0.2), (CAN, "FMQ", 0.4), (CAN, "QC", 0.9)):
        finals = [euler(score)] if method == "QC" else [best_of(32, score)]
        builder.trial(task, method, 0, online=[(100, score)], finals=finals)
    table = main_table(study_data(builder.frame(), {}), {})
    assert _row(table, "cube-single-task2") == {
        "Task": "cube-single-task2",
        "QC": "–",  # noqa: RUF001
        "FMQ": "0.20",
    }
    assert _row(table, "IQM [95% CI]")["QC"] == "0.90 [0.90, 0.90] (1 of 2 tasks)"
    assert table is not None and table.bold == {(0, 1)} and table.underlined == {(0, 2)}
    assert "With one seed" in _notes(table)


def test_offline_and_online(data: StudyData) -> None:
    table = offline_online_table(data)
    assert table is not None and table.text_columns == 2 and table.summary_rows == 3
    assert [row[:2] for row in table.rows[:4]] == [
        ("cube-single-task2", "QC"),
        ("cube-single-task2", "MVP"),
        ("cube-single-task2", "FMQ"),
        ("pointmaze-medium-task1", "QC"),
    ]
    # Offline 0.20, 0.21, 0.22; online 0.70, 0.72, 0.74.
    assert _row(table, "cube-single-task2", "FMQ") == {
        "Task": "cube-single-task2",
        "Method": "FMQ",
        "Offline": "0.21 ± 0.01",
        "Online": "0.72 ± 0.02",
        "Gain [95% CI]": "+0.51 [+0.50, +0.52]",
    }
    assert "not shown" not in _notes(table)
    alone = data.frame[(data.frame["method"] != "QC") | (data.frame["phase"] == "online")]
    assert "not shown: QC" in _notes(offline_online_table(study_data(alone, data.info)))


def test_probability_of_improvement(data: StudyData) -> None:
    table = improvement_table(data)
    assert _row(table, "FMQ", "MVP")["P(X > Y) [95% CI]"] == "1.00 [1.00, 1.00]"
    assert _row(table, "MVP", "QC")["X - Y [95% CI]"] == "-0.10 [-0.10, -0.10]"
    row = _row(table, "MVP", "MVP, offline policy")
    # can: 0.20, 0.22, 0.24 against 0.20, 0.21, 0.22 wins 1/2 + 2 1/2 + 3 of 9; elsewhere always.
    assert row["P(X > Y) [95% CI]"].startswith(f"{(2 + 6 / 9) / 3:.2f} [")
    assert row["Tasks"] == "3" and row["Runs"] == "18"


def test_speed_ups(data: StudyData) -> None:
    table = speedup_table(data)
    assert table is not None and table.columns[1] == "online 75%"
    assert table.columns[5] == "full 75%" and "full: updates of both phases." in table.caption
    row = _row(table, "cube-single-task2")
    # Seed 0: MVP's 0.4 at step 1000; FMQ has 0.45 at step 250.
    assert row["online 100%"] == "4.00" and row["full 100%"] == "1.60"  # 2000 / 1250
    assert row["online 75%"] == "2.67"
    assert _row(table, "can")["online 85%"] == "1.00"
    assert _row(table, "Average")["online 100%"] == "3.67"  # 4, 4, 3
    assert table.summary_rows == 4 and "Left out" not in _notes(table)


def test_search_settings(data: StudyData) -> None:
    table = qgbs_table(data)
    assert table is not None
    assert [row[:5] for row in table.rows] == [
        ("best of N", "0", "{1, 32}", "32", "1.00"),
        ("QGBS", "1", "{2, 8}", "24", "0.75"),
        ("QGBS", "1", "{4, 4}", "20", "0.62"),
    ]
    assert table.rows[1][5].startswith("0.63 [") and table.rows[1][6:] == ("3", "9")
    assert table.bold == {(2, 5)}
    by_task = qgbs_task_table(data)
    assert _row(by_task, "cube-single-task2")["K=1 {2, 8}"] == "0.73 ± 0.02"
    assert by_task is not None and by_task.bold == {(r, 3) for r in range(4)}


def test_searches_are_compared_on_equal_runs() -> None:
    builder = StudyBuilder()
    # The second seed has no QGBS: best of 32 is not better for its 1.0.
    for seed, finals in enumerate(([best_of(32, 0.5), qgbs(0.9)], [best_of(32, 1.0)])):
        builder.trial(CUBE, "FMQ", seed, online=[(100, 0.5)], finals=finals)
    data = study_data(builder.frame(), {})
    said = (
        "Only runs (task and seed) that all have are counted, 1 each; further ones: best of 32: 1."
    )
    for table, cells in (
        (qgbs_table(data), [row[5] for row in qgbs_table(data).rows]),
        (qgbs_task_table(data), list(qgbs_task_table(data).rows[-1][1:])),
    ):
        assert cells == ["0.50 [0.50, 0.50]", "0.90 [0.90, 0.90]"]
        assert said in _notes(table)


def test_distillation_losses(data: StudyData) -> None:
    table = distillation_table(data)
    assert table is not None and table.columns == ("Task", "ESD", "PSD", "LSD")
    assert _row(table, "can") == {
        "Task": "can",
        "ESD": "0.52 ± 0.02",
        "PSD": "0.48 ± 0.02",
        "LSD": "0.54 ± 0.02",
    }
    assert table.bold == {(r, 3) for r in range(4)}


def test_losses_are_compared_on_the_runs_that_were_ablated() -> None:
    builder = StudyBuilder()
    for task, seed, setting, score in (
        (CUBE, 0, "default", 0.5),
        (CUBE, 1, "default", 0.8),
        (CAN, 0, "default", 0.9),
        (CUBE, 0, "distillation=psd", 0.4),
    ):
        builder.trial(
            task, "FMQ", seed, setting=setting, online=[(1, score)], finals=[best_of(32, score)]
        )
    table = distillation_table(study_data(builder.frame(), {}))
    assert table is not None and [row[0] for row in table.rows[:-1]] == ["cube-single-task2"]
    assert table.rows[-1][1:] == ("0.50 [0.50, 0.50]", "0.40 [0.40, 0.40]")


def test_settings_against_the_default_on_the_same_runs() -> None:
    builder = StudyBuilder()
    for setting, seeds in (("default", (0, 1, 2)), ("eta=0.3", (1, 2, 9))):
        for seed in seeds:
            score = 0.5 + 0.1 * seed - (0.2 if setting != "default" else 0.0)
            builder.trial(
                CUBE, "FMQ", seed, setting=setting, online=[(1, 0)], finals=[best_of(32, score)]
            )
    row = _row(settings_table(study_data(builder.frame(), {})), "FMQ", "eta=0.3")
    # Seeds 1 and 2: 0.6, 0.7 against 0.4, 0.5. Seed 9 has no default.
    assert row["Default on the same runs"] == "0.65 [0.60, 0.70]"
    assert row["Difference [95% CI]"] == "-0.20 [-0.20, -0.20]"
    assert row["Tasks"] == "1" and row["Runs"] == "3"


def test_costs(data: StudyData) -> None:
    decision = decision_cost_table(data)
    assert _row(decision, "QC", "euler")["NFE"] == "320"
    assert _row(decision, "FMQ + QGBS", "qgbs")["Latency (ms)"] == "0.62"
    training = training_cost_table(data)
    # 3 tasks x 3 seeds, 10 minutes and 1 for each final evaluation: 3 by default, 1 in 3 settings.
    row = _row(training, "FMQ", "online")
    assert row["Trials"] == "36" and row["Hours in all"] == f"{9 * (13 + 3 * 11) / 60:.1f}"
    assert _row(training, "FMQ/MVP", "offline")["Minutes a trial"] == "11.0"


def test_what_ran(data: StudyData) -> None:
    table = trials_table(data)
    row = _row(table, "cube-single-task2", "QC", "default", "online")
    assert row["Seeds"] == "0, 1, 2" and row["Final episodes"] == "50"
    assert row["Steps"] == "1,000" and row["Minutes (median)"] == "11.0"
    assert row["Revision"] == "abc1234"
    edited = study_data(data.frame.assign(git_revision="0123456789ab+changes"), data.info)
    assert _row(trials_table(edited), "can", "MVP")["Revision"] == "0123456789+changes"
    shared = _row(table, "can", "FMQ/MVP", "default")
    assert shared["Steps"] == "–" and shared["Phases"] == "offline"  # noqa: RUF001
    assert table is not None and table.notes == ()


def test_trials_that_are_not_finished() -> None:
    builder = StudyBuilder()
    builder.trial(CUBE, "FMQ", 0, online=[(100, 0.5)])
    data = study_data(builder.frame(), {})
    assert _notes(trials_table(data)) == "1 trial is not finished."
    built = {kind.key: kind.build(data, {}) for kind in TABLES}
    assert [key for key, table in built.items() if table is not None] == ["trials"]


def test_tasks_with_more_seeds_weigh_more_and_the_notes_say_so() -> None:
    frame, info = small_study(settings={}, search=())
    frame = frame[(frame["task"] != CAN) | (frame["seed"] != 2)]
    assert "Seeds a task: 2 to 3." in _notes(main_table(study_data(frame, info), {}))
    assert "A task with more seeds than others weighs more" in (
        _notes(main_table(study_data(frame, info), {}))
    )


def test_a_study_with_names_of_its_own_has_scores() -> None:
    builder = StudyBuilder()
    for method, score in (("Mine", 0.5), ("Other", 0.7)):
        for seed in (0, 1):
            builder.trial(CUBE, method, seed, online=[(9, score)], finals=[best_of(32, score)])
    data = study_data(builder.frame(), {})
    assert _row(main_table(data, {}), "cube-single-task2") == {
        "Task": "cube-single-task2",
        "Mine": "0.50 ± 0.00",
        "Other": "0.70 ± 0.00",
    }
    absent = {kind.key: kind.needs for kind in TABLES if kind.build(data, {}) is None}
    assert 'named "FMQ" and "MVP"' in absent["speedup"] and 'named "FMQ"' in absent["qgbs"]
    assert '"FMQ", "MVP", "QC"' in absent["improvement"]
    assert "main" not in absent and "decision_costs" not in absent


def test_every_table_can_be_written(data: StudyData) -> None:
    assert len({kind.key for kind in TABLES}) == len(TABLES) == 11
    for kind in TABLES:
        table = kind.build(data, {})
        assert table is not None and table.title == kind.title and kind.needs
        for write in (to_markdown, to_latex, to_html):
            assert write(table).count("cube") == write(table).count("cube-single-task2")
        assert table == kind.build(data, {})  # equal draws, equal intervals


def test_cells() -> None:
    assert number(math.nan) == "–"  # noqa: RUF001
    assert number(-0.001, signed=True) == "+0.00" and number(0.126, signed=True) == "+0.13"
    assert interval(None) == "–"  # noqa: RUF001
    assert interval(Estimate(0.5, -0.001, 1.0, 3)) == "0.50 [0.00, 1.00]"
    assert mean_and_std([]) == "–"  # noqa: RUF001
    assert mean_and_std([0.1, 0.2, 0.3]) == "0.20 ± 0.10"


def test_best_two_as_the_paper_marks_them() -> None:
    # Equal to two decimals is equal; ties share a mark.
    values = {(0, 1): 0.981, (0, 2): 0.979, (0, 3): 0.5, (0, 4): math.nan, (0, 5): 0.5}
    assert best_two(values) == ({(0, 1), (0, 2)}, {(0, 3), (0, 5)})
    assert best_two({(0, 1): 1.0, (0, 2): 1.0}) == ({(0, 1), (0, 2)}, set())
    assert best_two({(0, 1): 1.0}) == (set(), set())
    # Nothing that never succeeds is best or second best.
    assert best_two({(0, 1): 0.0, (0, 2): 0.001}) == (set(), set())
    assert best_two({(0, 1): 0.0, (0, 2): 0.5}) == ({(0, 2)}, set())
