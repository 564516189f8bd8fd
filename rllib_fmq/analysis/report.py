"""A study's report: figures, tables, and both as one page and as one Markdown file."""

from __future__ import annotations

import os
import shlex
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rllib_fmq.analysis.figures.catalogue import FIGURES, FigureSpec
from rllib_fmq.analysis.figures.style import SUFFIXES, require_matplotlib, save
from rllib_fmq.analysis.report_content import (
    Report,
    ReportFigure,
    ReportTable,
    answers,
    facts,
    scale_words,
)
from rllib_fmq.analysis.report_html import report_html
from rllib_fmq.analysis.report_markdown import report_markdown
from rllib_fmq.analysis.study_data import Configs, StudyData
from rllib_fmq.analysis.table_catalogue import TABLES
from rllib_fmq.analysis.table_format import Table, to_latex, to_markdown

HTML, MARKDOWN = "report.html", "report.md"
_FIGURES, _TABLES = "figures", "tables"
_STAGING = ".staging-"
_WRITERS: Mapping[str, Callable[[Table], str]] = {".md": to_markdown, ".tex": to_latex}


def write_report(
    data: StudyData,
    configs: Configs,
    output: Path,
    title: str | None = None,
    source: str = "",
) -> list[Path]:
    """Write a study's report into a folder.

        report.html     everything, in one file that needs no other
        report.md       the same, with the figures' files beside it
        figures/        PNG and SVG
        tables/         Markdown and LaTeX

    All is made in a temporary folder within first; what a killed report left of one is removed.
    Files of an earlier report are replaced, or removed where the study has no data for them any
    more; other files in the folder stay. The same table gives the same bytes. Two reports must
    not be written into one folder at a time.

    Args:
        data: The study.
        configs: config_id -> full config; may be empty.
        output: Folder, made if need be.
        title: Of the report; None: the study's name.
        source: Path that the study was read from, for "How to reproduce"; "": results/NAME.
    Returns:
        The files, the page first.
    Raises:
        ValueError: If files are in the way of folders.
        ModuleNotFoundError: If matplotlib is not installed.
    """
    require_matplotlib()
    output = output.expanduser()
    _check_free(output)
    is_new = not output.exists()
    output.mkdir(parents=True, exist_ok=True)
    for left_behind in output.glob(f"{_STAGING}*"):
        shutil.rmtree(left_behind, ignore_errors=True)
    # Within the output, which may be another disk than the folder that it appears in.
    staging = Path(tempfile.mkdtemp(dir=output, prefix=_STAGING))
    try:
        _write(data, configs, staging, title, source)
        return _move(staging, output)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        if is_new and not any(output.iterdir()):
            output.rmdir()


def _write(data: StudyData, configs: Configs, folder: Path, title: str | None, source: str) -> None:
    absent: list[tuple[str, str]] = []
    figures: list[ReportFigure] = []
    pictures: dict[str, str] = {}
    for spec in FIGURES:
        figure = spec.draw(data, configs)
        if figure is None:
            absent.append((f"Figure “{spec.title}”", spec.absent))
            continue
        save(figure, folder / _FIGURES, spec.key)
        pictures[spec.key] = (folder / _FIGURES / f"{spec.key}.svg").read_text(encoding="utf-8")
        figures.append(ReportFigure(spec.key, spec.title, spec.caption, _alt(spec, data)))
    tables: list[ReportTable] = []
    for entry in TABLES:
        table = entry.build(data, configs)
        if table is None:
            absent.append((f"Table “{entry.title}”", entry.needs))
            continue
        tables.append(ReportTable(entry.key, table))
        for suffix, written in _WRITERS.items():
            _put(folder / _TABLES / f"{entry.key}{suffix}", written(table))
    info = data.info
    name = str(info.get("name") or "")
    scale, note = scale_words(data, configs)
    report = Report(
        title=title or (f"Study {name}" if name else "Report of a study"),
        description=str(info.get("description") or ""),
        facts=facts(data),
        scale=scale,
        scale_note=note,
        answers=answers(data),
        figures=figures,
        tables=tables,
        missing=data.missing(),
        absent=absent,
        commands=_commands(info, source),
    )
    _put(folder / HTML, report_html(report, pictures))
    _put(folder / MARKDOWN, report_markdown(report))


def _alt(spec: FigureSpec, data: StudyData) -> str:
    tasks = ", ".join(data.short_name(task) for task in data.tasks)
    return f"{spec.alt}. Tasks: {tasks}; methods: {', '.join(data.methods)}."


def _commands(info: Mapping[str, Any], source: str) -> list[str]:
    made = str(info.get("command") or "")
    path = source or f"results/{info.get('name') or 'STUDY'}"
    return [*([made] if made else []), f"rllib study report {shlex.quote(path)}"]


def _put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="\n")


def _check_free(output: Path) -> None:
    for folder in (output, output / _FIGURES, output / _TABLES):
        if folder.exists() and not folder.is_dir():
            raise ValueError(
                f"cannot write the report to {output}: {folder} is a file; name another folder."
            )
    for path in (output / name for name in _known()):
        if path.is_dir():
            raise ValueError(
                f"cannot write the report to {output}: {path} is a folder; name another one."
            )


def _known() -> list[str]:
    """Every file that a report can have."""
    figures = [f"{_FIGURES}/{spec.key}{suffix}" for spec in FIGURES for suffix in SUFFIXES]
    tables = [f"{_TABLES}/{entry.key}{suffix}" for entry in TABLES for suffix in _WRITERS]
    return [HTML, MARKDOWN, *figures, *tables]


def _move(staging: Path, output: Path) -> list[Path]:
    """Put the finished files in their places; the two texts last, which speak of the others."""
    written = []
    for name in reversed(_known()):
        source, target = staging / name, output / name
        if source.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(source, target)
            written.append(target)
        else:
            target.unlink(missing_ok=True)
    return written[::-1]
