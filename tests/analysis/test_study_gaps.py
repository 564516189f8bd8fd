"""What a study lacks, and where it was unequal, in sentences."""

from __future__ import annotations

from rllib_fmq.analysis.study_data import study_data
from tests.analysis.study_frames import (
    CAN,
    CUBE,
    StudyBuilder,
    best_of,
    euler,
    qgbs,
    small_study,
)


def test_a_complete_study_lacks_nothing() -> None:
    assert study_data(*small_study()).missing() == []


def test_says_what_is_missing_and_unequal() -> None:
    builder = StudyBuilder()
    both = [best_of(32, 0.5), qgbs(0.6)]
    parent = builder.trial(
        CUBE, "FMQ/MVP", 0, offline=[(1000, 0.2)], finals=[best_of(32, 0.2)], trial="parent"
    )
    for method, last, finals, episodes in (
        ("FMQ", 400, both, 50.0),
        ("MVP", 300, both[:1], 100.0),
    ):
        builder.trial(
            CUBE,
            method,
            0,
            parent=parent,
            online=[(last, 0.5)],
            finals=finals,
            episodes=episodes,
        )
    builder.trial(CUBE, "FMQ", 1, online=[(400, 0.5)], finals=both)
    builder.trial(CUBE, "FMQ", 1, online=[(400, 0.4)], finals=both, trial="again")
    builder.trial(CUBE, "FMQ", 2, online=[(200, 0.5)])
    builder.trial(CUBE, "FMQ", 1, setting="eta=0.3", online=[(400, 0.5)], finals=both)
    builder.trial(CUBE, "FMQ/MVP", 3, offline=[(500, 0.1)])
    info = {
        "tasks": [CUBE, CAN],
        "methods": ["QC", "MVP", "FMQ"],
        "settings": ["default", "x"],
        "trials": ["parent", "again", "never started"],
    }
    data = study_data(builder.frame(), info)
    name = "cube-single-task2"
    assert data.missing() == [
        "can: planned, but there are no results.",
        "Method QC: planned, but there are no results.",
        "Setting x: planned, but there are no results.",
        "1 of 3 planned trials have no results.",
        f"{name}: online training of FMQ has no final evaluation for seed 2; it is left out.",
        f"{name}: pre-training of FMQ/MVP has no final evaluation for seed 3; it is left out.",
        f"{name}: methods have different seeds (MVP: seed 0, FMQ: seeds 0, 1, "
        "FMQ + QGBS: seeds 0, 1).",
        f"{name}: methods have different final episodes (MVP: 100, FMQ: 50).",
        f"{name}: methods have different environment steps (MVP: 300, FMQ: 400).",
        f"{name}: methods have different offline updates (MVP: 1,000, FMQ: 0 and 1,000).",
        f"{name}: FMQ (eta=0.3) has other offline updates than the default "
        "(0; default: 0 and 1,000).",
        f"{name}: FMQ has 2 trials of seed 1; again counts.",
    ]
    # Of the two trials of seed 1 the later one, and nothing of the unfinished one.
    assert data.curves(CUBE, "FMQ")[1]["success"].tolist() == [0.4]
    assert list(data.curves(CUBE, "FMQ")) == [0, 1]


def _with_a_setting(*seeds: int) -> StudyBuilder:
    """Default on seeds 0 to 4, eta=0.3 on others, named as a study names its trials."""
    builder = StudyBuilder()
    runs = [("default", seed) for seed in range(5)] + [("eta=0.3", seed) for seed in seeds]
    for setting, seed in runs:
        name = f"online-cube-FMQ-{setting}-s{seed}-0123456789ab"
        finals = [best_of(32, 0.5)]
        options = {"setting": setting, "trial": name, "finals": finals}
        builder.trial(CUBE, "FMQ", seed, online=[(100, 0.5)], **options)
    return builder


