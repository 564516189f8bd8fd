"""Aggregate scores over runs and tasks, with stratified bootstrap intervals.

Source: Agarwal et al. 2021, "Deep Reinforcement Learning at the Edge of the Statistical
Precipice".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array: TypeAlias = NDArray[np.float64]
Statistic: TypeAlias = Callable[[Array], Array]
"""(repetitions, runs) -> (repetitions,), of the last axis."""

REPETITIONS = 10_000
"""Of a bootstrap."""
_LARGEST = 4_000_000
"""Numbers drawn at a time: 32 MB."""


@dataclass(frozen=True)
class Estimate:
    """A statistic and its confidence interval.

    Args:
        value: Of the runs themselves.
        low: Lower end of the interval.
        high: Upper end.
        num_runs: Runs that it is computed from, all tasks together.
    """

    value: float
    low: float
    high: float
    num_runs: int


@dataclass(frozen=True)
class Band:
    """A curve of a statistic with its interval at each point.

    Args:
        x: Common points, ascending, shape (n,).
        centre: Statistic there, shape (n,).
        low: Lower ends, shape (n,).
        high: Upper ends, shape (n,).
        num_runs: Curves that it is computed from.
    """

    x: Array
    centre: Array
    low: Array
    high: Array
    num_runs: int


def iqm_of(runs: Array) -> Array:
    """Interquartile mean along the last axis.

    The lowest and the highest quarter of the n runs, floor(n / 4) each, are left out.

    Args:
        runs: Shape (..., n), n >= 1.
    Returns:
        Shape (...,); equal to ``scipy.stats.trim_mean(runs, 0.25, axis=-1)``.
    Source: Agarwal et al. 2021, section 4.3.
    """
    count = runs.shape[-1]
    cut = int(0.25 * count)
    if cut:
        runs = np.partition(runs, (cut, count - cut - 1), axis=-1)[..., cut : count - cut]
    return np.asarray(runs.mean(axis=-1), dtype=np.float64)


def mean_of(runs: Array) -> Array:
    """Mean along the last axis: (..., n) -> (...,)."""
    return np.asarray(runs.mean(axis=-1), dtype=np.float64)


def iqm(scores: ArrayLike) -> float:
    """Interquartile mean of all runs of all tasks pooled.

    Args:
        scores: Any shape, at least one number.
    Raises:
        ValueError: If there are none, or some are not finite.
    """
    return float(iqm_of(_checked(np.asarray(scores, dtype=np.float64).ravel(), "the scores")))


def mean_std(scores: ArrayLike) -> tuple[float, float]:
    """Mean and sample standard deviation (ddof = 1) over seeds.

    The paper does not say which of the two standard deviations its tables print.

    Args:
        scores: One a seed, at least one.
    Returns:
        Mean and standard deviation; the latter is NaN for one seed.
    Raises:
        ValueError: If there are none, or some are not finite.
    """
    values = _checked(np.asarray(scores, dtype=np.float64).ravel(), "the scores")
    return float(values.mean()), float(values.std(ddof=1)) if values.size > 1 else math.nan


def stratified_bootstrap(
    scores: Mapping[str, Sequence[float]],
    statistic: Statistic = iqm_of,
    repetitions: int = REPETITIONS,
    confidence: float = 0.95,
    seed: int = 0,
) -> Estimate:
    """A statistic of all runs pooled, with a percentile interval.

    A repetition draws, for each task by itself, as many of its runs as it has, with
    replacement; the interval is from the (1 - c) / 2 to the (1 + c) / 2 quantile of the
    repetitions' statistics.

    Args:
        scores: task -> one number a run; tasks may have different numbers of runs, and one with
            more weighs more in the pooled statistic.
        statistic: Of (repetitions, runs) along the last axis, such as ``iqm_of``, ``mean_of``.
        repetitions: Of the bootstrap, >= 1.
        confidence: c, in (0, 1).
        seed: Of the draws: equal seeds give equal intervals.
    Raises:
        ValueError: If there are no scores, some are not finite, or a number is out of range.
    Source: Agarwal et al. 2021, section 4.1.
    """
    strata = _strata(scores)
    pooled = np.concatenate(strata)
    rng = _generator(repetitions, confidence, seed)
    draws = [
        statistic(np.concatenate([_resampled(s, size, rng) for s in strata], axis=1))
        for size in _batches(repetitions, pooled.size)
    ]
    low, high = _percentiles(np.concatenate(draws), confidence)
    return Estimate(float(statistic(pooled[None])[0]), low, high, pooled.size)


def probability_of_improvement(
    x: Mapping[str, Sequence[float]],
    y: Mapping[str, Sequence[float]],
    repetitions: int = REPETITIONS,
    confidence: float = 0.95,
    seed: int = 0,
) -> Estimate:
    """How probable it is that a run of x beats one of y on a task drawn at random.

        mean over tasks of  P(X > Y) + P(X = Y) / 2  =  U / (n m)     (Mann-Whitney's U)

    The interval resamples the runs of both methods within each task.

    Args:
        x: task -> one number a run.
        y: The same of the other method; only tasks of both count.
        repetitions: Of the bootstrap, >= 1.
        confidence: In (0, 1).
        seed: Of the draws.
    Returns:
        In [0, 1]; ``num_runs`` counts the runs of both.
    Raises:
        ValueError: If they share no task, some scores are not finite, or a number is out of
            range.
    Source: Agarwal et al. 2021, section 4.3.
    """
    shared = [task for task in x if task in y]
    if not shared:
        raise ValueError("no task has scores of both methods: there is nothing to compare.")
    pairs = list(
        zip(_strata({t: x[t] for t in shared}), _strata({t: y[t] for t in shared}), strict=True)
    )
    rng = _generator(repetitions, confidence, seed)
    largest = max(a.size * b.size for a, b in pairs)
    draws = [
        np.mean([_wins(_resampled(a, size, rng), _resampled(b, size, rng)) for a, b in pairs], 0)
        for size in _batches(repetitions, largest)
    ]
    low, high = _percentiles(np.concatenate(draws), confidence)
    value = float(np.mean([_wins(a[None], b[None])[0] for a, b in pairs]))
    return Estimate(value, low, high, sum(a.size + b.size for a, b in pairs))


def curve_band(
    curves: Mapping[str, Sequence[tuple[ArrayLike, ArrayLike]]]
    | Sequence[tuple[ArrayLike, ArrayLike]],
    statistic: Statistic = iqm_of,
    repetitions: int = 2_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Band:
    """A statistic over runs at each point that all curves have, with bootstrap intervals.

    Nothing is interpolated. A repetition draws whole curves, within each task, so that the
    band's points belong together.

    Args:
        curves: task -> (x, y) of each run; or the runs of one task.
        statistic: Of (repetitions, runs) along the last axis.
        repetitions: Of the bootstrap, >= 1.
        confidence: In (0, 1).
        seed: Of the draws.
    Returns:
        Empty arrays if no x is common to all.
    Raises:
        ValueError: If there are no curves, x and y differ in length, an x occurs twice in a
            curve, or some values are not finite.
    """
    strata = curves if isinstance(curves, Mapping) else {"": curves}
    groups = [[_points(x, y) for x, y in runs] for runs in strata.values() if len(runs)]
    flat = [points for runs in groups for points in runs]
    if not flat:
        raise ValueError("no curves: at least one is needed.")
    x = np.array(sorted(set.intersection(*(set(points) for points in flat))), dtype=np.float64)
    rng = _generator(repetitions, confidence, seed)
    indices, first = [], 0
    for runs in groups:
        indices.append(first + rng.integers(len(runs), size=(repetitions, len(runs))))
        first += len(runs)
    drawn = np.concatenate(indices, axis=1)
    rows = []
    for point in x:
        values = np.array([points[point] for points in flat])
        ends = _percentiles(statistic(values[drawn]), confidence)
        rows.append((float(statistic(values[None])[0]), *ends))
    centre, low, high = np.array(rows, dtype=np.float64).reshape(-1, 3).T
    return Band(x, centre, low, high, len(flat))


def _points(x: ArrayLike, y: ArrayLike) -> dict[float, float]:
    xs = np.asarray(x, dtype=np.float64)
    ys = _checked(np.asarray(y, dtype=np.float64), "a curve") if np.size(y) else np.empty(0)
    if xs.shape != ys.shape or xs.ndim != 1:
        raise ValueError(f"a curve has x of shape {xs.shape} and y of {ys.shape}: expected (n,).")
    points = dict(zip(xs.tolist(), ys.tolist(), strict=True))
    if len(points) < xs.size:
        raise ValueError("a curve has two values at the same x: keep one of them.")
    return points


def _wins(a: Array, b: Array) -> Array:
    """Share of pairs in which a run of a is higher, ties half: (R, n), (R, m) -> (R,)."""
    difference = a[:, :, None] - b[:, None, :]
    return np.asarray((0.5 + 0.5 * np.sign(difference)).mean(axis=(1, 2)), dtype=np.float64)


def _strata(scores: Mapping[str, Sequence[float]]) -> list[Array]:
    strata = [
        _checked(np.asarray(runs, dtype=np.float64).ravel(), f"task {task!r}")
        for task, runs in scores.items()
        if len(runs)
    ]
    if not strata:
        raise ValueError("no scores: at least one run of one task is needed.")
    return strata


def _checked(values: Array, what: str) -> Array:
    if not values.size:
        raise ValueError(f"{what}: at least one number is needed, got none.")
    if not np.isfinite(values).all():
        raise ValueError(f"{what}: expected finite numbers, got {values.tolist()}.")
    return values


def _generator(repetitions: int, confidence: float, seed: int) -> np.random.Generator:
    if repetitions < 1 or not 0.0 < confidence < 1.0:
        raise ValueError(
            f"repetitions={repetitions} must be >= 1, and confidence={confidence} lie in (0, 1)."
        )
    return np.random.default_rng(seed)


def _resampled(runs: Array, repetitions: int, rng: np.random.Generator) -> Array:
    """As many runs as there are, with replacement: (n,) -> (repetitions, n)."""
    return runs[rng.integers(runs.size, size=(repetitions, runs.size))]


def _batches(repetitions: int, numbers: int) -> list[int]:
    """Repetitions at a time, so that one does not fill the memory with many runs."""
    size = max(1, min(repetitions, _LARGEST // numbers))
    whole, rest = divmod(repetitions, size)
    return [size] * whole + ([rest] if rest else [])


def _percentiles(draws: Array, confidence: float) -> tuple[float, float]:
    tail = 50.0 * (1.0 - confidence)
    low, high = np.percentile(draws, [tail, 100.0 - tail])
    return float(low), float(high)
