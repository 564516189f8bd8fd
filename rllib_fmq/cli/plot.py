"""``rllib plot``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def plot(
    results: Annotated[
        list[Path],
        typer.Argument(
            metavar="RESULTS...", help="Trial or experiment folders, or folders of experiments."
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Picture to write: .png, .svg or .pdf.")
    ] = Path("curves.png"),
) -> None:
    """Draw learning curves: success, distance from the offline policy, losses.

    Offline updates lie left of the switch, environment steps right of it. Runs that differ in
    their seed only are averaged.
    """
    from rllib_fmq.analysis.curves import plot_curves

    typer.echo(str(plot_curves(results, output)))
