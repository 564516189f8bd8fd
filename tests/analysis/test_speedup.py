"""Speed-ups by hand, and the cases without one."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from rllib_fmq.analysis.speedup import (
    average_speedup,
    seed_speedup,
    study_speedup,
    task_speedup,
)
from rllib_fmq.analysis.study_data import study_data
from tests.analysis.study_frames import CAN, CUBE, StudyBuilder, best_of

# Two offline evaluations, at updates 500 and 1000, then online ones, one update a step.
STEPS = (100, 200, 300, 400)
OFFLINE = (0.1, 0.2)


def curve(*online: float, offline: tuple[float, ...] = OFFLINE, steps: tuple[int, ...] = STEPS):
    rows = [("offline", 500 * i, 0, s) for i, s in enumerate(offline, start=1)]
    rows += [("online", 1000 + e, e, s) for e, s in zip(steps, online, strict=True)]
    return pd.DataFrame(rows, columns=["phase", "update", "env_step", "success"])


def test_online_by_hand() -> None:
    fmq, mvp = curve(0.4, 0.8, 0.9, 1.0), curve(0.2, 0.4, 0.6, 0.8)
    found = seed_speedup(7, fmq, mvp, "online")
    # xi = 0.8: 0.6, 0.68, 0.76, 0.8.
    assert found.target == 0.8 and found.seed == 7
    assert found.times == (200, 200, 200, 200)
    assert found.baseline_times == (300, 400, 400, 400)
    assert found.ratios == pytest.approx((1.5, 2, 2, 2))
    # The other way round it is the reciprocal.
    assert seed_speedup(7, mvp, fmq, "online").ratios == pytest.approx((2 / 3, 0.5, 0.5, 0.5))


def test_full_training_counts_updates_of_both_phases() -> None:
    found = seed_speedup(0, curve(0.4, 0.8, 0.9, 1.0), curve(0.2, 0.4, 0.6, 0.8), "full")
    assert found.times == (1200,) * 4 and found.baseline_times == (1300, 1400, 1400, 1400)
    # A target that is met offline is met by both at once.
    early = seed_speedup(0, curve(0.2, 0.2, 0.2, 0.2), curve(0.0, 0.1, 0.2, 0.4), "full", (0.5, 1))
    assert early.target == 0.2 and early.times == (500, 1000) and early.ratios == (1, 1)


def test_met_at_the_switch_counts_as_the_first_online_evaluation() -> None:
    # Online training makes both worse: the shared offline policy is the best they have.
    shared = seed_speedup(0, curve(0.1, 0.1, 0.1, 0.1), curve(0.1, 0.2, 0.1, 0.1), "online")
    assert shared.target == 0.2 and shared.times == shared.baseline_times == (100,) * 4
    # Two offline policies: the better one is a first evaluation ahead, not infinitely.
    strong = curve(0.8, 0.8, 0.8, 0.8, offline=(0.1, 0.8))
    apart = seed_speedup(0, curve(0.2, 0.4, 0.8, 0.9), strong, "online", (1.0,))
    assert apart.times == (300,) and apart.baseline_times == (100,)
    # An online evaluation at step 0 is the offline policy's own.
    zero = curve(0.3, 0.6, 0.6, 0.6, steps=(0, 100, 200, 300))
    assert seed_speedup(0, zero, zero, "online", (0.5, 1.0)).times == (100, 100)


def test_a_fraction_that_is_met_exactly_is_met() -> None:
    # 0.85 * 0.4 is 0.34000000000000002 or so: 17 of 50 episodes must count.
    fmq, mvp = curve(17 / 50, 0.4, 0.4, 0.4), curve(0.3, 17 / 50, 0.4, 0.4)
    assert seed_speedup(0, fmq, mvp, "online", (0.85,)).ratios == (2,)


def test_what_has_no_speed_up_is_left_out_with_the_reason() -> None:
    never = curve(0.0, 0.0, 0.0, 0.0, offline=(0.0,))
    with pytest.raises(ValueError, match="seed 3: a run never succeeds"):
        seed_speedup(3, never, curve(0.5, 0.5, 0.5, 0.5, offline=(0.0,)), "online")
    shifted = curve(0.4, 0.8, 0.9, 1.0, steps=(100, 200, 300, 500))
    with pytest.raises(ValueError, match=r"different points.*500"):
        seed_speedup(3, curve(0.4, 0.8, 0.9, 1.0), shifted, "online")
    with pytest.raises(ValueError, match="no evaluation after the start"):
        seed_speedup(3, curve(steps=()), curve(steps=()), "online")
    task = task_speedup(
        "t",
        {0: curve(0.8, 0.8, 0.8, 0.8), 1: never, 2: never},
        {0: curve(0.2, 0.8, 0.8, 0.8), 1: never},
        "online",
    )
    assert [s.seed for s in task.seeds] == [0] and list(task.excluded) == [1]
    assert task.ratios == (2, 2, 2, 2)


def test_means_over_seeds_then_tasks() -> None:
    builder = StudyBuilder()
    speeds = {CUBE: {0: 100, 1: 200}, CAN: {0: 400}}  # when FMQ reaches 0.8; MVP at 400
    for task, seeds in speeds.items():
        for seed, reached in seeds.items():
            parent = builder.trial(
                task, "FMQ/MVP", seed, offline=[(1000, 0.0)], finals=[best_of(32, 0.0)]
            )
            for method, when in (("FMQ", reached), ("MVP", 400)):
                points = [(step, 0.8 if step >= when else 0.0) for step in STEPS]
                builder.trial(
                    task, method, seed, parent=parent, online=points, finals=[best_of(32, 0.8)]
                )
    # A trial that has not finished has no say, nor has one that MVP lacks.
    builder.trial(CAN, "FMQ", 1, online=[(100, 0.8)])
    builder.trial(CUBE, "FMQ", 5, online=[(100, 0.8)], finals=[best_of(32, 0.8)])
    found = study_speedup(study_data(builder.frame(), {}), "online", fractions=(1.0,))
    assert found is not None and found.left_out == ()
    assert [t.ratios for t in found.tasks] == [(1.0,), (3.0,)]  # can: 1; cube: (4 + 2) / 2
    (average,) = found.averages
    assert average.value == 2.0 and average.num_tasks == 2
    # t(0.975, 1) = 12.706, s = sqrt 2: half width 12.706.
    assert (average.low, average.high) == pytest.approx((-10.706, 14.706), abs=1e-3)
    assert average.geometric == pytest.approx((8**0.5 * 1) ** 0.5)
    assert study_speedup(study_data(builder.frame(), {}), "online", baseline="QC") is None


def test_interval_of_the_papers_own_numbers() -> None:
    # Table 4, online, 100%: average 2.77, [1.95, 3.59], which is 1.96 standard errors.
    column = [3.21, 2.40, 2.60, 1.64, 1.57, 2.63, 2.12, 2.54, 6.14, 4.27, 1.37]
    average = average_speedup(1.0, column, np.log(column).tolist())
    assert average.value == pytest.approx(2.77, abs=0.005)
    half = (average.high - average.low) / 2
    assert half * 1.960 / 2.228 == pytest.approx((3.59 - 1.95) / 2, abs=0.005)
    assert 1 < average.geometric_low < average.geometric < average.value
    alone = average_speedup(1.0, [2.0], [math.log(2.0)])
    assert alone.value == alone.geometric == pytest.approx(2.0) and math.isnan(alone.low)
