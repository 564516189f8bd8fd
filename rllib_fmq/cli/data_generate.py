"""``rllib data generate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

_OGBENCH = "OGBench tasks"
_ROBOMIMIC = "RoboMimic tasks (lift, can, square)"
_STEPS = 1_000_000
_EPISODES = 200


def generate(
    task: Annotated[
        str,
        typer.Argument(
            metavar="TASK",
            help="Task such as cube-dbl-t3 or can, or an OGBench dataset such as "
            "cube-single-play-v0.",
        ),
    ],
    seed: Annotated[
        int, typer.Option(metavar="N", min=0, help="The same seed gives the same data.")
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
    val_fraction: Annotated[
        float,
        typer.Option(
            metavar="X",
            min=0,
            max=1,
            help="Validation data: on top of --steps in a file beside it (OGBench), or this share "
            "of the demonstrations in the mask valid (RoboMimic).",
        ),
    ] = 0.1,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an existing file.")
    ] = False,
    steps: Annotated[
        int | None,
        typer.Option(
            "--steps",
            metavar="N",
            min=1,
            help=f"Transitions. (default: {_STEPS:,})",
            rich_help_panel=_OGBENCH,
        ),
    ] = None,
    noise: Annotated[
        float | None,
        typer.Option(
            metavar="X",
            min=0,
            help="Action noise. (default: the official set's)",
            rich_help_panel=_OGBENCH,
        ),
    ] = None,
    goal_fraction: Annotated[
        float | None,
        typer.Option(
            metavar="X",
            min=0,
            max=1,
            help="Share of the episodes that are directed at the goals of the tasks, so that small "
            "sets contain successes; cubes, scene and puzzles. (default: 0, as official)",
            rich_help_panel=_OGBENCH,
        ),
    ] = None,
    policy: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.npz|CHECKPOINT",
            help="Low-level walking policy of an ant or a humanoid; "
            "examples/train_directional_policy.py trains one.",
            rich_help_panel=_OGBENCH,
        ),
    ] = None,
    trust: Annotated[
        bool,
        typer.Option(
            "--trust",
            help="Let a --policy that is an RLlib checkpoint run code: it is a pickle. Only if you "
            "trust where it comes from.",
            rich_help_panel=_OGBENCH,
        ),
    ] = False,
    episodes: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help=f"Demonstrations. (default: {_EPISODES})",
            rich_help_panel=_ROBOMIMIC,
        ),
    ] = None,
    keep_failures: Annotated[
        bool,
        typer.Option(
            "--keep-failures",
            help="Keep demonstrations that did not succeed.",
            rich_help_panel=_ROBOMIMIC,
        ),
    ] = False,
    verbose: Annotated[int, typer.Option("-v", "--verbose", count=True, help="Tracebacks.")] = 0,
) -> None:
    """Record scripted policies: OGBench's format for its tasks, RoboMimic's HDF5 for its own."""
    from rllib_fmq.cli.errors import set_verbosity
    from rllib_fmq.cli.quiet import quiet_loggers

    set_verbosity(verbose)
    from rllib_fmq.tasks.catalog import parse_robomimic

    common: dict[str, Any] = {
        "seed": seed,
        "num_workers": num_workers,
        "val_fraction": val_fraction,
        "overwrite": overwrite,
    }
    ogbench = {"steps": steps, "noise": noise, "goal_fraction": goal_fraction, "policy": policy}
    robomimic = {"episodes": episodes, "keep_failures": keep_failures or None}
    quiet_loggers(verbose)
    if parse_robomimic(task):
        _refuse(task, ogbench, _ROBOMIMIC)
        from rllib_fmq.data.generation.demonstrate import generate_demonstrations

        path = generate_demonstrations(
            task, output, episodes=episodes or _EPISODES, keep_failures=keep_failures, **common
        )
    else:
        _refuse(task, robomimic, _OGBENCH)
        _check_trust(policy, trust)
        from rllib_fmq.data.generation.generate import generate_dataset

        path = generate_dataset(
            task,
            output,
            steps=steps or _STEPS,
            noise=noise,
            goal_fraction=goal_fraction or 0.0,
            policy=policy,
            **common,
        )
    typer.echo(str(path))


def _check_trust(policy: Path | None, trust: bool) -> None:
    """RLlib's checkpoints are pickles, npz files are not."""
    from rllib_fmq.cli.errors import CommandError

    if policy is not None and policy.expanduser().is_dir() and not trust:
        raise CommandError(
            f"--policy {policy} is a folder: an RLlib checkpoint is a pickle, and reading it can "
            "run code. Give --trust if you trust its origin, or a .npz file."
        )


def _refuse(task: str, foreign: dict[str, Any], own: str) -> None:
    """Options of the other benchmark would be passed over in silence."""
    from rllib_fmq.cli.errors import CommandError

    given = [f"--{name.replace('_', '-')}" for name, value in foreign.items() if value is not None]
    if given:
        raise CommandError(
            f"{' and '.join(given)} cannot be used for {task!r}: see the options for {own} in "
            "`rllib data generate --help`.",
            exit_code=2,
        )
