"""A study report as Markdown, which shows the figures' files beside it."""

from __future__ import annotations

from collections.abc import Iterable

from rllib_fmq.analysis.report_content import (
    NOTHING_ABSENT,
    NOTHING_COMPARED,
    NOTHING_MISSING,
    REPRODUCE,
    Report,
)
from rllib_fmq.analysis.table_format import to_markdown


def report_markdown(report: Report) -> str:
    """The report as a Markdown file in the folder of figures/ and tables/.

    Args:
        report: What it says.
    Returns:
        Markdown; the same report gives the same text.
    """
    parts = [f"# {report.title}", report.description]
    parts.append(f"**Scale: {report.scale}.** {report.scale_note}")
    parts += ["## Answers", _answers(report)]
    parts += ["## What was run", _items(f"{name}: {value}" for name, value in report.facts)]
    parts.append("## Figures")
    for figure in report.figures:
        parts += [
            f"### {figure.title}",
            f"![{figure.alt}](figures/{figure.key}.png)",
            figure.caption,
        ]
    parts.append("## Tables")
    parts += [to_markdown(entry.table) for entry in report.tables]
    parts += ["## Missing or unequal", _items(report.missing) or NOTHING_MISSING]
    parts += ["## Not in this report", _absent(report)]
    parts += ["## How to reproduce", REPRODUCE]
    parts.append("\n".join(["```", *report.commands, "```"]))
    return "\n\n".join(part.strip() for part in parts if part.strip()) + "\n"


def _answers(report: Report) -> str:
    said = [f"**{answer.verdict}**: {answer.sentence}" for answer in report.answers]
    return _items(said) or NOTHING_COMPARED


def _absent(report: Report) -> str:
    return _items(f"**{title}**: {reason}" for title, reason in report.absent) or NOTHING_ABSENT


def _items(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)
