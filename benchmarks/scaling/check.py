"""The model's rounds beside those of the product, on this machine and within the same minutes."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ray.tune.registry import register_env

from benchmarks.overlap import ENV, Bench, Sleep, build, write_dataset
from benchmarks.scaling.measure import pieces_of
from benchmarks.scaling.model import Pieces, Setup, simulate

ROBOT = 0.1
"""Seconds of a step without a core, as in ``benchmarks/overlap.py``."""
PASSES = 3
"""Through all cases, with the pieces measured before each; the quickest of each case counts."""
RATIOS = (0.5, 1.0, 2.0)
"""Seconds of updates over seconds of collection, in a round."""


class Paced(Sleep):
    """The environment of ``benchmarks/overlap.py``, with a pace that can be set."""

    seconds = 0.0

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Wait, if at all."""
        if self.seconds:
            time.sleep(self.seconds)
        return self._observe(), 0.0, False, False, {}


def set_pace(runner: Any, seconds: float) -> None:
    """Of all environments in an env-runner's process."""
    Paced.seconds = seconds


class Case(NamedTuple):
    """Something that the product does."""

    what: str
    runners: int
    updates: int
    """In a round."""
    lag: int
    wait: float
    """Seconds of a step without a core."""
    rounds: int


class Compared(NamedTuple):
    """Seconds of a round."""

    what: str
    measured: float
    quiet: float
    """Predicted for a machine without other work."""
    loaded: float
    """Predicted with the waiting for cores that the processes had in the measured rounds."""
    driver_slowdown: float
    runner_slowdown: float

    @property
    def error(self) -> float:
        """Of the latter prediction, as a share of what was measured."""
        return self.loaded / self.measured - 1


class Slowdown:
    """How much longer processes took for having to wait for a core.

    Args:
        pids: Processes, of whose main threads the kernel is asked.
    """

    def __init__(self, pids: Sequence[int]) -> None:
        self._pids = pids
        self._begin = self._read()

    def _read(self) -> tuple[int, int]:
        """Nanoseconds on a core and waiting for one."""
        ran = waited = 0
        for pid in self._pids:
            try:
                text = Path(f"/proc/{pid}/schedstat").read_text(encoding="ascii")
            except OSError:  # no Linux: the factor is 1
                continue
            on_core, ready, _ = map(int, text.split())
            ran, waited = ran + on_core, waited + ready
        return ran, waited

    def factor(self) -> float:
        """Since it was made, >= 1."""
        ran, waited = (
            after - before for after, before in zip(self._read(), self._begin, strict=True)
        )
        return 1 + waited / max(1, ran)


def cases(counts: Sequence[int], pieces: Pieces, fragment: int) -> list[Case]:
    """Robots alone, the crossing with updates, and runners without pause.

    Args:
        counts: Env-runners; the most of them are at the crossing.
        pieces: For the number of updates that take as long as a round.
        fragment: Steps of an env-runner in a round.
    """
    found = [Case(f"robots: {n}", n, 1, 1, ROBOT, 2) for n in counts]
    most = max(counts)
    for ratio in RATIOS:
        updates = max(1, round(ratio * fragment * ROBOT / pieces.update))
        for lag in (1, 0):
            what = f"robots: {most}, updates {ratio:g} x collection, lag {lag}"
            found.append(Case(what, most, updates, lag, ROBOT, 2))
    own = simulate(pieces, Setup(1, fragment=fragment, utd=0.0)).round_seconds
    updates = max(1, round(own / pieces.update))
    for n in (1, 2):
        for lag in (1, 0):
            found.append(Case(f"no pause: {n}, lag {lag}", n, updates, lag, 0.0, 30))
    return found


def predict(pieces: Pieces, case: Case, fragment: int, cores: float) -> float:
    """Seconds of a round."""
    setup = Setup(
        runners=case.runners,
        fragment=fragment,
        lag=case.lag,
        utd=case.updates / (case.runners * fragment),
        cores=cores,
    )
    return simulate(replace(pieces, env_wait=case.wait), setup).round_seconds


def compare(bench: Bench, case: Case, pieces: Pieces, pids: dict[int, int]) -> Compared:
    """Run a case and predict it.

    Args:
        bench: Of an algorithm in its online phase.
        case: What to run.
        pieces: Of that algorithm.
        pids: Process of each env-runner.
    """
    _for_all(bench.algo, partial(set_pace, seconds=case.wait))
    bench.rounds = case.rounds
    driver = Slowdown([os.getpid()])
    runners = Slowdown([pids[index] for index in range(1, case.runners + 1)])
    measured = bench.run(case.runners, case.updates, case.lag)
    slow = driver.factor(), runners.factor()
    return Compared(
        case.what,
        measured,
        predict(pieces, case, bench.fragment, os.cpu_count() or 1),
        predict(pieces.slowed(*slow), case, bench.fragment, float("inf")),
        *slow,
    )


def check(folder: Path, counts: Sequence[int], fragment: int = 20) -> tuple[Pieces, list[Compared]]:
    """Build, measure the pieces, and compare all cases; Ray must run.

    Args:
        folder: For a dataset.
        counts: Env-runners to try.
        fragment: Steps of an env-runner in a round.
    """
    register_env(ENV, lambda context: Paced(dict(context)))
    algo = build(write_dataset(folder), max(counts), fragment)
    try:
        pieces = pieces_of(algo)
        same_work = cases(counts, pieces, fragment)
        found = _for_all(algo, lambda runner: (runner.worker_index, os.getpid()))
        bench = Bench(algo, fragment, rounds=2)
        passes = []
        for number in range(PASSES):
            # A virtual machine's speed drifts: each pass is predicted from pieces of its own time.
            now = pieces_of(algo) if number else pieces
            passes.append([compare(bench, case, now, dict(found)) for case in same_work])
        # What else the machine does can only take time.
        rows = [min(same, key=lambda row: row.measured) for same in zip(*passes, strict=True)]
    finally:
        algo.stop()
    return pieces, rows


def _for_all(algo: Any, function: Any) -> list[Any]:
    """Of all remote env-runners, those included that a measurement leaves out."""
    group = algo.env_runner_group
    every = sorted(group._worker_manager.actors())
    answers: list[Any] = group.foreach_env_runner(
        function, local_env_runner=False, remote_worker_ids=every
    )
    return answers


def table(rows: list[Compared]) -> str:
    """Markdown."""
    lines = [
        "| env-runners | measured, s a round | predicted, quiet | predicted, as loaded | error "
        "| driver, runners slowed |",
        "|---|---:|---:|---:|---:|---|",
    ]
    lines += [
        f"| {row.what} | {row.measured:.3f} | {row.quiet:.3f} | {row.loaded:.3f} "
        f"| {row.error:+.0%} | {row.driver_slowdown:.2f}, {row.runner_slowdown:.2f} |"
        for row in rows
    ]
    return "\n".join(lines)
