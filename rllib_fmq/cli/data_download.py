"""``rllib data download``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def download_command(
    task: Annotated[
        str,
        typer.Argument(
            metavar="TASK",
            help="Task such as cube-dbl-t3 or can, or an OGBench dataset such as "
            "cube-double-play-v0.",
        ),
    ],
    data_dir: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder to put it in. (default: $RLLIB_FMQ_DATA_DIR or ~/.ogbench/data, where "
            "`rllib train` finds it)",
        ),
    ] = None,
    mirror: Annotated[
        list[str] | None,
        typer.Option(
            metavar="URL",
            help="Address under which the files lie, in place of the known ones; may be repeated. "
            "(default: $RLLIB_FMQ_MIRRORS)",
        ),
    ] = None,
    sha256: Annotated[
        str | None,
        typer.Option(metavar="HEX", help="SHA-256 that the (training) file must have."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace files that are there.")
    ] = False,
    verbose: Annotated[int, typer.Option("-v", "--verbose", count=True, help="Tracebacks.")] = 0,
) -> None:
    """Download a task's official dataset; a download that stopped goes on where it was."""
    from rllib_fmq.cli.errors import set_verbosity

    set_verbosity(verbose)
    from rllib_fmq.data.downloads.download import download

    path = download(task, data_dir=data_dir, mirrors=mirror, sha256=sha256, overwrite=overwrite)
    typer.echo(str(path))
