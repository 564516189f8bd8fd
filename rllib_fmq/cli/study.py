"""``rllib study run`` and ``rllib study report``."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rllib_fmq.cli.errors import INTERRUPTED, CommandError, set_verbosity
from rllib_fmq.cli.quiet import quiet_loggers
from rllib_fmq.cli.ray_session import start_ray
from rllib_fmq.cli.study_plan import show_plan
from rllib_fmq.cli.study_report import report

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ray.tune import PlacementGroupFactory

    from rllib_fmq.studies.definition import Study
    from rllib_fmq.studies.run import Outcome
    from rllib_fmq.studies.trials import Trial

study_app = typer.Typer(
    no_args_is_help=True, help="Compare methods over tasks, settings and seeds."
)

_RAY = "Ray"


@study_app.command(
    "run", epilog="Example: rllib study run tuned_examples/studies/quick.py --dataset-dir data"
)
def run(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="Python file that defines `study`, a rllib_fmq.studies.Study. It is run as code: "
            "only use files that you trust.",
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="DIR",
            help="Everything goes here, and what is here is not run again. (default: "
            "results/NAME, with the study's name)",
        ),
    ] = None,
    dataset_dir: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where datasets are looked for first."),
    ] = None,
    max_concurrent: Annotated[
        int,
        typer.Option(
            metavar="N", min=0, help="Trials at a time. (default: as many as there is room for)"
        ),
    ] = 0,
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TEXT",
            help="Only trials whose names hold this, such as task2 or FMQ, and what they start "
            "from; given more than once, all of them.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only list the trials, and what is done of them.")
    ] = False,
    plan: Annotated[
        bool,
        typer.Option(
            "--plan",
            help="Only estimate the machine-hours of what is left, from short runs on this machine "
            "or cluster.",
        ),
    ] = False,
    ray_address: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Join this cluster.", rich_help_panel=_RAY),
    ] = None,
    ray_num_cpus: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="CPUs for all trials.", rich_help_panel=_RAY),
    ] = None,
    ray_num_gpus: Annotated[
        int | None, typer.Option(metavar="N", min=0, rich_help_panel=_RAY)
    ] = None,
    verbose: Annotated[int, typer.Option("-v", "--verbose", count=True, help="Tracebacks.")] = 0,
) -> None:
    """Run what is missing of a study: each trial once, methods from shared offline policies.

    Give the same command again after an interruption, or after adding tasks, methods, settings
    or seeds to the file. A trial that fails does not stop the others.
    """
    set_verbosity(verbose)
    from rllib_fmq.registration import register_algorithms
    from rllib_fmq.studies import load_study
    from rllib_fmq.studies.run import check_datasets, run_study
    from rllib_fmq.studies.trials import choose_trials, plan_trials

    quiet_loggers(verbose)

    if dataset_dir is not None and not dataset_dir.is_dir():
        raise CommandError(f"--dataset-dir {dataset_dir}: no such folder.")
    register_algorithms()
    study = load_study(file)
    folder = Path("results") / study.name if output is None else output
    if folder.exists() and not folder.is_dir():
        raise CommandError(f"--output {folder}: that is a file; name a folder.", exit_code=2)
    trials = choose_trials(plan_trials(study, dataset_dir), only or ())
    if dry_run:
        _list(trials, folder)
        return
    if plan:
        check_datasets(trials)
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"
    start_ray(
        _requests(study, trials),
        address=ray_address,
        num_cpus=ray_num_cpus,
        num_gpus=ray_num_gpus,
        verbose=verbose,
    )
    import ray

    try:
        if plan:
            show_plan(study, trials, folder, max_concurrent)
            return
        outcome = run_study(
            study,
            folder,
            command=_command(file, output, dataset_dir),
            dataset_dir=dataset_dir,
            max_concurrent=max_concurrent,
            only=only or (),
            say=typer.echo,
        )
    finally:
        ray.shutdown()
    _conclude(outcome, folder)


study_app.command(
    "report", epilog="Example: rllib study report results/quick -o results/quick/report"
)(report)


def _command(file: Path, output: Path | None, dataset_dir: Path | None) -> str:
    """What repeats the whole study, to be typed."""
    words: list[Path | str] = ["rllib", "study", "run", file]
    if dataset_dir is not None:
        words += ["--dataset-dir", dataset_dir]
    if output is not None:
        words += ["-o", output]
    return shlex.join(map(str, words))


def _requests(study: Study, trials: Sequence[Trial]) -> list[PlacementGroupFactory]:
    """What the trials reserve, each once."""
    from rllib_fmq.studies.run import trial_resources

    return list(dict.fromkeys(trial_resources(study, trial) for trial in trials))


def _list(trials: Sequence[Trial], folder: Path) -> None:
    from rllib_fmq.studies.trial_run import is_complete, is_trained

    for trial in trials:
        done = is_complete(folder, trial)
        state = "done" if done else "to evaluate" if is_trained(folder, trial) else "to run"
        start = f" from {trial.parent}" if trial.parent else ""
        typer.echo(f"{state:>11}  {trial.id}{start}")
    typer.echo(f"{len(trials)} trials, {sum(is_complete(folder, t) for t in trials)} of them done")


def _conclude(outcome: Outcome, folder: Path) -> None:
    state = f"{outcome.finished} of {outcome.total} trials are complete"
    if outcome.stopped:
        state += f", {outcome.stopped} stopped by the scheduler"
    typer.echo(f"{state}: {folder}")
    if outcome.finished:
        typer.echo(f"report: rllib study report {shlex.quote(str(folder))}")
    problems = []
    if outcome.failed:
        name, error = next(iter(outcome.failed.items()))
        problems.append(f"{_trials(len(outcome.failed))} failed, such as {name}: {error}")
    if outcome.blocked:
        name, error = next(iter(outcome.blocked.items()))
        problems.append(f"{_trials(len(outcome.blocked))} cannot start, such as {name}: {error}")
    if outcome.unfinished:
        problems.append(
            f"interrupted: {_trials(len(outcome.unfinished))} left; give the same command again to "
            "go on."
        )
    if problems:
        interrupted_only = bool(outcome.unfinished) and len(problems) == 1
        raise CommandError(" ".join(problems), exit_code=INTERRUPTED if interrupted_only else 1)


def _trials(number: int) -> str:
    return f"{number} trial{'' if number == 1 else 's'}"
