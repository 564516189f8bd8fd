"""``rllib data``: list, download, generate, convert, info."""

from __future__ import annotations

from typing import Annotated

import typer

from rllib_fmq.cli.data_convert import convert
from rllib_fmq.cli.data_download import download_command
from rllib_fmq.cli.data_generate import generate
from rllib_fmq.cli.data_list import list_command

data_app = typer.Typer(
    no_args_is_help=True, help="Find, download, make and convert datasets, and look into them."
)
data_app.command("list")(list_command)
data_app.command("download", epilog="Example: rllib data download cube-dbl-t3")(download_command)
data_app.command(
    "generate",
    epilog="Examples: rllib data generate cube-single-play-v0 --steps 100000; "
    "rllib data generate can --episodes 50",
)(generate)
data_app.command("convert", epilog="Example: rllib data convert demos.hdf5 demos.npz")(convert)


@data_app.command()
def info(
    file: Annotated[
        str, typer.Argument(metavar="PATH", help="File, folder or minari:ID, in any known format.")
    ],
    env: Annotated[
        str | None, typer.Option("--env", "-e", help="Task whose rewards and successes to show.")
    ] = None,
) -> None:
    """Counts, episodes, successes of each task, ranges."""
    from rllib_fmq.data.info import describe, format_info

    typer.echo(format_info(describe(file, env)))
