"""Does the soak tell growth from standing still?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.soak import draw, growth, leaks, table

SAMPLES = [
    {"seconds": float(k), "steps": k * 1000, "driver": 200.0 + 0.05 * k, "learner": 300.0}
    for k in range(101)
]


def noisy(seed: int, leak: float) -> list[dict[str, Any]]:
    """A run of 400,000 steps whose learner goes up and down as it was seen to.

    2.5 MiB come and go at once, after 10,000 steps on average; another 1.2 MiB gather slowly and
    are given back, as the driver's do.

    Args:
        seed: Of the noise.
        leak: MiB in 100,000 steps.
    """
    rng = np.random.default_rng(seed)
    steps = np.arange(10_000, 400_001, 3_000)
    high = np.cumsum(rng.random(len(steps)) < 0.26) % 2
    period, first = rng.uniform(40_000, 90_000), rng.random()
    noise = 2.5 * high + 1.2 * ((steps / period + first) % 1) + rng.normal(0, 0.15, len(steps))
    learner = 350 + noise + leak * steps / 100_000
    return [
        {"seconds": float(k), "steps": int(step), "learner": float(learner[k])}
        for k, step in enumerate(steps)
    ]


def found(leak: float) -> int:
    """In how many of 50 runs."""
    return sum(leaks(growth(noisy(seed, leak), 400_000)) == ["learner"] for seed in range(50))


def test_noise_is_not_taken_for_growth() -> None:
    assert found(leak=0.0) == 0


def test_a_learner_that_keeps_each_transition_is_found() -> None:
    assert found(leak=2.4) >= 45


def test_growth_is_that_of_a_line_after_the_warm_up() -> None:
    warming_up = [sample | {"learner": 3.0 * k} for k, sample in enumerate(SAMPLES[:50])]
    assert growth(warming_up + SAMPLES[50:], 100_000) == {"driver": 5.0, "learner": 0.0}


def test_a_run_too_short_to_judge_is_refused() -> None:
    with pytest.raises(ValueError, match="1 samples after the warm-up of 50,000 steps"):
        growth(SAMPLES[:51], 100_000)


def test_table_has_the_end_and_the_growth() -> None:
    rows = table(SAMPLES[-1], {"driver": 5.0, "learner": 0.0}).splitlines()
    assert rows[0] == "After 100,000 steps:"
    assert rows[-2:] == ["| driver | 205.0 | +5.00 |", "| learner | 300.0 | +0.00 |"]


def test_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    draw(SAMPLES, 100_000, tmp_path / "memory.png")
    assert (tmp_path / "memory.png").read_bytes().startswith(b"\x89PNG")
