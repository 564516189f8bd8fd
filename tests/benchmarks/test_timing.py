"""The stop-watch and the ceiling."""

from __future__ import annotations

import itertools
import time

import pytest

from benchmarks.speed import timing
from benchmarks.speed.ceiling import Ceiling
from benchmarks.speed.flops import Gemm
from benchmarks.speed.timing import SHORTEST, Spread, Timings, calibrate, interleave


def quiet(line: str) -> None:
    """No progress."""


def test_every_cell_runs_once_a_round_in_changing_order():
    calls: list[str] = []

    def cell(name: str):
        def run() -> None:
            calls.append(name)
            time.sleep(1.2 * SHORTEST)

        return run

    names = ["a", "b", "c"]
    timings = interleave({name: cell(name) for name in names}, 12, warmup=2, progress=quiet)
    assert timings.rounds == 12
    assert timings.repeats == dict.fromkeys(names, 1)
    rounds = [tuple(calls[i : i + 3]) for i in range(len(calls) - 36, len(calls), 3)]
    assert len(rounds) == 12
    assert all(sorted(order) == names for order in rounds)
    assert len(set(rounds)) > 2


def test_sleep_costs_wall_time_and_no_processor_time():
    timings = interleave({"sleep": lambda: time.sleep(0.01)}, 5, progress=quiet)
    assert timings.seconds("sleep").median >= 0.01
    assert timings.seconds("sleep", "cpu").median < 0.005


class Clock:
    """Time passes only in cells: 1 ms a call, and 5 ms more in the calls of ``hiccups``."""

    def __init__(self, hiccups: tuple[int, ...] = ()) -> None:
        self.now, self.calls, self.hiccups = 0.0, 0, hiccups

    def perf_counter(self) -> float:
        return self.now

    process_time = perf_counter

    def cell(self) -> None:
        self.now += 1e-3 + 5e-3 * (self.calls in self.hiccups)
        self.calls += 1


@pytest.mark.parametrize("hiccups", [(), (0,), (1,)])
def test_short_cells_are_repeated(monkeypatch, hiccups):
    clock = Clock(hiccups)
    monkeypatch.setattr(timing, "time", clock)
    assert calibrate(clock.cell, shortest=6e-3) == 8
    timings = interleave({"short": clock.cell}, 3, progress=quiet)
    assert timings.repeats == {"short": 2}
    assert timings.wall["short"] == pytest.approx([1e-3] * 3)


def test_ratio_is_paired_by_round():
    drift = [1.0, 2.0, 4.0, 8.0]
    timings = Timings(
        {"slow": [3 * x for x in drift], "fast": drift}, {"slow": drift, "fast": drift}
    )
    assert timings.ratio("slow", "fast") == Spread(3.0, 3.0, 3.0)
    assert timings.ratio("slow", "fast", "cpu").median == 1.0
    assert timings.seconds("fast") == Spread(3.0, 1.75, 5.0)
    assert Timings.from_json(timings.to_json()) == timings
    with pytest.raises(KeyError, match="no cell 'other'"):
        timings.ratio("slow", "other")


def test_budget_ends_the_rounds():
    lines: list[str] = []
    timings = interleave(
        {"a": lambda: time.sleep(0.05)}, 1000, budget_seconds=0.5, progress=lines.append
    )
    assert 1 <= timings.rounds < 12
    assert sum(line.startswith("round") for line in lines) == timings.rounds
    with pytest.raises(ValueError, match="at least one"):
        interleave({}, 3)


def test_ceiling_runs_every_product_as_often_as_counted():
    gemms = [
        Gemm(3000, 16, 24, 2, "forward"),
        Gemm(16, 3000, 24, 1, "backward"),
        Gemm(3000, 16, 24, 1, "again"),
        Gemm(1, 16, 24, 5, "few"),
    ]
    ceiling = Ceiling(gemms, rounds=1, seconds=1e-5)
    assert ceiling.seconds.keys() == {(3000, 16, 24), (16, 3000, 24), (1, 16, 24)}
    assert all(seconds > 0 for seconds in ceiling.seconds.values())
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        ceiling.cell(gemms)()
    assert counter.get_total_flops() == sum(gemm.flops for gemm in gemms)
    with pytest.raises(KeyError):
        ceiling.cell([Gemm(2, 2, 2, 1, "unknown")])


def test_ceiling_takes_the_quickest_variant(monkeypatch):
    """With a clock that charges TN in blocks of 2048 rows least, that is what is chosen."""
    from benchmarks.speed import ceiling as module

    made: list[tuple[str, int]] = []

    def variant(shape, layout, rows):
        made.append((layout, rows))
        run = lambda: None  # noqa: E731
        run.key = (layout, rows)
        return run

    def timed(run, repeats):
        return 1.0 if run.key == ("TN", 2048) else 2.0

    monkeypatch.setattr(module, "_variant", variant)
    monkeypatch.setattr(module, "_timed", timed)
    found = module.Ceiling([Gemm(4096, 8, 8, 1, "part")])
    assert found.choice == {(4096, 8, 8): ("TN", 2048)}
    assert found.seconds == {(4096, 8, 8): 1.0}
    assert set(made) == set(itertools.product(("NN", "NT", "TN"), (1024, 2048, 4096)))
