"""``rllib train`` and ``rllib train file``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rllib_fmq.cli.errors import CommandError, set_verbosity
from rllib_fmq.cli.options import TrainOptions, takes_options

train_app = typer.Typer(invoke_without_command=True, no_args_is_help=True)

_EXAMPLES = """Examples:

rllib train --algo FMQ --env cube-single-play-singletask-task2-v0 --dataset cube-single-play-v0.npz

rllib train --algo PPO --env CartPole-v1 --stop '{"training_iteration": 5}'

rllib train file tuned_examples/fmq_cube_single.py --seed 1
"""


@train_app.callback(epilog=_EXAMPLES)
@takes_options(TrainOptions)
def train(
    options: TrainOptions,
    ctx: typer.Context,
    algo: Annotated[
        str | None,
        typer.Option(
            "--algo",
            "--run",
            "-a",
            metavar="NAME",
            help="FMQ, QGBS, MVP, QC, or one of RLlib's own.",
        ),
    ] = None,
    env: Annotated[
        str | None,
        typer.Option("--env", "-e", metavar="NAME", help="OGBench single task or Gymnasium id."),
    ] = None,
) -> None:
    """Train an algorithm on an environment, through Ray Tune.

    Results, TensorBoard files, a checkpoint, curves.png and rollout.mp4 go to
    STORAGE_PATH/EXPERIMENT_NAME. `rllib train file X.py` takes the settings from a Python file.
    """
    if ctx.invoked_subcommand is not None:
        if options != TrainOptions() or algo is not None or env is not None:
            raise CommandError(
                f"options of `rllib train {ctx.invoked_subcommand}` go behind the file's name: "
                f"rllib train {ctx.invoked_subcommand} FILE [OPTIONS].",
                exit_code=2,
            )
        return
    set_verbosity(options.verbose)
    from rllib_fmq.cli.configuration import from_names
    from rllib_fmq.cli.training import resume_experiment, run_experiment

    if options.resume:
        if algo is not None or env is not None:
            raise CommandError(
                "--resume goes on with the experiment's own algorithm and environment: leave "
                "--algo and --env away.",
                exit_code=2,
            )
        resume_experiment(options)
        return
    if algo is None:
        raise CommandError(
            "--algo is missing: FMQ, QGBS, MVP, QC, or one of RLlib's own such as PPO (see "
            "`rllib train --help`).",
            exit_code=2,
        )
    run_experiment(from_names(algo, env, options), options)


@train_app.command(
    "file",
    epilog="Example: rllib train file tuned_examples/fmq_cube_single.py --dataset FILE --seed 1",
)
@takes_options(TrainOptions)
def train_file(
    options: TrainOptions,
    path: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="Python file that defines `config`, an AlgorithmConfig, and if need be `stop` (a "
            "dict), `num_samples` and `tune_config` (a ray.tune.TuneConfig). It is run as code: "
            "only use files that you trust.",
        ),
    ],
) -> None:
    """Train with the settings of a Python file, such as those in tuned_examples/.

    Options given here go before the file's.
    """
    set_verbosity(options.verbose)
    from rllib_fmq.cli.configuration import from_file
    from rllib_fmq.cli.training import resume_experiment, run_experiment

    request = from_file(path, options)
    if options.resume:
        resume_experiment(options, request.config)
        return
    run_experiment(request, options)
