"""The command ``rllib``: train, evaluate, export, plot, study, data.

Modules here import Ray and torch inside functions only, so that help and usage errors are quick.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from rllib_fmq._version import __version__
from rllib_fmq.cli.data import data_app
from rllib_fmq.cli.errors import run_app
from rllib_fmq.cli.evaluate import evaluate
from rllib_fmq.cli.export import export
from rllib_fmq.cli.plot import plot
from rllib_fmq.cli.quiet import quiet_environment
from rllib_fmq.cli.study import study_app
from rllib_fmq.cli.train import train_app

__all__ = ["app", "main"]

app = typer.Typer(
    name="rllib",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(train_app, name="train")
app.command("evaluate")(evaluate)
app.command("export")(export)
app.command("plot")(plot)
app.add_typer(study_app, name="study")
app.add_typer(data_app, name="data")


def _print_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"rllib-fmq {__version__}, ray {version('ray')}")
        raise typer.Exit


@app.callback(
    epilog="Start with: rllib data generate cube-single-play-v0 --steps 100000 --seed 0, then "
    "rllib train --algo FMQ --env cube-single-play-singletask-task2-v0"
)
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print versions and exit."
        ),
    ] = False,
) -> None:
    """Train and evaluate flow-map policies (FMQ, QGBS, MVP, QC) and RLlib's own algorithms."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: Without the program's name; None: those of this process.
    Returns:
        Exit code: 0, 1 for a failed run or bad input, 2 for wrong usage, 130 when interrupted.
    """
    quiet_environment()
    return run_app(app, arguments)
