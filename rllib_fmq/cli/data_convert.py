"""``rllib data convert``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def convert(
    dataset: Annotated[
        str,
        typer.Argument(
            metavar="IN",
            help="File or folder: OGBench's or plain npz, RoboMimic's or D4RL's HDF5, Minari's "
            "folder or minari:ID, RLlib's Parquet, NAME.columns, a folder of npz shards.",
        ),
    ],
    out: Annotated[
        Path,
        typer.Argument(
            metavar="OUT",
            help="NAME.npz (plain), NAME.hdf5 (D4RL's), or NAME.columns: a folder that training "
            "reads from the disk, for data larger than memory.",
        ),
    ],
    env: Annotated[
        str | None,
        typer.Option(
            "--env", "-e", metavar="TASK", help="Task whose rewards to take; OGBench's need one."
        ),
    ] = None,
    filter_key: Annotated[
        str | None,
        typer.Option(metavar="K", help="Only the demonstrations in this mask of a RoboMimic file."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")] = False,
    verbose: Annotated[int, typer.Option("-v", "--verbose", count=True, help="Tracebacks.")] = 0,
) -> None:
    """Put a dataset into another format, rewards and ends of episodes included."""
    from rllib_fmq.cli.errors import set_verbosity
    from rllib_fmq.cli.quiet import quiet_loggers

    set_verbosity(verbose)
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    from rllib_fmq.data import convert as conversion
    from rllib_fmq.data.formats.detect import resolve

    quiet_loggers(verbose)
    console = Console(stderr=True)
    bar = Progress(
        TextColumn("[bold]{task.description}"),
        BarColumn(bar_width=10),
        MofNCompleteColumn(),
        TextColumn("files"),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    resolve(dataset)  # a name that leads nowhere needs no bar
    with bar:
        shown = bar.add_task(out.name, total=None)

        def report(done: int, total: int, name: str) -> None:
            bar.update(shown, completed=done, total=total)

        made = conversion.convert(
            dataset,
            out,
            env_name=env,
            filter_key=filter_key,
            overwrite=overwrite,
            progress=report,
        )
    typer.echo(
        f"{made.path}: {made.format}, {made.transitions:,} transitions in {made.episodes:,} "
        f"episodes, {made.bytes / 1e6:.1f} MB, fingerprint {made.fingerprint[:16]}"
    )