def test_settings_with_their_own_seeds_lack_nothing() -> None:
    builder = _with_a_setting(0, 1)
    frame = builder.frame()
    planned = list(frame["trial"].unique())
    assert study_data(frame, {"trials": planned}).missing() == []
    waiting = "online-cube-FMQ-eta=0.3-s3-aaaaaaaaaaaa"
    assert study_data(frame, {"trials": [*planned, waiting]}).missing() == [
        "1 of 8 planned trials have no results.",
        "cube-single-task2: FMQ (eta=0.3) has no results for seed 3.",
    ]
    # Without the plan only what was run is known.
    assert study_data(frame, {}).missing() == [
        "cube-single-task2: FMQ (eta=0.3) was run with seeds 0, 1 only."
    ]


def test_budgets_of_settings_are_compared_too() -> None:
    builder = _with_a_setting()
    finals = [best_of(32, 0.5)]
    for seed in range(5):
        builder.trial(
            CUBE, "FMQ", seed, setting="long", online=[(999, 0.5)], finals=finals, episodes=20.0
        )
    assert study_data(builder.frame(), {}).missing() == [
        "cube-single-task2: FMQ (long) has other final episodes than the default "
        "(20; default: 50).",
        "cube-single-task2: FMQ (long) has other environment steps than the default "
        "(999; default: 100).",
    ]


def test_a_task_without_a_success_rate() -> None:
    builder = StudyBuilder()
    nan = float("nan")
    for method in ("FMQ", "MVP"):
        builder.trial("Pendulum-v1", method, 0, online=[(100, nan)], finals=[best_of(32, nan)])
    data = study_data(builder.frame(), {})
    assert not data.has_success("Pendulum-v1") and data.has_success("another")
    assert data.missing() == [
        "Pendulum: this task reports no success rate, so no figure or table of success shows it; "
        "its returns are in the column `return` of the study's table."
    ]


def test_seeds_that_were_never_evaluated_at_the_same_point() -> None:
    builder = StudyBuilder()
    for seed, step in enumerate((100, 150)):
        builder.trial(CUBE, "FMQ", seed, online=[(step, 0.5)], finals=[best_of(32, 0.5)])
    assert (
        "cube-single-task2: FMQ has no learning curve: its seeds were never evaluated at the same "
        "point." in study_data(builder.frame(), {}).missing()
    )


def test_what_is_left_out_so_that_equal_runs_are_compared() -> None:
    builder = StudyBuilder()
    runs = [("default", s, (best_of(32, 0.5), qgbs(0.6))) for s in (0, 1, 2)]
    runs += [("eta=0.3", s, (best_of(32, 0.4),)) for s in (0, 1, 2)]
    runs += [("eta=3", 0, (best_of(32, 0.3),)), ("beta=0", 7, (best_of(32, 0.3),))]
    for setting, seed, finals in runs:
        builder.trial(CUBE, "FMQ", seed, setting=setting, online=[(100, 0.5)], finals=finals)
    finals = [best_of(32, 0.5), qgbs(0.6, 8, 1, 2)]
    builder.trial(CAN, "FMQ", 9, online=[(100, 0.5)], finals=finals)
    sentences = study_data(builder.frame(), {}).missing()
    assert [s for s in sentences if not s.startswith(("can: ", "cube-"))] == [
        "Scores after training: without can, which not all rows have.",
        "Search settings: K=1 {2, 8} is left out: it has 0 of 3 runs (task and seed) that the "
        "others share.",
        "Other settings: default, beta=0: no two have a task and seed in common.",
        "Other settings: eta=3 is left out: it has 1 of 3 runs (task and seed) that the "
        "others share.",
    ]


def test_a_method_without_results_on_one_task() -> None:
    builder = StudyBuilder()
    for task, method in ((CUBE, "FMQ"), (CUBE, "QC"), (CAN, "FMQ")):
        finals = [euler(0.5)] if method == "QC" else [best_of(32, 0.5)]
        builder.trial(task, method, 0, online=[(100, 0.5)], finals=finals)
    assert study_data(builder.frame(), {}).missing() == [
        "can: QC has no final results.",
        "Scores after training: without can, which not all rows have.",
    ]
