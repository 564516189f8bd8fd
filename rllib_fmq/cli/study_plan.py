"""``rllib study run FILE --plan``: what a study will cost."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rllib_fmq.studies.costs import Calibration
    from rllib_fmq.studies.definition import Study
    from rllib_fmq.studies.plan import Job, Plan
    from rllib_fmq.studies.trials import Trial

_WIDTH = 140


def show_plan(study: Study, trials: Sequence[Trial], folder: Path, max_concurrent: int) -> None:
    """Calibrate what is left of a study on Ray, which must be running, and print its cost.

    Args:
        study: The study.
        trials: Of it.
        folder: Where the study would be run; what is complete there costs nothing.
        max_concurrent: Trials at a time; 0: as many as there is room for.
    Raises:
        ValueError: If a calibration failed or a trial finds no room.
    """
    import ray

    from rllib_fmq.studies.calibration import calibrate
    from rllib_fmq.studies.costs import cost_key
    from rllib_fmq.studies.plan import make_plan
    from rllib_fmq.studies.run import batches, is_over, stages

    left = [trial for trial in trials if not is_over(study, folder, trial)]
    done = len(trials) - len(left)
    typer.echo(f"{len(trials)} trials, {done} of them done; {len(left)} to run")
    if not left:
        return
    costs = {trial.id: cost_key(trial) for trial in left}
    typer.echo(f"calibrating {len(set(costs.values()))} kinds of trial with short runs ...")
    made = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        measured = calibrate(study, left, folder.resolve(), max_concurrent)
    finally:
        if made:
            with contextlib.suppress(OSError):  # somebody else put something into it
                folder.rmdir()
    jobs = [
        [_job(study, trial, measured[costs[trial.id]]) for trial in batch]
        for stage in stages(left)
        for batch in batches(study, stage)
    ]
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    _print_calibrations(left, costs, measured)
    _print_plan(make_plan(jobs, machines, max_concurrent), machines)
    if study.scheduler is not None:
        typer.echo("the study's scheduler will stop some of them earlier: this is the most")


def _job(study: Study, trial: Trial, measured: Calibration) -> Job:
    from rllib_fmq.studies.costs import trial_seconds, work_of
    from rllib_fmq.studies.plan import Job
    from rllib_fmq.studies.run import trial_resources

    seconds = trial_seconds(work_of(trial, study.checkpoint_interval), measured)
    return Job(trial, trial_resources(study, trial).bundles, seconds)


def _print_calibrations(
    trials: Sequence[Trial], costs: Mapping[str, str], measured: Mapping[str, Calibration]
) -> None:
    table = _table("measured here, in seconds unless it says ms")
    columns = ("set-up", "update ms", "step ms", "step + updates ms", "save", "episode")
    for name in ("phase", "task", "method", "trials"):
        table.add_column(name)
    for name in columns:
        table.add_column(name, justify="right")
    for cost, seconds in measured.items():
        of = [trial for trial in trials if costs[trial.id] == cost]
        episodes = [f"{second:.2f}" for second in seconds.episode.values()]
        table.add_row(
            *(of[0].phase, of[0].task, of[0].method, str(len(of))),
            f"{seconds.setup:.1f}",
            *(_ms(x) for x in (seconds.update, seconds.collect, seconds.train)),
            f"{seconds.checkpoint:.2f}",
            ", ".join(episodes),
        )
    _print(table)


def _print_plan(plan: Plan, machines: Sequence[Mapping[str, float]]) -> None:
    from rllib_fmq.studies.plan import describe_bundles

    table = _table("what is to run")
    for name in ("phase", "task", "method"):
        table.add_column(name)
    for name in ("trials", "each reserves", "at a time", "hours each", "hours"):
        table.add_column(name, justify="right")
    for group in plan.groups:
        hours = sum(group.seconds) / 3600.0
        table.add_row(
            *(group.phase, group.task, group.method, str(len(group.seconds))),
            describe_bundles(group.bundles),
            str(group.at_once),
            *(_hours(h) for h in (hours / len(group.seconds), hours)),
        )
    _print(table)
    cpus, gpus = (sum(machine.get(kind, 0.0) for machine in machines) for kind in ("CPU", "GPU"))
    number = f"{len(machines)} machine{'' if len(machines) == 1 else 's'}"
    typer.echo(f"CPU-core hours  {_hours(plan.cpu_hours)}")
    typer.echo(f"GPU hours       {_hours(plan.gpu_hours)}")
    typer.echo(
        f"wall hours      {_hours(plan.wall_hours)} on {number} with {cpus:g} CPUs, {gpus:g} GPUs "
        "(those that are up now)"
    )
    typer.echo(f"machine hours   {_hours(plan.wall_hours * len(machines))}")


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.1f}" if seconds else "-"


def _hours(hours: float) -> str:
    return f"{hours:.0f}" if hours >= 100 else f"{hours:.3g}"


def _table(title: str) -> Any:
    from rich.table import Table

    return Table(title=title, title_justify="left", box=None, pad_edge=False)


def _print(table: Any) -> None:
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = max(console.width, _WIDTH)
    console.print(table, soft_wrap=False)
