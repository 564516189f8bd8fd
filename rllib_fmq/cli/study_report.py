"""``rllib study report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    study: Annotated[
        Path,
        typer.Argument(
            metavar="STUDY", help="Folder of a study, or its results.parquet or results.csv."
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="DIR", help="Where to. (default: report in STUDY's folder)"
        ),
    ] = None,
    title: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="Of the report. (default: the study's name)"),
    ] = None,
    verbose: Annotated[int, typer.Option("-v", "--verbose", count=True, help="Tracebacks.")] = 0,
) -> None:
    """Turn a study's results into figures, tables and one page to read.

    Works while the study is running, too: what is not finished is left out and listed.
    """
    from rllib_fmq.cli.errors import set_verbosity

    set_verbosity(verbose)
    from rllib_fmq.analysis.figures.style import require_matplotlib

    require_matplotlib()
    from rllib_fmq.analysis.report import write_report
    from rllib_fmq.analysis.report_content import NOTHING_COMPARED, answers
    from rllib_fmq.analysis.study_data import study_data
    from rllib_fmq.studies.store import read_configs, read_info, read_results

    source = study.expanduser()
    data = study_data(read_results(source), read_info(source))
    folder = source if source.is_dir() else source.parent
    target = output if output is not None else folder / "report"
    files = write_report(data, read_configs(source), target, title, str(study))
    page, text, *others = files
    figures = sum(path.suffix == ".svg" for path in others)
    tables = sum(path.suffix == ".tex" for path in others)
    typer.echo(f"page      {page}")
    typer.echo(f"text      {text}")
    typer.echo(f"figures   {figures}, PNG and SVG, in {target / 'figures'}")
    typer.echo(f"tables    {tables}, Markdown and LaTeX, in {target / 'tables'}")
    if gaps := data.missing():
        listed = gaps[0] if len(gaps) == 1 else f"{gaps[0]} ..."
        typer.echo(f"missing   {len(gaps)}, listed in the report: {listed}")
    found = answers(data)
    for answer in found:
        typer.echo(f"answer    {answer.verdict}: {answer.sentence}")
    if not found:
        typer.echo(f"answer    {NOTHING_COMPARED}")
