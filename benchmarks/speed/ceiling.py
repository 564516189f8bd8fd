"""What this machine's matrix product gives at the very shapes of an update.

Every product runs on buffers of its own shape, again and again, so that they are as warm in the
cache as they can be: real networks, whose layers have a matrix each, cannot quite reach it.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from benchmarks.speed.flops import Gemm

Shape = tuple[int, int, int]
BLOCKS = (1024, 2048)
"""Rows at once of the variants that take a tall product in pieces."""
LAYOUTS = ("NN", "NT", "TN")
"""Whether the left and the right matrix lie transposed in memory."""


def _variant(shape: Shape, layout: str, rows: int) -> Callable[[], None]:
    m, k, n = shape

    def matrix(height: int, width: int, flag: str) -> Tensor:
        transposed = flag == "T"
        values = torch.randn((width, height) if transposed else (height, width))
        return values.T if transposed else values

    left, right = matrix(m, k, layout[0]), matrix(k, n, layout[1])
    out = torch.empty(m, n)
    pieces = [(left[i : i + rows], out[i : i + rows]) for i in range(0, m, rows)]

    def run() -> None:
        for piece, result in pieces:
            torch.mm(piece, right, out=result)

    return run


class Ceiling:
    """The quickest way to each product, among layouts and row blocks.

    Args:
        gemms: Their distinct shapes are measured.
        rounds: Timed calls of every variant, interleaved; the quickest median wins.
        seconds: At least so long is each stretch that is timed.
    """

    def __init__(self, gemms: Iterable[Gemm], rounds: int = 5, seconds: float = 1e-3) -> None:
        self.seconds: dict[Shape, float] = {}
        """Of one product."""
        self.choice: dict[Shape, tuple[str, int]] = {}
        """Layout and rows at once."""
        self._run: dict[Shape, Callable[[], None]] = {}
        for shape in sorted({gemm.shape for gemm in gemms}):
            self._measure(shape, rounds, seconds)

    def _measure(self, shape: Shape, rounds: int, seconds: float) -> None:
        sizes = [shape[0], *(block for block in BLOCKS if block < shape[0])]
        variants = {
            (layout, rows): _variant(shape, layout, rows)
            for layout, rows in itertools.product(LAYOUTS, sizes)
        }
        repeats = {}
        for key, run in variants.items():
            run()
            repeats[key] = max(1, round(seconds / max(_timed(run, 1), 1e-7)))
        times = {key: [] for key in variants}
        for _ in range(rounds):
            for key, run in variants.items():
                times[key].append(_timed(run, repeats[key]))
        medians = {key: sorted(values)[rounds // 2] for key, values in times.items()}
        best = min(medians, key=medians.__getitem__)
        self.choice[shape], self.seconds[shape] = best, medians[best]
        self._run[shape] = variants[best]

    def cell(self, gemms: Iterable[Gemm]) -> Callable[[], None]:
        """All products of a list, one after the other, each ``count`` times.

        To be timed interleaved with what it is the ceiling of.

        Raises:
            KeyError: For a shape that was not measured.
        """
        calls = [run for gemm in gemms for run in [self._run[gemm.shape]] * gemm.count]

        def run_all() -> None:
            for call in calls:
                call()

        return run_all


def _timed(run: Callable[[], None], repeats: int) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        run()
    return (time.perf_counter() - start) / repeats
