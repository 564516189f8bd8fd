"""How many times sooner one method reaches a target than another (section 4.2, Table 4).

For a task and a seed

    xi = min(highest success of the method, highest success of the baseline)
    T(f) = first point of training at which an evaluation's success is >= f xi
    speed-up(f) = T_baseline(f) / T_method(f)

averaged over seeds, then over tasks. There are two clocks. "full": gradient updates of both
phases. "online": environment steps since the switch, where step 0 is the offline policy.

T is not finer than the evaluations: a target that is met before the first evaluation of the
clock (in "online", by the offline policy) counts as met at that evaluation. Two methods that
start from one offline policy which meets the target so have a speed-up of 1.

Even between two equal methods the mean of such ratios lies above 1, since 1/2 and 2 average to
1.25; the geometric mean, which is given too, does not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rllib_fmq.analysis.panels import OFFLINE, ONLINE
from rllib_fmq.analysis.study_data import BASELINE, METHOD, StudyData
from rllib_fmq.studies.definition import DEFAULT

Clock: TypeAlias = Literal["full", "online"]
CLOCKS: dict[Clock, str] = {
    "online": "online environment steps",
    "full": "updates of both phases",
}
"""What each clock counts."""
FRACTIONS = (0.75, 0.85, 0.95, 1.0)
"""Of the shared target (Table 4)."""
_ROUNDING = 1e-9


@dataclass(frozen=True)
class SeedSpeedup:
    """Of one task and seed.

    Args:
        seed: Of both runs.
        target: xi, in (0, 1].
        times: T of the method at each fraction, in units of the clock.
        baseline_times: T of the baseline.
    """

    seed: int
    target: float
    times: tuple[float, ...]
    baseline_times: tuple[float, ...]

    @property
    def ratios(self) -> tuple[float, ...]:
        """T_baseline / T_method at each fraction."""
        return tuple(b / t for b, t in zip(self.baseline_times, self.times, strict=True))


@dataclass(frozen=True)
class TaskSpeedup:
    """Of one task.

    Args:
        task: Canonical name.
        seeds: Those that count.
        excluded: Seed -> why it does not count.
    """

    task: str
    seeds: tuple[SeedSpeedup, ...]
    excluded: Mapping[int, str]

    @property
    def ratios(self) -> tuple[float, ...]:
        """Mean over seeds at each fraction."""
        return tuple(np.mean([s.ratios for s in self.seeds], axis=0).tolist())

    @property
    def log_ratios(self) -> tuple[float, ...]:
        """Mean over seeds of the logarithms at each fraction."""
        return tuple(np.mean(np.log([s.ratios for s in self.seeds]), axis=0).tolist())


@dataclass(frozen=True)
class SpeedupAverage:
    """Over tasks, at one fraction.

    The intervals are Student's t over tasks; NaN for one task.

    Args:
        fraction: Of the target.
        value: Mean of the tasks' ratios, as in the paper.
        low: Lower end of its 95% interval, which few and unequal tasks can push below 0.
        high: Upper end.
        geometric: Geometric mean over seeds, then tasks: what belongs on a logarithmic axis.
        geometric_low: Lower end of its 95% interval, > 0.
        geometric_high: Upper end.
        num_tasks: That they are computed from.
    """

    fraction: float
    value: float
    low: float
    high: float
    geometric: float
    geometric_low: float
    geometric_high: float
    num_tasks: int


@dataclass(frozen=True)
class Speedup:
    """Of a method over a baseline, on one clock.

    Args:
        method: Name.
        baseline: Name.
        clock: "full" or "online".
        fractions: Of the target.
        tasks: Those with at least one seed that counts.
        averages: One a fraction.
        left_out: (task, seed, why) of what does not count.
    """

    method: str
    baseline: str
    clock: Clock
    fractions: tuple[float, ...]
    tasks: tuple[TaskSpeedup, ...]
    averages: tuple[SpeedupAverage, ...]
    left_out: tuple[tuple[str, int, str], ...]


def clock_points(
    curve: pd.DataFrame, clock: Clock
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Points of a learning curve on one clock.

    Args:
        curve: phase, update, env_step, success, by update; see ``StudyData.curves``.
        clock: "full" or "online".
    Returns:
        Time and success, shapes (n,). "online" begins with the offline policy at step 0, if it
        was evaluated.
    """
    if clock == "full":
        return curve["update"].to_numpy(np.float64), curve["success"].to_numpy(np.float64)
    online, offline = (curve[curve["phase"] == phase] for phase in (ONLINE, OFFLINE))
    x, y = online["env_step"].to_numpy(np.float64), online["success"].to_numpy(np.float64)
    if len(offline) and not (x == 0).any():
        x, y = np.insert(x, 0, 0.0), np.insert(y, 0, offline["success"].iloc[-1])
    return x, y


