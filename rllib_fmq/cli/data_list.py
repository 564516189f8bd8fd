"""``rllib data list``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def list_command(
    data_dir: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Look here first, then in $RLLIB_FMQ_DATA_DIR and ~/.ogbench/data.",
        ),
    ] = None,
    all_tasks: Annotated[
        bool, typer.Option("--all", help="Every task, by dataset, not only the paper's twelve.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON record a task, for programs.")
    ] = False,
) -> None:
    """Tasks with their sizes, the paper's scores, and what of their data is on this disk."""
    from rllib_fmq.data.downloads.listing import WIDTH, dataset_table, list_tasks, paper_tables

    listed = list_tasks(data_dir=data_dir, every=all_tasks)
    if as_json:
        import json

        typer.echo(json.dumps([entry.as_dict() for entry in listed], indent=1))
        return
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = max(console.width, WIDTH)
    show = dataset_table if all_tasks else paper_tables
    console.print(show(listed, data_dir), soft_wrap=False)
