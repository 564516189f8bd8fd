"""Markdown, LaTeX and HTML of a table."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest

from rllib_fmq.analysis.table_format import Table, to_html, to_latex, to_markdown

TABLE = Table(
    title="A | b",
    caption="50% of {B, M} & more_or_less <all>.",
    columns=("Task", "Method", "x_1 ± std", "IQM"),
    rows=(
        ("a_b", "FMQ*", "0.50 ± 0.10", "1"),
        ("c", "QC", "–", "[2]"),  # noqa: RUF001
        ("IQM [95% CI]", "", "0.5 × 2", "3"),  # noqa: RUF001
    ),
    bold=frozenset({(0, 2), (2, 3)}),
    underlined=frozenset({(1, 3)}),
    notes=('First "#1".', "Second\nline ~ ^ \\."),
    text_columns=2,
    summary_rows=1,
)


def test_markdown() -> None:
    assert to_markdown(TABLE).splitlines() == [
        r"**A \| b.** 50% of {B, M} & more\_or\_less &lt;all>.",
        "",
        r"| Task | Method | x\_1 ± std | IQM |",
        "| :-- | :-- | --: | --: |",
        r"| a\_b | FMQ\* | **0.50 ± 0.10** | 1 |",
        "| c | QC | – | <ins>[2]</ins> |",  # noqa: RUF001
        "| IQM [95% CI] |  | 0.5 × 2 | **3** |",  # noqa: RUF001
        "",
        '- First "#1".',
        r"- Second line ~ ^ \\.",
    ]


def test_latex() -> None:
    assert to_latex(TABLE).splitlines() == [
        r"% \usepackage{booktabs}",
        r"\begin{table}",
        r"\centering",
        r"\caption{A \textbar{} b. 50\% of \{B, M\} \& more\_or\_less "
        r"\textless{}all\textgreater{}.}",
        r"\begin{tabular}{llrr}",
        r"\toprule",
        r"Task & Method & x\_1 $\pm$ std & IQM \\",
        r"\midrule",
        r"a\_b & FMQ* & \textbf{0.50 $\pm$ 0.10} & 1 \\",
        r"c & QC & -- & \underline{{[}2]} \\",
        r"\midrule",
        r"IQM [95\% CI] &  & 0.5 $\times$ 2 & \textbf{3} \\",
        r"\bottomrule",
        r"\end{tabular}",
        "",
        r"\medskip",
        r"\footnotesize",
        r"First ``\#1''. Second line \textasciitilde{} \textasciicircum{} \textbackslash{}.",
        r"\end{table}",
    ]


class _Parser(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.found: list[tuple[str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        words = [f"{key}={value}" for key, value in attrs]
        self.open.append(" ".join([tag, *words]))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop().split()[0] == tag

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.found.append((" > ".join(self.open), data))


def test_html() -> None:
    parser = _Parser()
    parser.feed(to_html(TABLE))
    assert parser.open == []
    found = parser.found
    assert found[0] == ("table > caption", "50% of {B, M} & more_or_less <all>.")
    heads = [text for where, text in found if where == "table > thead > tr > th scope=col"]
    assert heads == list(TABLE.columns)
    rows = [text for where, text in found if where.endswith("> th scope=row")]
    assert rows == ["a_b", "c", "IQM [95% CI]"]
    assert ("table > tbody > tr > td > strong", "0.50 ± 0.10") in found
    assert ("table > tbody > tr > td > u", "[2]") in found
    assert ("table > tbody > tr > td class=words", "FMQ*") in found
    assert ("table > tfoot > tr > td > strong", "3") in found
    assert [text for where, text in found if where.startswith("ul class=notes")] == [
        'First "#1".',
        "Second\nline ~ ^ \\.",
    ]


def test_a_table_without_notes_and_summary() -> None:
    plain = Table("T", "C.", ("a",), (("1",),))
    assert "tfoot" not in to_html(plain) and "<ul" not in to_html(plain)
    assert to_latex(plain).count(r"\midrule") == 1 and "footnotesize" not in to_latex(plain)
    assert to_markdown(plain).endswith("| 1 |\n")


def test_refuses_rows_of_another_length() -> None:
    with pytest.raises(ValueError, match="row 1 has 1 cells, expected 2"):
        Table("T", "C.", ("a", "b"), (("1", "2"), ("3",)))