def seed_speedup(
    seed: int,
    method: pd.DataFrame,
    baseline: pd.DataFrame,
    clock: Clock,
    fractions: Sequence[float] = FRACTIONS,
) -> SeedSpeedup:
    """Speed-up of one run over another.

    Args:
        seed: Of both.
        method: Learning curve.
        baseline: Learning curve of the other, evaluated at the same points.
        clock: "full" or "online".
        fractions: Of the target, in (0, 1].
    Raises:
        ValueError: If they were evaluated at different points, never after the clock started, or
            one of them never succeeds, so that there is no target.
    """
    x, y = clock_points(method, clock)
    baseline_x, baseline_y = clock_points(baseline, clock)
    if not np.array_equal(x, baseline_x):
        raise ValueError(
            f"seed {seed}: the two runs were evaluated at different points ({_listed(x)} and "
            f"{_listed(baseline_x)}): train them with the same budget and evaluation interval."
        )
    if not (x > 0).any():
        raise ValueError(f"seed {seed}: no evaluation after the start of the clock {clock!r}.")
    target = min(float(y.max()), float(baseline_y.max()))
    if target <= 0:
        raise ValueError(f"seed {seed}: a run never succeeds, so there is no shared target.")
    soonest = float(x[x > 0].min())
    goals = [f * target - _ROUNDING for f in fractions]
    return SeedSpeedup(
        seed,
        target,
        *(tuple(max(float(x[v >= g].min()), soonest) for g in goals) for v in (y, baseline_y)),
    )


def task_speedup(
    task: str,
    method: Mapping[int, pd.DataFrame],
    baseline: Mapping[int, pd.DataFrame],
    clock: Clock,
    fractions: Sequence[float] = FRACTIONS,
) -> TaskSpeedup:
    """Speed-ups of the seeds that both methods have.

    Args:
        task: Canonical name.
        method: seed -> learning curve.
        baseline: The same of the other.
        clock: "full" or "online".
        fractions: Of the target.
    Returns:
        Pairs that ``seed_speedup`` refuses are excluded, with the reason.
    """
    counted, excluded = [], {}
    for seed in sorted(set(method) & set(baseline)):
        try:
            counted.append(seed_speedup(seed, method[seed], baseline[seed], clock, fractions))
        except ValueError as error:
            excluded[seed] = str(error)
    return TaskSpeedup(task, tuple(counted), excluded)


def average_speedup(
    fraction: float, ratios: Sequence[float], log_ratios: Sequence[float]
) -> SpeedupAverage:
    """Means over tasks with their 95% intervals.

    Student's t over the tasks' means: mean +- t(0.975, n - 1) s / sqrt(n), for the geometric
    mean of the logarithms. A bootstrap of a handful of tasks has an interval that is far too
    narrow; so has the normal interval, 1.96 s / sqrt(n), which is the one of the paper's Table 4.

    Args:
        fraction: Of the target.
        ratios: One a task, at least one.
        log_ratios: Mean logarithm of the ratios of each task's seeds.
    """
    mean, half = _mean_and_half_width(ratios)
    log_mean, log_half = _mean_and_half_width(log_ratios)
    return SpeedupAverage(
        fraction,
        value=mean,
        low=mean - half,
        high=mean + half,
        geometric=math.exp(log_mean),
        geometric_low=math.exp(log_mean - log_half),
        geometric_high=math.exp(log_mean + log_half),
        num_tasks=len(ratios),
    )


def _mean_and_half_width(values: Sequence[float]) -> tuple[float, float]:
    from scipy.stats import t

    count = len(values)
    if count < 2:
        return float(np.mean(values)), math.nan
    error = np.std(values, ddof=1) / math.sqrt(count)
    return float(np.mean(values)), float(t.ppf(0.975, count - 1) * error)


def study_speedup(
    data: StudyData,
    clock: Clock = "online",
    method: str = METHOD,
    baseline: str = BASELINE,
    setting: str = DEFAULT,
    fractions: Sequence[float] = FRACTIONS,
) -> Speedup | None:
    """Speed-ups on all tasks of a study.

    Args:
        data: Of the study.
        clock: "full" or "online".
        method: Name.
        baseline: Name of the method that it is compared with.
        setting: Of both.
        fractions: Of the target, in (0, 1].
    Returns:
        None if no pair of complete runs has a speed-up.
    Source: section 4.2, Table 4.
    """
    found = [
        task_speedup(
            task,
            data.curves(task, method, setting),
            data.curves(task, baseline, setting),
            clock,
            fractions,
        )
        for task in data.tasks
    ]
    tasks = tuple(task for task in found if task.seeds)
    if not tasks:
        return None
    averages = tuple(
        average_speedup(f, [t.ratios[i] for t in tasks], [t.log_ratios[i] for t in tasks])
        for i, f in enumerate(fractions)
    )
    left_out = tuple((t.task, seed, why) for t in found for seed, why in t.excluded.items())
    return Speedup(method, baseline, clock, tuple(fractions), tasks, averages, left_out)


def _listed(x: NDArray[np.float64]) -> str:
    shown = [f"{value:g}" for value in x]
    return ", ".join(shown if len(shown) <= 6 else [*shown[:3], "...", *shown[-2:]]) or "never"
