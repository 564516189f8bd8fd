"""All groups of cells, and running them one after the other in this process."""

from __future__ import annotations

import gc
import importlib.util
import json
import re
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch

from benchmarks.speed import flops, groups, machine, ours, process, toy
from benchmarks.speed.ceiling import Ceiling
from benchmarks.speed.learner_share import LearnerShare
from benchmarks.speed.online_loop import TASK, loop_shares, online_algorithm, runner_cells
from benchmarks.speed.problem import QUICK, TASKS, UPDATES, Sizes
from benchmarks.speed.timing import SHORTEST, interleave
from rllib_fmq.learner.memory import keep_freed_memory

DEFAULT_MINUTES = 25.0
SECONDS = {
    "update cube-double FMQ-offline-1": 40,
    "update cube-double FMQ-offline-32": 90,
    "update cube-double FMQ-online-1": 40,
    "update cube-double FMQ-online-32": 90,
    "update cube-double MVP-online-1": 60,
    "update cube-double MVP-online-32": 90,
    "update cube-double QC-1": 40,
    "update cube-double QC-32": 150,
    "update antmaze-giant FMQ-offline-1": 30,
    "update antmaze-giant FMQ-online-32": 60,
    "decision cube-double 1": 20,
    "decision cube-double 64": 40,
    "replay": 20,
    "learner eager": 30,
    "learner compiled": 30,
    "loop best-of-32": 60,
    "loop one-sample": 30,
    "runner": 20,
}
"""Groups, and for how long each is timed in a run of ``DEFAULT_MINUTES``; the rest of the time
goes into building, compiling and warming up."""


@dataclass(frozen=True)
class Options:
    """How long, and what."""

    rounds: int = 15
    minutes: float = DEFAULT_MINUTES
    only: str = ""
    quick: bool = False


