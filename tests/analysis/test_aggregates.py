"""IQM, bootstrap intervals, probability of improvement: against scipy, slow loops, and by hand."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from rllib_fmq.analysis import aggregates
from rllib_fmq.analysis.aggregates import (
    curve_band,
    iqm,
    mean_of,
    mean_std,
    probability_of_improvement,
    stratified_bootstrap,
)

TASKS = {
    "a": [0.10, 0.30, 0.35, 0.60, 0.20],
    "b": [0.70, 0.75, 0.90],
    "c": [0.00, 0.05, 0.50, 0.40],
}


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40))
def test_iqm_is_scipys_trimmed_mean(scores: list[float]) -> None:
    assert iqm(scores) == pytest.approx(stats.trim_mean(scores, 0.25, None), abs=1e-12)


def test_iqm_by_hand() -> None:
    # Of eight, two fall away on each side: (0.5 + 0.6 + 0.7 + 0.8) / 4.
    assert iqm([[1.0, 0.0, 0.6, 0.7], [0.1, 0.9, 0.8, 0.5]]) == pytest.approx(0.65)
    assert iqm([0.2, 0.9, 0.4]) == pytest.approx(0.5)  # of three, none
    with pytest.raises(ValueError, match="at least one number"):
        iqm([])
    with pytest.raises(ValueError, match="finite"):
        iqm([0.5, math.nan])


def test_mean_and_sample_deviation() -> None:
    assert mean_std([0.4, 0.5, 0.6]) == pytest.approx((0.5, 0.1))
    mean, std = mean_std([0.4])
    assert mean == 0.4 and math.isnan(std)


def _naive_bootstrap(
    tasks: dict[str, list[float]], statistic: Callable[[list[float]], float], repetitions: int
) -> tuple[float, float]:
    """Agarwal et al. 2021, section 4.1, word for word: runs of each task with replacement."""
    rng = random.Random(1)
    values = []
    for _ in range(repetitions):
        sample: list[float] = []
        for runs in tasks.values():
            sample += [rng.choice(runs) for _ in runs]
        values.append(statistic(sample))
    values.sort()
    return values[int(0.025 * repetitions)], values[int(0.975 * repetitions)]


def _naive_iqm(scores: list[float]) -> float:
    cut = len(scores) // 4
    kept = sorted(scores)[cut : len(scores) - cut]
    return sum(kept) / len(kept)


@pytest.mark.parametrize(
    ("statistic", "naive"),
    [(aggregates.iqm_of, _naive_iqm), (mean_of, lambda s: sum(s) / len(s))],
    ids=["iqm", "mean"],
)
def test_stratified_bootstrap_is_the_published_algorithm(
    statistic: Callable[..., np.ndarray], naive: Callable[[list[float]], float]
) -> None:
    # So many repetitions that what is left is less than a step between two possible values.
    estimate = stratified_bootstrap(TASKS, statistic, repetitions=200_000)
    low, high = _naive_bootstrap(TASKS, naive, 40_000)
    assert estimate.num_runs == 12
    assert estimate.value == pytest.approx(naive([s for runs in TASKS.values() for s in runs]))
    assert (estimate.low, estimate.high) == pytest.approx((low, high), abs=0.005)


def test_one_task_is_scipys_percentile_bootstrap() -> None:
    estimate = stratified_bootstrap({"a": TASKS["a"]}, mean_of, confidence=0.9)
    expected = stats.bootstrap(
        (TASKS["a"],),
        np.mean,
        method="percentile",
        confidence_level=0.9,
        n_resamples=20_000,
        rng=np.random.default_rng(3),
    ).confidence_interval
    assert (estimate.low, estimate.high) == pytest.approx(tuple(expected), abs=0.006)


def test_interval_of_all_resamples_of_three() -> None:
    # 27 equally likely resamples: the mean is 0.1 in one, 0.2 in three, and so on. 2.5% lies in
    # the first (3.7%), 5% in the second (to 14.8%).
    scores = {"a": [0.1, 0.4, 0.7]}
    wide, narrow = (stratified_bootstrap(scores, mean_of, confidence=c) for c in (0.95, 0.90))
    assert (wide.low, wide.value, wide.high) == pytest.approx((0.1, 0.4, 0.7))
    assert (narrow.low, narrow.high) == pytest.approx((0.2, 0.6))


def test_tasks_are_resampled_by_themselves() -> None:
    # Pooled resampling would mix the tasks and give this an interval from 0 to 1.
    estimate = stratified_bootstrap({"a": [0.0, 0.0], "b": [1.0, 1.0]}, mean_of)
    assert (estimate.low, estimate.value, estimate.high) == (0.5, 0.5, 0.5)


def test_equal_seeds_give_equal_intervals() -> None:
    first, again, other = (
        stratified_bootstrap(TASKS, repetitions=50, seed=seed) for seed in (0, 0, 1)
    )
    assert first == again and (first.low, first.high) != (other.low, other.high)


def test_batches_change_nothing_but_the_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = stratified_bootstrap(TASKS)
    monkeypatch.setattr(aggregates, "_LARGEST", 1000 * 12 - 1)  # 999 repetitions at a time
    parts = stratified_bootstrap(TASKS)
    assert (parts.low, parts.high) == pytest.approx((whole.low, whole.high), abs=0.012)


def test_refuses_what_has_no_interval() -> None:
    with pytest.raises(ValueError, match="no scores"):
        stratified_bootstrap({"a": []})
    with pytest.raises(ValueError, match=r"task 'a'.*finite"):
        stratified_bootstrap({"a": [math.nan]})
    with pytest.raises(ValueError, match=r"confidence=95"):
        stratified_bootstrap(TASKS, confidence=95)


def _pairs(x: Sequence[float], y: Sequence[float]) -> float:
    wins = [1.0 if a > b else 0.5 if a == b else 0.0 for a, b in itertools.product(x, y)]
    return sum(wins) / len(wins)


def test_probability_of_improvement_by_all_pairs() -> None:
    x = {"a": [0.5, 0.6, 0.7], "b": [0.2, 0.4]}
    y = {"a": [0.5, 0.65], "b": [0.4, 0.4, 0.1], "only here": [1.0]}
    # a: ties 1/2 + 0, wins 1 + 0, 1 + 1 of 6; b: 0 + 0 + 1, 1/2 + 1/2 + 1 of 6.
    assert _pairs(x["a"], y["a"]) == pytest.approx(3.5 / 6)
    assert _pairs(x["b"], y["b"]) == pytest.approx(3.0 / 6)
    estimate = probability_of_improvement(x, y)
    assert estimate.value == pytest.approx((3.5 / 6 + 3.0 / 6) / 2)
    assert estimate.num_runs == 10
    u = stats.mannwhitneyu(x["a"], y["a"]).statistic
    assert probability_of_improvement({"a": x["a"]}, {"a": y["a"]}).value == pytest.approx(u / 6)


def test_interval_of_the_probability_of_improvement_by_a_slow_loop() -> None:
    x = {"a": [0.5, 0.6, 0.7, 0.3], "b": [0.2, 0.45, 0.5]}
    y = {"a": [0.55, 0.4, 0.65], "b": [0.4, 0.3, 0.1, 0.6]}
    rng, values = random.Random(5), []
    for _ in range(6000):
        means = [
            _pairs([rng.choice(x[t]) for _ in x[t]], [rng.choice(y[t]) for _ in y[t]]) for t in x
        ]
        values.append(sum(means) / 2)
    low, high = np.percentile(values, [2.5, 97.5])
    estimate = probability_of_improvement(x, y)
    assert (estimate.low, estimate.high) == pytest.approx((low, high), abs=0.02)


def test_no_improvement_without_a_common_task() -> None:
    with pytest.raises(ValueError, match="no task"):
        probability_of_improvement({"a": [1.0]}, {"b": [1.0]})
    same = probability_of_improvement({"a": [0.5, 0.5]}, {"a": [0.5]})
    assert (same.low, same.value, same.high) == (0.5, 0.5, 0.5)


def test_band_at_common_points_only() -> None:
    band = curve_band([([0, 100, 200], [0.1, 0.2, 0.3]), ([0, 200, 300], [0.3, 0.5, 0.9])], mean_of)
    assert band.x.tolist() == [0, 200] and band.num_runs == 2
    assert band.centre == pytest.approx([0.2, 0.4])
    # A quarter of the resamples is twice the lower curve, a quarter twice the upper one.
    assert band.low == pytest.approx([0.1, 0.3]) and band.high == pytest.approx([0.3, 0.5])


def test_band_pools_tasks_but_resamples_within_them() -> None:
    flat = {"a": [([1], [0.0]), ([1], [0.0])], "b": [([1], [1.0]), ([1], [1.0])]}
    band = curve_band(flat, mean_of)
    assert band.centre == pytest.approx([0.5]) and band.low == band.high == pytest.approx([0.5])
    assert curve_band({"a": [([1], [0.0])], "b": [([2], [0.0])]}).x.size == 0


def test_bands_refuse_what_cannot_be_aligned() -> None:
    with pytest.raises(ValueError, match="no curves"):
        curve_band({"a": []})
    with pytest.raises(ValueError, match="two values at the same x"):
        curve_band([([1, 1], [0.1, 0.2])])
    with pytest.raises(ValueError, match="expected"):
        curve_band([([1, 2], [0.1])])
