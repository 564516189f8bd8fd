"""A stop-watch for a noisy machine: cells side by side, round by round, and ratios of them.

The clock rate of a shared machine drifts by half within minutes, so that a bare time says little.
Here every cell runs once a round, in a random order, and two cells are compared by the median of
their ratios within a round.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

SHORTEST = 2e-3
"""Seconds that a timed stretch takes at least: shorter cells are repeated within it."""


class Spread(NamedTuple):
    """Median and quartiles."""

    median: float
    lower: float
    upper: float

    @classmethod
    def of(cls, values: list[float] | np.ndarray) -> Spread:
        """Of a sample of any size >= 1."""
        lower, median, upper = np.percentile(values, [25, 50, 75])
        return cls(float(median), float(lower), float(upper))


@dataclass
class Timings:
    """Seconds a call of every cell, one number a round."""

    wall: dict[str, list[float]] = field(default_factory=dict)
    cpu: dict[str, list[float]] = field(default_factory=dict)
    repeats: dict[str, int] = field(default_factory=dict)
    """Calls in one timed stretch."""

    @property
    def rounds(self) -> int:
        """Rounds that all cells finished."""
        return min((len(values) for values in self.wall.values()), default=0)

    def seconds(self, cell: str, clock: str = "wall") -> Spread:
        """Seconds a call; ``clock`` is "wall" or "cpu" (of this process, all threads)."""
        return Spread.of(self._series(cell, clock))

    def ratio(self, a: str, b: str, clock: str = "wall") -> Spread:
        """Time of ``a`` over time of ``b``, paired by round: above 1, ``b`` is the quicker."""
        series = zip(self._series(a, clock), self._series(b, clock), strict=True)
        return Spread.of([x / y for x, y in series])

    def _series(self, cell: str, clock: str) -> list[float]:
        table = {"wall": self.wall, "cpu": self.cpu}[clock]
        if cell not in table:
            raise KeyError(f"no cell {cell!r}: there are {sorted(table)}")
        return table[cell]

    def to_json(self) -> str:
        """All numbers, for ``from_json``."""
        return json.dumps({"wall": self.wall, "cpu": self.cpu, "repeats": self.repeats})

    @classmethod
    def from_json(cls, text: str) -> Timings:
        """What ``to_json`` wrote."""
        return cls(**json.loads(text))


def calibrate(cell: Callable[[], Any], shortest: float = SHORTEST) -> int:
    """Calls that take at least ``shortest`` seconds together, a power of two."""

    def stretch(repeats: int) -> float:
        start = time.perf_counter()
        for _ in range(repeats):
            cell()
        return time.perf_counter() - start

    repeats = 1
    while True:
        seconds = stretch(repeats)
        # Just long enough may be another process's doing: look twice.
        if seconds >= 10 * shortest or (seconds >= shortest and stretch(repeats) >= shortest):
            return repeats
        repeats *= 2


def interleave(
    cells: Mapping[str, Callable[[], Any]],
    rounds: int,
    warmup: int = 1,
    budget_seconds: float = float("inf"),
    *,
    shortest: float = SHORTEST,
    seed: int = 0,
    progress: Callable[[str], None] = print,
) -> Timings:
    """Time all cells, each once a round, in a new random order each round.

    Args:
        cells: What to time. A cell must have finished its work when it returns.
        rounds: At most so many.
        warmup: Calls of every cell before the first round (compilation, caches), >= 0; the
            calibration adds at least one more.
        budget_seconds: No new round starts that would end later than this, reckoned from the
            last round's length; there is always one. Warm-up counts.
        shortest: Seconds that a timed stretch takes at least. Within a stretch a cell finds the
            caches as it left them, which is what a training loop does.
        seed: Of the orders.
        progress: Takes one line at a time.
    Returns:
        Seconds a call.
    Raises:
        ValueError: Without cells or rounds.
    """
    if not cells or rounds < 1:
        raise ValueError(f"{len(cells)} cells, {rounds} rounds: at least one of each is needed")
    begin = time.perf_counter()
    timings = Timings({name: [] for name in cells}, {name: [] for name in cells})
    for name, cell in cells.items():
        for _ in range(warmup):
            cell()
        timings.repeats[name] = calibrate(cell, shortest)
        progress(f"warm: {name} ({time.perf_counter() - begin:.0f} s)")
    order, names = np.random.default_rng(seed), list(cells)
    for number in range(1, rounds + 1):
        start = time.perf_counter()
        for index in order.permutation(len(names)):
            name = names[index]
            cell, repeats = cells[name], timings.repeats[name]
            cpu, wall = time.process_time(), time.perf_counter()
            for _ in range(repeats):
                cell()
            timings.wall[name].append((time.perf_counter() - wall) / repeats)
            timings.cpu[name].append((time.process_time() - cpu) / repeats)
        now = time.perf_counter()
        progress(f"round {number} of {rounds}: {now - start:.1f} s, {now - begin:.0f} s in all")
        if now - begin + (now - start) > budget_seconds:
            break
    return timings
