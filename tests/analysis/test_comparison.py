"""Verdicts, paired differences, and the sentences that say them."""

from __future__ import annotations

import pytest

from rllib_fmq.analysis.comparison import (
    PAIRS,
    answers,
    compare,
    improvements,
    labelled_scores,
    paired_difference,
    values_by_task,
)
from rllib_fmq.analysis.study_data import study_data
from tests.analysis.study_frames import small_study

LOW = {"a": {0: 0.1, 1: 0.2, 2: 0.3}, "b": {0: 0.2, 1: 0.2, 2: 0.2}}
HIGH = {"a": {0: 0.7, 1: 0.8, 2: 0.9}, "b": {0: 0.8, 1: 0.8, 2: 0.8}, "c": {0: 0.0}}
SIMILAR = {"a": {0: 0.2, 1: 0.2, 2: 0.2}, "b": {0: 0.2, 1: 0.2, 2: 0.2}}
SCORES = {"low": LOW, "high": HIGH, "similar": SIMILAR, "elsewhere": {"d": {0: 1.0}}}


def test_verdicts() -> None:
    above, below, overlap = (
        compare(x, y, SCORES) for x, y in (("high", "low"), ("low", "high"), ("low", "similar"))
    )
    assert above is not None and below is not None and overlap is not None
    assert (above.verdict, below.verdict, overlap.verdict) == ("above", "below", "overlap")
    # Only the tasks that both have: the 0.0 on task c does not count.
    assert above.tasks == ("a", "b") and above.left_iqm.num_runs == 6
    # Of six, one falls away on each side.
    assert above.left_iqm.value == pytest.approx(0.8) and above.right_iqm.value == 0.2
    assert compare("high", "elsewhere", SCORES) is None
    assert compare("high", "nobody", SCORES) is None


def test_a_value_above_the_other_interval_is_not_enough() -> None:
    # 0.5 [0.2, 0.8] and 0.2 [0.1, 0.3].
    scores = {"X": {"a": {0: 0.2, 1: 0.5, 2: 0.8}}, "Y": {"a": {0: 0.1, 1: 0.2, 2: 0.3}}}
    for left, right in ("XY", "YX"):
        comparison = compare(left, right, scores)
        assert comparison is not None and comparison.verdict == "overlap"


def test_paired_differences_over_equal_seeds() -> None:
    left = {"a": {0: 0.5, 1: 0.9, 7: 0.0}, "b": {0: 0.4}}
    right = {"a": {0: 0.3, 1: 0.5, 8: 1.0}, "b": {1: 1.0}, "c": {0: 1.0}}
    estimate = paired_difference(left, right)
    # Seeds 0 and 1 of task a: 0.2 and 0.4, and their resamples' ends.
    assert estimate is not None and estimate.num_runs == 2
    assert (estimate.low, estimate.value, estimate.high) == pytest.approx((0.2, 0.3, 0.4))
    assert paired_difference({"a": {0: 1.0}}, {"a": {1: 1.0}}) is None


def test_a_constant_difference_shows_where_intervals_overlap() -> None:
    left = {"a": {0: 0.2, 1: 0.5, 2: 0.8}}
    right = {"a": {0: 0.1, 1: 0.4, 2: 0.7}}
    comparison = compare("X", "Y", {"X": left, "Y": right})
    assert comparison is not None and comparison.verdict == "overlap"
    assert comparison.paired is not None
    assert (comparison.paired.low, comparison.paired.high) == pytest.approx((0.1, 0.1))
    assert comparison.sentence == (
        "X's IQM 0.50 [0.20, 0.80] is not told apart from Y's 0.40 [0.10, 0.70] (1 task, 3 and 3 "
        "runs): the 95% intervals overlap (3 seeds on a task: the intervals are too narrow). On "
        "equal tasks and seeds X scores +0.10 [+0.10, +0.10] on average; the interval excludes 0."
    )


def test_one_seed_decides_nothing() -> None:
    scores = {"X": {"a": {0: 0.9, 1: 0.9}, "b": {0: 0.9}}, "Y": {"a": {0: 0.1}, "b": {0: 0.1}}}
    comparison = compare("X", "Y", scores)
    assert comparison is not None and comparison.verdict == "overlap"
    assert comparison.sentence == (
        "X's IQM is 0.90 and Y's 0.10 (2 tasks, 3 and 2 runs): with one seed on a task there is "
        "no interval, so nothing follows."
    )


def test_the_answers_of_a_study() -> None:
    data = study_data(*small_study())
    offline, mvp, qc, search = answers(data)
    assert [a.verdict for a in (offline, mvp, qc, search)] == ["above"] * 4
    assert offline.sentence.startswith(
        "FMQ's IQM 0.62 [0.61, 0.63] lies above its own offline policy's 0.21 [0.20, 0.22] "
        "(3 tasks, 9 and 9 runs): the 95% intervals do not overlap (3 seeds on a task: the "
        "intervals are too narrow). On equal tasks"
    )
    assert mvp.right == "MVP" and qc.right == "QC"
    assert mvp.paired is not None and mvp.paired.value == pytest.approx(0.3)
    assert "20 and 32 network evaluations a decision" in search.sentence
    assert search.paired is not None and search.paired.value == pytest.approx(0.05)
    assert "network evaluations" not in qc.sentence  # which compares training
    assert list(labelled_scores(data))[-2:] == ["MVP, offline policy", "FMQ, offline policy"]
    five = answers(study_data(*small_study(seeds=range(5), settings={})))
    assert all("too narrow" not in answer.sentence for answer in five)
    assert answers(study_data(*small_study(methods=("QC",)))) == []


def test_both_reports_of_improvement_have_the_same_pairs() -> None:
    found = improvements(study_data(*small_study(settings={})))
    assert [(i.x, i.y) for i in found] == [
        *PAIRS,
        *((method, f"{method}, offline policy") for method in ("QC", "MVP", "FMQ")),
    ]
    by_pair = {(i.x, i.y): i for i in found}
    mvp = by_pair["FMQ", "MVP"]
    assert mvp.chance.value == 1.0 and len(mvp.tasks) == 3
    assert mvp.difference is not None and mvp.difference.value == pytest.approx(0.3)


def test_scores_without_seeds() -> None:
    assert values_by_task({"a": {3: 0.1, 1: 0.2}, "b": {}}) == {"a": [0.1, 0.2]}
    assert values_by_task(HIGH, ["c", "d"]) == {"c": [0.0]}