class Suite:
    """Runs groups and collects what they gave.

    Args:
        options: How long, and which.
        progress: Takes one line at a time.
    """

    def __init__(self, options: Options, progress: Callable[[str], None] = print) -> None:
        self.options, self.progress = options, progress
        self.compiled = not options.quick
        self.jax = groups.has_jax() and not options.quick
        self.results: dict[str, Any] = {"timings": {}, "shares": {}, "work": {}, "notes": {}}
        self.failed: list[str] = []
        """Groups that ended in an error."""
        self._ceilings: dict[str, Ceiling] = {}
        if not self.jax:
            why = "not measured in quick mode" if options.quick else "not installed"
            self.results["notes"]["jax"] = why
        if options.quick:
            self.results["notes"]["quick"] = "tiny sizes: the figures mean nothing"

    def run(self) -> dict[str, Any]:
        """Measure every group that the options name; what a report is written from."""
        torch.set_num_threads(1)
        keep_freed_memory()
        ours.allow_many_graphs()
        begin, before = time.perf_counter(), machine.load()
        for name in self.names():
            self.progress(f"== {name} ({time.perf_counter() - begin:.0f} s so far)")
            try:
                self._measure(name)
            except Exception as error:  # the other groups' minutes are not to be lost
                self.progress(traceback.format_exc())
                self.failed.append(name)
                self.results["notes"][name] = f"failed: {error!r}".replace("\n", " ")
            gc.collect()
        self.results["machine"] = machine.describe()
        self.results["run"] = asdict(self.options) | {
            "seconds": round(time.perf_counter() - begin),
            "load before": round(before, 2),
            "load after": round(machine.load(), 2),
        }
        return self.results

    def names(self) -> list[str]:
        """Groups to measure."""
        return [name for name in SECONDS if re.search(self.options.only, name)]

    def _sizes(self, task: str) -> Sizes:
        return QUICK if self.options.quick else TASKS[task]

    def _seconds(self, name: str) -> float:
        return SECONDS[name] * self.options.minutes / DEFAULT_MINUTES

    def _measure(self, name: str) -> None:
        kind, *words = name.split()
        if kind == "update":
            self._update(name, *words)
        elif kind == "decision":
            self._decision(name, *words)
        elif kind == "replay":
            cells = groups.replay_cells(20_000 if self.options.quick else 2_000_000)
            self._interleave(name, cells, 0.0, few=100)
        elif kind == "learner":
            self._learner(name, words[0] == "compiled")
        elif kind == "loop":
            self._loop(name, 1 if words[0] == "one-sample" else 32)
        else:
            self._runner(name)

    def _interleave(
        self, name: str, cells: groups.Cells, shortest: float = SHORTEST, few: int = 1
    ) -> None:
        """Warm all cells up, drop what is not what its name says, and time the rest."""
        with process.all_cores():
            for cell in cells.values():
                cell()
        if not self._usable("rllib_fmq" in cells):
            del cells["rllib_fmq"]
        timings = interleave(
            cells,
            self.options.rounds * few,
            warmup=0,  # done
            budget_seconds=self._seconds(name),
            shortest=shortest,
            progress=self._last_line(few),
        )
        self.results["timings"][name] = json.loads(timings.to_json())

    def _last_line(self, few: int) -> Callable[[str], None]:
        """Progress without the rounds of groups that have hundreds."""
        return self.progress if few == 1 else lambda line: None

    def _ceiling(self, task: str) -> Ceiling:
        if task not in self._ceilings:
            names = [name.split()[2] for name in self.names() if name.startswith(f"update {task}")]
            gemms = [g for one in names for g in flops.update(self._sizes(task), *UPDATES[one])]
            self._ceilings[task] = Ceiling(gemms, rounds=3)
        return self._ceilings[task]

    def _update(self, name: str, task: str, update: str) -> None:
        sizes = self._sizes(task)
        cells = groups.update_cells(
            sizes, update, self._ceiling(task), compiled=self.compiled, jax_too=self.jax
        )
        self.results["work"][name] = flops.by_part(flops.update(sizes, *UPDATES[update]))
        self._interleave(name, cells, 2e-3 if self.options.quick else 0.2)

    def _decision(self, name: str, task: str, num_obs: str) -> None:
        sizes, count = self._sizes(task), int(num_obs)
        self.results["work"][name] = groups.decision_work(sizes, count)
        self._interleave(name, groups.decision_cells(sizes, count), 0.02)

    def _learner(self, name: str, compiled: bool) -> None:
        if compiled and not self.compiled:
            return
        with process.all_cores():
            share = LearnerShare(self._sizes("cube-double"), compiled)
        if self._usable(compiled):
            shares = share.shares(self.options.rounds, self._seconds(name))
            self.results["shares"][name] = shares

    def _usable(self, compiled: bool) -> bool:
        if compiled and ours.fell_back():
            self.results["notes"]["compiled"] = "compiling failed: no figures of compiled code"
            return False
        return True

    def _task(self) -> str | None:
        """The environment; None, with a note, where its simulator is not installed."""
        if self.options.quick:
            return toy.TASK
        if importlib.util.find_spec("ogbench") is None:
            self.results["notes"]["environment"] = "ogbench is not installed"
            return None
        return TASK

    def _loop(self, name: str, target_candidates: int) -> None:
        task = self._task()
        if task is None:
            return
        sizes = self._sizes("cube-double")
        fragment = 10 if self.options.quick else 50
        with online_algorithm(
            task, sizes, target_candidates, compiled=self.compiled, fragment=fragment
        ) as algorithm:
            shares = loop_shares(algorithm, self.options.rounds, self._seconds(name))
        if self._usable(self.compiled):
            self.results["shares"][name] = shares

    def _runner(self, name: str) -> None:
        task = self._task()
        if task is None:
            return
        sizes = self._sizes("cube-double")
        with online_algorithm(task, sizes, 32, compiled=False) as algorithm:
            self._interleave(name, runner_cells(algorithm, task))
