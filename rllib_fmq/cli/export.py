"""``rllib export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def export(
    checkpoint: Annotated[
        Path,
        typer.Argument(
            metavar="CHECKPOINT",
            help="Checkpoint of FMQ, QGBS, MVP or QC; or a trial or experiment folder, whose "
            "latest checkpoint is taken.",
        ),
    ],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="FOLDER", help="Folder to write; must be new."),
    ] = Path("policy"),
    trust: Annotated[
        bool,
        typer.Option(
            "--trust",
            help="Let the checkpoint run code, where it is of an older version or names a "
            "module:factory; only if you trust where it comes from.",
        ),
    ] = False,
    verbose: Annotated[int, typer.Option("-v", "--verbose", count=True, help="Tracebacks.")] = 0,
) -> None:
    """Write a policy that acts without Ray and without this package: PyTorch and ONNX programs."""
    from rllib_fmq.cli.errors import set_verbosity
    from rllib_fmq.cli.quiet import quiet_loggers

    set_verbosity(verbose)
    from rllib_fmq.serving.export import export_policy

    quiet_loggers(verbose)
    report = export_policy(checkpoint, output, trust)
    typer.echo(f"policy: {output} ({report.algorithm}; {', '.join(report.selectors)})")
    typer.echo(
        f"checked: the programs' actions differ from the checkpoint's by at most "
        f"{report.largest_difference:.1e} in [-1, 1]"
    )
    if report.flat_reason:
        typer.echo(
            f"observations: flat vectors only, as the environment gave no description "
            f"({report.flat_reason})"
        )
