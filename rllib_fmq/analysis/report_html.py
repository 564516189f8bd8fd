"""A study report as one HTML file that needs no network, no script and no other file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape

from rllib_fmq.analysis.inline_svg import inline_svg
from rllib_fmq.analysis.report_content import (
    NOTHING_ABSENT,
    NOTHING_COMPARED,
    NOTHING_MISSING,
    REPRODUCE,
    Answer,
    Report,
    ReportFigure,
    ReportTable,
)
from rllib_fmq.analysis.table_format import to_html

# Colours of both schemes have a contrast of at least 4.5 : 1 with their background. Figures keep
# a white card in the dark, since their axes are black.
_CSS = """
:root { color-scheme: light dark; --paper: #ffffff; --ink: #1c2024; --quiet: #59636e;
  --line: #d5dae0; --soft: #f4f6f8; --link: #0a58ca; --note: #fff6dd; --note-line: #b58400; }
@media (prefers-color-scheme: dark) { :root { --paper: #14171a; --ink: #e6e9ec; --quiet: #a3adb8;
  --line: #3a424b; --soft: #1e2328; --link: #7ab7ff; --note: #2e2711; --note-line: #d9a514; } }
* { box-sizing: border-box; }
html { scroll-behavior: smooth; -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", "Liberation Sans", Arial, sans-serif; }
a { color: var(--link); }
.page { max-width: 76rem; margin: 0 auto; padding: 1.25rem 1rem 3rem; }
header h1 { font-size: 1.8rem; line-height: 1.2; margin: 0 0 .25rem; overflow-wrap: anywhere; }
header p { margin: 0; color: var(--quiet); }
h2 { font-size: 1.35rem; margin: 2.5rem 0 .75rem; padding-top: .75rem;
  border-top: 1px solid var(--line); }
h3 { font-size: 1.08rem; margin: 0 0 .6rem; }
#summary h2 { border-top: 0; margin-top: .75rem; padding-top: 0; }
nav { background: var(--soft); border-radius: 8px; padding: .75rem 1rem; margin: 1.25rem 0;
  font-size: .92rem; }
nav ol { list-style: none; margin: 0; padding: 0; }
nav ol ol { padding-left: .9rem; margin-bottom: .3rem; }
nav a { text-decoration: none; display: inline-block; padding: .1rem 0; }
nav a:hover, nav a:focus { text-decoration: underline; }
nav summary { font-weight: 600; cursor: pointer; }
.scale { background: var(--note); border-left: 4px solid var(--note-line); padding: .7rem 1rem;
  border-radius: 0 8px 8px 0; margin: 1rem 0; }
.scale p { margin: 0; }
dl.facts { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1.25rem; margin: 0; }
dl.facts dt { color: var(--quiet); }
dl.facts dd { margin: 0; overflow-wrap: anywhere; }
ul.answers { list-style: none; margin: 0 0 1.5rem; padding: 0; }
ul.answers li { border: 1px solid var(--line); border-radius: 8px; padding: .55rem .8rem;
  margin: .5rem 0; }
.verdict { display: inline-block; font-weight: 600; font-size: .85rem; margin-right: .5rem;
  border: 1px solid currentColor; border-radius: 99px; padding: 0 .55rem; white-space: nowrap; }
figure, .table { margin: 0 0 2.25rem; }
.card { background: #ffffff; border: 1px solid var(--line); border-radius: 8px; padding: .75rem;
  overflow-x: auto; }
.card svg { display: block; width: 100%; height: auto; margin: 0 auto; }
.card svg * { stroke-linejoin: round; stroke-linecap: butt; }
figcaption, .caption, .notes { color: var(--quiet); font-size: .93rem; max-width: 56rem; }
figcaption, .notes { margin: .5rem 0 0; }
.caption { margin: 0 0 .5rem; }
.swipe { display: none; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .87rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .55rem; text-align: left; border-bottom: 1px solid var(--line);
  white-space: nowrap; vertical-align: top; }
thead th { border-bottom: 2px solid var(--ink); }
tfoot tr:first-child > * { border-top: 2px solid var(--line); }
/* A wide table is scrolled below its caption, not with it. */
table caption { text-align: left; color: var(--quiet); padding-bottom: .4rem; position: sticky;
  left: 0; max-width: min(52rem, 100vw - 2rem); }
pre { background: var(--soft); border-radius: 8px; padding: .75rem 1rem; overflow-x: auto; }
code { font-family: ui-monospace, "Liberation Mono", Menlo, Consolas, monospace; font-size: .9em; }
.card:focus-visible, .scroll:focus-visible, a:focus-visible { outline: 2px solid var(--link);
  outline-offset: 2px; }
@media (min-width: 70rem) {
  .columns { display: grid; grid-template: auto 1fr / 13rem minmax(0, 1fr); gap: 0 2rem; }
  .columns > * { grid-column: 2; }
  .columns > nav { grid-column: 1; grid-row: 1 / span 2; position: sticky; top: 1rem;
    align-self: start; max-height: calc(100vh - 2rem); overflow-y: auto; }
}
@media (max-width: 44rem) {
  header h1 { font-size: 1.45rem; }
  dl.facts { grid-template-columns: 1fr; gap: 0; }
  dl.facts dd { margin: 0 0 .5rem; }
  .swipe { display: block; margin: 0 0 .4rem; color: var(--quiet); font-size: .85rem; }
}
@media (prefers-reduced-motion: reduce) { html { scroll-behavior: auto; } }
@media print {
  :root { --paper: #ffffff; --ink: #000000; --quiet: #333333; --line: #999999; --soft: #ffffff;
    --link: #000000; --note: #ffffff; --note-line: #555555; }
  body { font-size: 10.5pt; }
  .page { max-width: none; padding: 0; }
  nav, .swipe { display: none; }
  .columns { display: block; }
  .card { border: 0; padding: 0; overflow: visible; }
  .card svg { min-width: 0 !important; }
  .scroll { overflow: visible; }
  table { font-size: 8.5pt; }
  th, td { white-space: normal; padding: .15rem .35rem; }
  figure, tr, ul.answers li, .scale { break-inside: avoid; }
  h2, h3 { break-after: avoid; }
}
"""


def report_html(report: Report, pictures: Mapping[str, str]) -> str:
    """The report as a page.

    Args:
        report: What it says.
        pictures: SVG document of each figure, by the figure's key.
    Returns:
        HTML; the same report gives the same text.
    """
    sections = _sections(report, pictures)
    contents = "".join(
        f'<li><a href="#{key}">{escape(title)}</a>{_sublist(parts)}</li>'
        for key, title, parts, _ in sections
    )
    first, *others = (
        f'<section id="{key}">\n<h2>{escape(title)}</h2>\n{content}</section>\n'
        for key, title, _, content in sections
    )
    description = f"<p>{escape(report.description)}</p>\n" if report.description else ""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(report.title)}</title>\n<style>{_CSS}</style>\n</head>\n<body>\n"
        f'<div class="page">\n<header>\n<h1>{escape(report.title)}</h1>\n{description}</header>\n'
        # On a phone what matters most comes before the contents; elsewhere they stand beside.
        f'<main class="columns">\n{first}<nav aria-label="Contents"><details open>'
        f"<summary>Contents</summary>\n<ol>{contents}</ol></details></nav>\n"
        f'<div class="rest">\n{"".join(others)}</div>\n</main>\n</div>\n</body>\n</html>\n'
    )


Section = tuple[str, str, Sequence[tuple[str, str]], str]
"""Id, title, its parts' ids and titles, and HTML."""


def _sections(report: Report, pictures: Mapping[str, str]) -> list[Section]:
    figures = [(f"figure-{figure.key}", figure.title) for figure in report.figures]
    tables = [(f"table-{entry.key}", entry.table.title) for entry in report.tables]
    drawn = "".join(_figure(figure, pictures[figure.key]) for figure in report.figures)
    written = "".join(_table(entry) for entry in report.tables)
    return [
        ("summary", "In short", (), _summary(report)),
        ("figures", "Figures", figures, drawn or _paragraph("No figure has data.")),
        ("tables", "Tables", tables, written or _paragraph("No table has data.")),
        ("missing", "Missing or unequal", (), _missing(report.missing)),
        ("absent", "Not in this report", (), _absent(report.absent)),
        ("reproduce", "How to reproduce", (), _reproduce(report)),
    ]


def _sublist(parts: Sequence[tuple[str, str]]) -> str:
    if not parts:
        return ""
    items = "".join(f'<li><a href="#{key}">{escape(title)}</a></li>' for key, title in parts)
    return f"<ol>{items}</ol>"


def _summary(report: Report) -> str:
    scale = (
        f'<div class="scale"><p><strong>Scale: {escape(report.scale)}.</strong> '
        f"{escape(report.scale_note)}</p></div>\n"
    )
    rows = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>\n" for name, value in report.facts
    )
    return (
        f'{scale}{_answers(report.answers)}<h3>What was run</h3>\n<dl class="facts">\n{rows}</dl>\n'
    )


def _answers(answers: Iterable[Answer]) -> str:
    items = "".join(
        f'<li><span class="verdict">{escape(a.verdict)}</span>{escape(a.sentence)}</li>\n'
        for a in answers
    )
    if not items:
        return _paragraph(NOTHING_COMPARED)
    return f'<h3>Answers</h3>\n<ul class="answers">\n{items}</ul>\n'


def _figure(figure: ReportFigure, picture: str) -> str:
    key = f"figure-{figure.key}"
    return (
        f'<figure id="{key}">\n<h3>{escape(figure.title)}</h3>\n'
        '<p class="swipe">Wider than the screen: swipe sideways.</p>\n'
        f'<div class="card" tabindex="0" role="group" aria-label="{escape(figure.title)}">'
        f"{inline_svg(picture, key, figure.alt)}</div>\n"
        f"<figcaption>{escape(figure.caption)}</figcaption>\n</figure>\n"
    )


def _table(entry: ReportTable) -> str:
    table = entry.table
    return (
        f'<div class="table" id="table-{entry.key}">\n<h3>{escape(table.title)}</h3>\n'
        f'<div class="scroll" tabindex="0" role="group" aria-label="{escape(table.title)}">\n'
        f"{to_html(table)}</div>\n</div>\n"
    )


def _missing(sentences: Sequence[str]) -> str:
    if not sentences:
        return _paragraph(NOTHING_MISSING)
    return f"<ul>{''.join(f'<li>{escape(s)}</li>' for s in sentences)}</ul>\n"


def _absent(entries: Sequence[tuple[str, str]]) -> str:
    if not entries:
        return _paragraph(NOTHING_ABSENT)
    items = "".join(
        f"<li><strong>{escape(title)}</strong>: {escape(reason)}</li>" for title, reason in entries
    )
    return f"<ul>{items}</ul>\n"


def _reproduce(report: Report) -> str:
    lines = escape("\n".join(report.commands))
    return f"{_paragraph(REPRODUCE)}<pre><code>{lines}</code></pre>\n"


def _paragraph(text: str) -> str:
    return f"<p>{escape(text)}</p>\n"
