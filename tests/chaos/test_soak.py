"""Does the soak tell growth from standing still?"""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.soak import draw, growth, table

SAMPLES = [
    {"seconds": float(k), "steps": k * 1000, "driver": 200.0 + 0.05 * k, "learner": 300.0}
    for k in range(101)
]


def test_growth_is_that_of_a_line_after_the_warm_up() -> None:
    warming_up = [sample | {"learner": 3.0 * k} for k, sample in enumerate(SAMPLES[:30])]
    assert growth(warming_up + SAMPLES[30:], 100_000) == {"driver": 5.0, "learner": 0.0}


def test_table_has_the_end_and_the_growth() -> None:
    rows = table(SAMPLES[-1], {"driver": 5.0, "learner": 0.0}).splitlines()
    assert rows[0] == "After 100,000 steps:"
    assert rows[-2:] == ["| driver | 205.0 | +5.00 |", "| learner | 300.0 | +0.00 |"]


def test_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    draw(SAMPLES, 100_000, tmp_path / "memory.png")
    assert (tmp_path / "memory.png").read_bytes().startswith(b"\x89PNG")
