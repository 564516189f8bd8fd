"""Cells of a report's tables, by hand."""

from __future__ import annotations

import math

import pytest

from rllib_fmq.analysis.aggregates import Estimate
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
    TABLES,
    improvement_table,
    main_table,
    offline_online_table,
    speedup_table,
)
from rllib_fmq.analysis.table_cells import best_two, interval, mean_and_std, number
from rllib_fmq.analysis.table_format import Table, to_html, to_latex, to_markdown
from tests.analysis.study_frames import (
    CAN,
    CUBE,
    StudyBuilder,
    best_of,
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
    table = main_table(data)
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
    assert not any("paper" in column for column in main_table(data).columns)
    unsaid = main_table(study_data(data.frame, dict(data.info) | {"scale": None}))
    assert "(paper)" not in " ".join(unsaid.columns)
    assert "does not say" in _notes(unsaid)
    table = main_table(study_data(data.frame, dict(data.info) | {"scale": "paper"}))
    assert table is not None and table.columns[:3] == ("Task", "QC", "QC (paper)")
    can = _row(table, "can")
    assert can["FMQ"] == "0.52 ± 0.02" and can["FMQ (paper)"] == "0.96 ± 0.04"
    assert _row(table, "cube-single-task2")["FMQ (paper)"] == "–"  # noqa: RUF001
    assert _row(table, "IQM [95% CI]")["QC (paper)"] == "–"  # noqa: RUF001
    # Our best is marked, not the paper's.
    assert table.columns[9] == "FMQ + QGBS" and table.bold == {(r, 9) for r in range(4)}
    assert "Reduced" not in _notes(table)


def test_an_iqm_of_fewer_tasks_says_so_and_is_never_the_best() -> None:
    builder = StudyBuilder()
    for task, method, score in ((CUBE, "FMQ", 0.2), (CAN, "FMQ", 0.4), (CAN, "QC", 0.9)):
        finals = [euler(score)] if method == "QC" else [best_of(32, score)]
        builder.trial(task, method, 0, online=[(100, score)], finals=finals)
    table = main_table(study_data(builder.frame(), {}))
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
    assert table is not None and table.text_columns == 2 and table.summary_rows == 2
    assert [row[:2] for row in table.rows[:3]] == [
        ("cube-single-task2", "MVP"),
        ("cube-single-task2", "FMQ"),
        ("pointmaze-medium-task1", "MVP"),
    ]
    # Offline 0.20, 0.21, 0.22; online 0.70, 0.72, 0.74.
    assert _row(table, "cube-single-task2", "FMQ") == {
        "Task": "cube-single-task2",
        "Method": "FMQ",
        "Offline": "0.21 ± 0.01",
        "Online": "0.72 ± 0.02",
        "Gain [95% CI]": "+0.51 [+0.50, +0.52]",
    }
    assert "not shown: QC" in _notes(table)


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
    assert table is not None and table.columns[1] == "full 75%"
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
    assert [row[:4] for row in table.rows] == [
        ("0", "{1, 32}", "32", "1.00"),
        ("1", "{2, 8}", "24", "0.75"),
        ("1", "{4, 4}", "20", "0.62"),
    ]
    assert table.rows[1][4].startswith("0.63 [") and table.rows[1][5:] == ("3", "9")
    assert table.bold == {(2, 4)}
    by_task = qgbs_task_table(data)
    assert _row(by_task, "cube-single-task2")["1 {2, 8}"] == "0.73 ± 0.02"
    assert by_task is not None and by_task.bold == {(r, 3) for r in range(4)}


def test_a_search_with_fewer_runs_is_never_the_best() -> None:
    builder = StudyBuilder()
    for seed, finals in enumerate(([best_of(32, 0.5), qgbs(0.9)], [best_of(32, 0.5)])):
        builder.trial(CUBE, "FMQ", seed, online=[(100, 0.5)], finals=finals)
    table = qgbs_table(study_data(builder.frame(), {}))
    assert table is not None and not table.bold and "never bold" in _notes(table)


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


def test_esd_only_on_the_tasks_that_were_ablated() -> None:
    builder = StudyBuilder()
    for task, setting, score in (
        (CUBE, "default", 0.5),
        (CAN, "default", 0.9),
        (CUBE, "distillation=psd", 0.4),
    ):
        builder.trial(
            task, "FMQ", 0, setting=setting, online=[(1, score)], finals=[best_of(32, score)]
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
    row = _row(training, "FMQ", "online")  # 3 tasks x 3 seeds x 4 settings, 10 minutes each
    assert row["Trials"] == "36" and row["Hours in all"] == "6.0"
    assert _row(training, "FMQ/MVP", "offline")["Minutes a trial"] == "10.0"


def test_what_ran(data: StudyData) -> None:
    table = trials_table(data)
    row = _row(table, "cube-single-task2", "QC")
    assert row["Phases"] == "offline and online" and row["Seeds"] == "0, 1, 2"
    assert row["Updates"] == row["Steps"] == "1,000" and row["Final episodes"] == "50"
    assert row["Revision"] == "abc1234"
    shared = _row(table, "can", "FMQ/MVP", "default")
    assert shared["Steps"] == "–" and shared["Phases"] == "offline"  # noqa: RUF001
    assert table is not None and table.notes == ()


def test_trials_that_are_not_finished() -> None:
    builder = StudyBuilder()
    builder.trial(CUBE, "FMQ", 0, online=[(100, 0.5)])
    data = study_data(builder.frame(), {})
    assert _notes(trials_table(data)) == "1 trial is not finished."
    built = {kind.key: kind.build(data) for kind in TABLES}
    assert [key for key, table in built.items() if table is not None] == ["trials"]


def test_every_table_can_be_written(data: StudyData) -> None:
    assert len({kind.key for kind in TABLES}) == len(TABLES) == 11
    for kind in TABLES:
        table = kind.build(data)
        assert table is not None and table.title == kind.title and kind.needs
        for write in (to_markdown, to_latex, to_html):
            assert write(table).count("cube") == write(table).count("cube-single-task2")
        assert table == kind.build(data)  # equal draws, equal intervals


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
