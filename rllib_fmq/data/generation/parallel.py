"""Record many episodes at once over Ray tasks, with a progress bar."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import ray
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

Job = TypeVar("Job")
Result = TypeVar("Result")


def run_jobs(
    function: Callable[[Job], Result],
    jobs: Sequence[Job],
    num_workers: int | None,
    *,
    title: str,
    size: Callable[[Job], int] = lambda job: 1,
    unit: str = "episodes",
    progress: bool = True,
) -> Iterator[tuple[Job, Result]]:
    """Run a function on every job and yield results as they come, in any order.

    Args:
        function: What to run; importable, and a function of the job alone.
        jobs: Its arguments.
        num_workers: Jobs at the same time; None is every CPU that Ray has, 0 runs in this process,
            without Ray.
        title: In front of the progress bar.
        size: Progress that a finished job makes.
        unit: What `size` counts.
        progress: Show a progress bar on standard error.
    Yields:
        Each job with its result.
    """
    bar = Progress(
        TextColumn("[bold]{task.description}"),
        BarColumn(bar_width=10),  # all of it fits into 80 columns
        MofNCompleteColumn(),
        TextColumn(unit),
        TextColumn("{task.fields[speed]}"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not progress,
    )
    with bar:
        shown = bar.add_task(title, total=sum(map(size, jobs)), speed="")
        finished = (
            ((job, function(job)) for job in jobs)
            if num_workers == 0
            else _run_with_ray(function, jobs, num_workers)
        )
        for job, result in finished:
            bar.advance(shown, size(job))
            speed = bar.tasks[0].finished_speed or bar.tasks[0].speed
            bar.update(shown, speed=f"{speed:.{1 if speed < 100 else 0}f}/s" if speed else "")
            yield job, result


@contextlib.contextmanager
def _ray_session(num_workers: int | None) -> Iterator[int]:
    """The caller's Ray if there is one, else one of our own; yields the number of workers."""
    own = not ray.is_initialized()
    if own:
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
        if os.environ.get("RAY_ADDRESS"):
            ray.init(**quiet)
        else:
            ray.init("local", num_cpus=num_workers, include_dashboard=False, **quiet)
    try:
        yield num_workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
    finally:
        if own:
            ray.shutdown()


def _run_with_ray(
    function: Callable[[Job], Result], jobs: Sequence[Job], num_workers: int | None
) -> Iterator[tuple[Job, Result]]:
    remote: Any = ray.remote(num_cpus=1)(function)
    with _ray_session(num_workers) as limit:
        waiting = iter(jobs)
        running: dict[Any, Job] = {}
        try:
            while True:
                for job in waiting:
                    running[remote.remote(job)] = job
                    if len(running) == limit:
                        break
                if not running:
                    return
                (done,), _ = ray.wait(list(running), num_returns=1)
                yield running.pop(done), ray.get(done)
        finally:
            for reference in running:
                ray.cancel(reference)
