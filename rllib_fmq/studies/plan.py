"""A study's trials on machines: what each reserves, how many fit at a time, machine-hours."""

from __future__ import annotations

import heapq
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from rllib_fmq.studies.trials import Trial

Resources: TypeAlias = Mapping[str, float]
"""Name ("CPU", "GPU", ...) -> amount."""
HOUR = 3600.0


@dataclass(frozen=True)
class Job:
    """A trial that is still to be run."""

    trial: Trial
    bundles: Sequence[Resources]
    """What Tune reserves, one a process."""
    seconds: float


@dataclass(frozen=True)
class Group:
    """Trials of a phase, task and method that reserve the same."""

    phase: str
    task: str
    method: str
    bundles: Sequence[Resources]
    at_once: int
    """So many of them fit on the machines at a time."""
    seconds: list[float] = field(default_factory=list)
    """Of each trial."""


@dataclass(frozen=True)
class Plan:
    """The cost of what is left of a study."""

    groups: Sequence[Group]
    cpu_hours: float
    """Reserved CPUs x hours, over all trials."""
    gpu_hours: float
    wall_hours: float
    """With all machines to itself."""


def make_plan(
    batches: Sequence[Sequence[Job]], machines: Sequence[Resources], max_concurrent: int = 0
) -> Plan:
    """Add up a study's jobs.

    Args:
        batches: Jobs side by side; a batch starts when the one before has ended.
        machines: What each machine has.
        max_concurrent: Trials at a time; 0: as many as fit.
    Returns:
        The plan.
    Raises:
        ValueError: If a trial fits on none of the machines.
    """
    groups: dict[Any, Group] = {}
    cpu = gpu = wall = 0.0
    for batch in batches:
        for job in batch:
            trial = job.trial
            key = (trial.phase, trial.task, trial.method, json.dumps(list(map(dict, job.bundles))))
            if key not in groups:
                fits = fit_at_once(job.bundles, machines)
                at_once = min(fits, max_concurrent) if max_concurrent else fits
                groups[key] = Group(*key[:3], job.bundles, at_once)
            groups[key].seconds.append(job.seconds)
            cpu += job.seconds * sum(bundle.get("CPU", 0.0) for bundle in job.bundles)
            gpu += job.seconds * sum(bundle.get("GPU", 0.0) for bundle in job.bundles)
        wall += wall_seconds(batch, machines, max_concurrent)
    return Plan(list(groups.values()), cpu / HOUR, gpu / HOUR, wall / HOUR)


def fit_at_once(bundles: Sequence[Resources], machines: Sequence[Resources]) -> int:
    """How many equal trials the machines hold at a time."""
    free = [dict(machine) for machine in machines]
    return sum(1 for _ in iter(lambda: _place(bundles, free), None))


def find_room(bundles: Sequence[Resources], machines: Sequence[Resources]) -> bool:
    """Whether one trial fits on the machines, with nothing else on them."""
    return _place(bundles, [dict(machine) for machine in machines]) is not None


def wall_seconds(
    jobs: Sequence[Job], machines: Sequence[Resources], max_concurrent: int = 0
) -> float:
    """Until all jobs have ended, started in order as Tune does, whenever there is room.

    Args:
        jobs: In the order in which they start.
        machines: What each machine has.
        max_concurrent: Jobs at a time; 0: as many as fit.
    Returns:
        Seconds.
    Raises:
        ValueError: If a job fits on none of the machines.
    """
    free = [dict(machine) for machine in machines]
    running: list[tuple[float, int, list[tuple[int, Resources]]]] = []
    now = end = 0.0
    for number, job in enumerate(jobs):
        full = max_concurrent and len(running) >= max_concurrent
        while (placed := None if full else _place(job.bundles, free)) is None:
            if not running:
                raise ValueError(
                    f"trial {job.trial.id} needs {describe_bundles(job.bundles)}, and the machines "
                    "have no room for that: ask for fewer env-runners, learners or GPUs."
                )
            now, _, released = heapq.heappop(running)
            _change(free, released, +1.0)
            full = False
        heapq.heappush(running, (now + job.seconds, number, placed))
        end = max(end, now + job.seconds)
    return end


def describe_bundles(bundles: Sequence[Resources]) -> str:
    """Such as "1 CPU + 4 x (1 CPU, 0.5 GPU)"."""
    texts = [", ".join(f"{n:g} {kind}" for kind, n in b.items() if n) for b in bundles]
    return " + ".join(_counted(texts))


def _counted(texts: Sequence[str]) -> Iterator[str]:
    for text, same in itertools.groupby(filter(None, texts)):
        number = len(list(same))
        shown = f"({text})" if "," in text else text
        yield f"{number} x {shown}" if number > 1 else text


def _place(
    bundles: Sequence[Resources], free: list[dict[str, float]]
) -> list[tuple[int, Resources]] | None:
    """Take room for all bundles, the largest first, each on the first machine that has it."""
    given = range(len(free))
    # The smallest machine that suffices leaves the most to other bundles, but not always.
    by_size = sorted(given, key=lambda n: (free[n].get("GPU", 0.0), free[n].get("CPU", 0.0)))
    for order in (given, by_size):
        if (placed := _place_in_order(bundles, free, order)) is not None:
            return placed
    return None


def _place_in_order(
    bundles: Sequence[Resources], free: list[dict[str, float]], order: Sequence[int]
) -> list[tuple[int, Resources]] | None:
    placed: list[tuple[int, Resources]] = []
    # What only some machines have goes before what any machine has.
    ordered = sorted(bundles, key=lambda b: (-b.get("GPU", 0.0), -len(b), -b.get("CPU", 0.0)))
    for bundle in ordered:
        machine = next((n for n in order if _holds(free[n], bundle)), None)
        if machine is None:
            _change(free, placed, +1.0)
            return None
        placed.append((machine, bundle))
        _change(free, placed[-1:], -1.0)
    return placed


def _holds(machine: Resources, bundle: Resources) -> bool:
    # Fractions of a GPU add up with rounding errors.
    return all(machine.get(kind, 0.0) >= amount - 1e-9 for kind, amount in bundle.items())


def _change(
    free: list[dict[str, float]], placed: Sequence[tuple[int, Resources]], sign: float
) -> None:
    for machine, bundle in placed:
        for kind, amount in bundle.items():
            free[machine][kind] = free[machine].get(kind, 0.0) + sign * amount
