"""Tables of text, and how they are written in Markdown, LaTeX and HTML."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from html import escape
from typing import TypeAlias

Position: TypeAlias = tuple[int, int]
"""(row, column), from 0; the header is no row."""


@dataclass(frozen=True)
class Table:
    """A table whose cells are text.

    Args:
        title: A few words.
        caption: What the numbers are: one or two sentences.
        columns: Heads.
        rows: Cells; each row as long as ``columns``.
        bold: Cells to stress.
        underlined: Cells to stress less.
        notes: Sentences that a reader needs below the table.
        text_columns: Leading columns that hold words; the others hold numbers.
        summary_rows: Rows at the end that sum up those above.
    Raises:
        ValueError: If a row has another length than the head.
    """

    title: str
    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    bold: frozenset[Position] = field(default_factory=frozenset)
    underlined: frozenset[Position] = field(default_factory=frozenset)
    notes: tuple[str, ...] = ()
    text_columns: int = 1
    summary_rows: int = 0

    def __post_init__(self) -> None:
        for number, row in enumerate(self.rows):
            if len(row) != len(self.columns):
                raise ValueError(
                    f"table {self.title!r}: row {number} has {len(row)} cells, expected "
                    f"{len(self.columns)}."
                )

    @property
    def body(self) -> tuple[tuple[str, ...], ...]:
        """Rows above the summary."""
        return self.rows[: len(self.rows) - self.summary_rows]


def to_markdown(table: Table) -> str:
    """GitHub's Markdown: title and caption, the table, the notes as a list.

    Args:
        table: Any.
    Returns:
        Text that ends with a line break.
    """
    marks = {"bold": "**{}**", "underlined": "<ins>{}</ins>"}
    lines = [f"**{_markdown(table.title)}.** {_markdown(table.caption)}", ""]
    lines.append(_markdown_row([_markdown(column) for column in table.columns]))
    rules = [":--" if i < table.text_columns else "--:" for i in range(len(table.columns))]
    lines.append(_markdown_row(rules))
    lines += [_markdown_row(row) for row in _marked(table, _markdown, marks)]
    if table.notes:
        lines += ["", *(f"- {_markdown(note)}" for note in table.notes)]
    return "\n".join(lines) + "\n"


def to_latex(table: Table) -> str:
    """A LaTeX float with booktabs' rules; no other package is needed.

    Args:
        table: Any.
    Returns:
        Text that ends with a line break.
    """
    marks = {"bold": r"\textbf{{{}}}", "underlined": r"\underline{{{}}}"}
    kinds = "".join("l" if i < table.text_columns else "r" for i in range(len(table.columns)))
    rows = [" & ".join(row) + r" \\" for row in _marked(table, _latex, marks)]
    if table.summary_rows:
        rows.insert(len(table.body), r"\midrule")
    lines = [
        r"% \usepackage{booktabs}",
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_latex(table.title)}. {_latex(table.caption)}}}",
        rf"\begin{{tabular}}{{{kinds}}}",
        r"\toprule",
        " & ".join(map(_latex, table.columns)) + r" \\",
        r"\midrule",
        *rows,
        r"\bottomrule",
        r"\end{tabular}",
    ]
    if table.notes:
        lines += ["", r"\medskip", r"\footnotesize", _latex(" ".join(table.notes))]
    return "\n".join([*lines, r"\end{table}"]) + "\n"


def to_html(table: Table) -> str:
    """An HTML table with its caption, and its notes as a list of class "notes".

    Args:
        table: Any.
    Returns:
        ``<table>`` with scoped heads, then ``<ul>`` if there are notes; the title is left to
        the page, which knows its headings.
    """
    marks = {"bold": "<strong>{}</strong>", "underlined": "<u>{}</u>"}
    rows = list(_marked(table, escape, marks))
    split = len(table.body)
    heads = "".join(f'<th scope="col">{escape(column)}</th>' for column in table.columns)
    parts = [
        f"<table>\n<caption>{escape(table.caption)}</caption>",
        f"<thead>\n<tr>{heads}</tr>\n</thead>",
        "<tbody>\n" + "".join(_html_row(row, table.text_columns) for row in rows[:split]),
        "</tbody>",
    ]
    if table.summary_rows:
        summary = "".join(_html_row(row, table.text_columns) for row in rows[split:])
        parts.append(f"<tfoot>\n{summary}</tfoot>")
    parts.append("</table>")
    if table.notes:
        notes = "".join(f"<li>{escape(note)}</li>\n" for note in table.notes)
        parts.append(f'<ul class="notes">\n{notes}</ul>')
    return "\n".join(parts) + "\n"


def _marked(table: Table, escaped: Callable[[str], str], marks: dict[str, str]) -> list[list[str]]:
    """Escaped cells, with the marks of those that are stressed."""
    rows = []
    for r, row in enumerate(table.rows):
        cells = []
        for c, text in enumerate(row):
            cell = escaped(text)
            if (r, c) in table.bold and text:
                cell = marks["bold"].format(cell)
            elif (r, c) in table.underlined and text:
                cell = marks["underlined"].format(cell)
            cells.append(cell)
        rows.append(cells)
    return rows


def _markdown_row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _markdown(text: str) -> str:
    one_line = " ".join(text.split())
    return re.sub(r"([\\`*_|])", r"\\\1", one_line).replace("<", "&lt;")


def _html_row(cells: list[str], text_columns: int) -> str:
    # The first cell names the row; further words are cells as others are.
    rest = "".join(
        f'<td class="words">{cell}</td>' if i < text_columns else f"<td>{cell}</td>"
        for i, cell in enumerate(cells[1:], start=1)
    )
    return f'<tr><th scope="row">{cells[0]}</th>{rest}</tr>\n'


_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    **{letter: rf"\{letter}" for letter in "&%$#_{}"},
    "±": r"$\pm$",
    "×": r"$\times$",  # noqa: RUF001
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "−": "$-$",  # noqa: RUF001  (a minus sign, not a hyphen)
    "–": "--",  # noqa: RUF001
    "η": r"$\eta$",
    "β": r"$\beta$",
    "λ": r"$\lambda$",
    "ξ": r"$\xi$",
}


def _latex(text: str) -> str:
    escaped = "".join(_LATEX.get(letter, letter) for letter in " ".join(text.split()))
    escaped = re.sub(r'"([^"]*)"', r"``\1''", escaped)
    # A row that begins with "[" would be read as an argument of the \\ before it.
    return "{[}" + escaped[1:] if escaped.startswith("[") else escaped
