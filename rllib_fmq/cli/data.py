"""``rllib data generate`` and ``rllib data info``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

data_app = typer.Typer(no_args_is_help=True, help="Make datasets, and look into them.")


@data_app.command(epilog="Example: rllib data generate cube-single-play-v0 --steps 100000 --seed 0")
def generate(
    task: Annotated[
        str,
        typer.Argument(
            metavar="TASK",
            help="Dataset such as cube-single-play-v0, or a single task on it.",
        ),
    ],
    steps: Annotated[
        int,
        typer.Option(
            "--steps", metavar="N", min=1, help="Transitions; validation data come on top."
        ),
    ] = 1_000_000,
    seed: Annotated[
        int, typer.Option(metavar="N", min=0, help="The same seed gives the same file.")
    ] = 0,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="File or folder. (default: $RLLIB_FMQ_DATA_DIR or ~/.ogbench/data, where "
            "`rllib train` finds it)",
        ),
    ] = None,
    num_workers: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=0,
            help="Episodes recorded at a time; 0: here, without Ray. (default: all CPUs)",
        ),
    ] = None,
    noise: Annotated[
        float | None,
        typer.Option(metavar="X", min=0, help="Action noise. (default: the official set's)"),
    ] = None,
    val_fraction: Annotated[
        float,
        typer.Option(
            metavar="X", min=0, max=1, help="Validation data, relative to --steps; 0: none."
        ),
    ] = 0.1,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an existing file.")
    ] = False,
    verbose: Annotated[int, typer.Option("-v", "--verbose", count=True, help="Tracebacks.")] = 0,
) -> None:
    """Record scripted policies in OGBench's format: cubes, scene, puzzles, point mazes."""
    from rllib_fmq.cli.errors import set_verbosity
    from rllib_fmq.cli.quiet import quiet_loggers

    set_verbosity(verbose)
    from rllib_fmq.data.generate import generate_dataset

    quiet_loggers(verbose)
    path = generate_dataset(
        task,
        output,
        steps=steps,
        seed=seed,
        num_workers=num_workers,
        noise=noise,
        val_fraction=val_fraction,
        overwrite=overwrite,
    )
    typer.echo(str(path))


@data_app.command()
def info(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Dataset, .npz.")],
    env: Annotated[
        str | None, typer.Option("--env", "-e", help="Task whose rewards and successes to show.")
    ] = None,
) -> None:
    """Counts, episodes, successes of each task, ranges."""
    from rllib_fmq.data.info import describe, format_info

    typer.echo(format_info(describe(file, env)))
