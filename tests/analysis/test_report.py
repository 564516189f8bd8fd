"""A study's report: what it says, that it is one self-contained page, and how it is written."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from rllib_fmq.analysis import report as report_module
from rllib_fmq.analysis.figures.catalogue import FIGURES
from rllib_fmq.analysis.inline_svg import inline_svg
from rllib_fmq.analysis.report import write_report
from rllib_fmq.analysis.report_content import answers, duration, facts
from rllib_fmq.analysis.study_data import StudyData, study_data
from rllib_fmq.analysis.table_catalogue import TABLES
from tests.analysis.study_frames import CUBE, MAZE, StudyBuilder, best_of, configs, small_study

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("matplotlib") is None, reason="needs the extra rllib-fmq[plots]"
)
SETTINGS = {"eta=0.3": -0.1, "distillation=lsd": 0.02, "distillation=psd": -0.04}
SVG = (
    '<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" '
    'xmlns:xlink="http://www.w3.org/1999/xlink" width="72pt" height="36pt" viewBox="0 0 72 36">'
    "<metadata>made by</metadata><defs><style>*{stroke:red}</style>"
    '<clipPath id="c"><rect/></clipPath></defs><g id="g" clip-path="url(#c)">'
    '<use xlink:href="#g" style="clip-path: url(#c)"/></g></svg>'
)


class Page(HTMLParser):
    """Elements of a page, and whether every one is closed."""

    VOID = frozenset(("meta", "link", "br", "hr", "img", "input"))

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def having(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def complete(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Report of a study that has data for every figure and table."""
    frame, info = small_study(tasks=[CUBE, MAZE], seeds=[0, 1], settings=SETTINGS)
    info["tasks"].append("can-mh")
    folder = tmp_path_factory.mktemp("complete") / "report"
    write_report(study_data(frame, info), configs(frame), folder)
    return folder


@pytest.fixture(scope="module")
def page(complete: Path) -> Page:
    return Page((complete / "report.html").read_text(encoding="utf-8"))


@pytest.fixture()
def quick(monkeypatch: pytest.MonkeyPatch) -> StudyData:
    """A study for tests of the writing: one trial, and only one figure is tried."""
    monkeypatch.setattr(report_module, "FIGURES", FIGURES[:1])
    builder = StudyBuilder()
    finals = [best_of(32, 0.5)]
    builder.trial(CUBE, "FMQ", 0, offline=[(1000, 0.2)], online=[(500, 0.5)], finals=finals)
    return study_data(builder.frame(), {"name": "quick"})


def files_below(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_every_figure_and_table_is_written(complete: Path) -> None:
    expected = {"report.html", "report.md"}
    expected |= {f"figures/{f.key}{suffix}" for f in FIGURES for suffix in (".png", ".svg")}
    expected |= {f"tables/{t.key}{suffix}" for t in TABLES for suffix in (".md", ".tex")}
    assert set(files_below(complete)) == expected
    assert len(FIGURES) == 9
    assert [path.name for path in complete.parent.iterdir()] == ["report"]


def test_the_page_is_well_formed_and_names_its_parts(page: Page) -> None:
    assert page.open == []
    assert page.having("html")[0]["lang"] == "en"
    assert page.having("meta")[1]["name"] == "viewport"
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    sections = [attributes["id"] for attributes in page.having("section")]
    assert sections == ["summary", "figures", "tables", "missing", "absent", "reproduce"]
    assert [f"figure-{f.key}" in ids for f in FIGURES] == [True] * len(FIGURES)
    assert [f"table-{t.key}" in ids for t in TABLES] == [True] * len(TABLES)
    targets = [a["href"] for a in page.having("a")]
    assert {f"#{name}" for name in sections} <= set(targets)
    # Links of the contents and references within the pictures alike.
    pointers = targets + [a["xlink:href"] for _, a in page.elements if "xlink:href" in a]
    assert {pointer[1:] for pointer in pointers} <= set(ids)


def test_the_page_needs_nothing_else(complete: Path, page: Page) -> None:
    text = (complete / "report.html").read_text(encoding="utf-8")
    for tag in ("script", "link", "img", "iframe", "object", "image"):
        assert page.having(tag) == []
    sources = [a[k] for _, a in page.elements for k in ("src", "href", "xlink:href") if k in a]
    assert all(source.startswith("#") for source in sources)
    assert set(re.findall(r"url\((.)", text)) == {"#"}
    assert "@import" not in text
    # What remains of addresses are names of XML's vocabularies, which nobody fetches.
    assert set(re.findall(r"https?://[^\s\"'<]+", text)) == {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }


def test_pictures_and_tables_can_be_heard(page: Page) -> None:
    pictures = page.having("svg")
    assert len(pictures) == len(FIGURES)
    for picture in pictures:
        assert picture["role"] == "img"
        assert "methods: QC, MVP, FMQ" in picture["aria-label"]
    assert len(page.having("table")) == len(TABLES)
    assert {cell.get("scope") for cell in page.having("th")} == {"col", "row"}
    assert len(page.having("figcaption")) == len(FIGURES)


def test_the_first_screen_says_what_was_run_and_found(page: Page) -> None:
    text = page.text
    first = text[text.index("In short") : text.index("Contents")]
    assert "Scale: reduced. A thousand updates instead of a million." in first
    # By hand, for FMQ: 0.70, 0.72, 0.60, 0.62 without the lowest and the highest of four.
    assert "▲ above FMQ's IQM 0.66 [" in first
    assert "its own offline policy" in first
    assert "cube-single-task2, pointmaze-medium-task1" in first
    assert "Seeds 2 (0, 1)" in first
    assert "Offline updates 1,000 Online environment steps 1,000" in first
    assert "rllib-fmq 0.1.0; revision abc1234" in first
    # A pair of task and seed: two pre-trainings, three methods, eta=0.3, twice a loss with its own
    # pre-training; 10 minutes each, and one for each final evaluation: MVP's two, FMQ's three.
    trials, finals = 4 * (2 + 3 + 1 + 2 * 2), 4 * (2 + 1 + 2 + 3 + 1 + 2 * 2)
    hours = (10 * trials + finals) / 60
    assert f"Trials {trials} Wall time {hours:.1f} h, all trials added up" in first


def test_what_is_missing_is_named(page: Page, complete: Path) -> None:
    sentence = "can: planned, but there are no results."
    assert sentence in page.text
    markdown = (complete / "report.md").read_text(encoding="utf-8")
    assert f"- {sentence}" in markdown
    assert "Every figure and table that a study report can have is here." in page.text


def test_how_to_reproduce(page: Page, complete: Path, quick: StudyData, tmp_path: Path) -> None:
    commands = "rllib study run synthetic.py rllib study report results/synthetic"
    assert commands in page.text
    markdown = (complete / "report.md").read_text(encoding="utf-8")
    assert commands.replace(".py ", ".py\n") in markdown
    # Where it was read from, as a shell takes it.
    write_report(quick, {}, tmp_path / "r", source="my results/a")
    assert "\nrllib study report 'my results/a'\n" in (tmp_path / "r/report.md").read_text()


def test_markdown_shows_files_that_exist(complete: Path) -> None:
    markdown = (complete / "report.md").read_text(encoding="utf-8")
    shown = re.findall(r"!\[.+\]\((.+)\)", markdown)
    assert len(shown) == len(FIGURES)
    assert all((complete / name).is_file() for name in shown)
    for table in TABLES:
        text = (complete / "tables" / f"{table.key}.md").read_text(encoding="utf-8")
        assert text.strip() in markdown


def test_the_same_table_gives_the_same_bytes(tmp_path: Path) -> None:
    frame, info = small_study(tasks=[CUBE], seeds=[0, 1], settings={})
    for name in ("a", "b"):
        write_report(study_data(frame, info), configs(frame), tmp_path / name)
    assert files_below(tmp_path / "a") == files_below(tmp_path / "b")


def test_a_figure_without_data_is_named_with_the_reason(quick: StudyData, tmp_path: Path) -> None:
    write_report(quick, {}, tmp_path / "r")
    text = Page((tmp_path / "r/report.html").read_text(encoding="utf-8")).text
    absent = text[text.rindex("Not in this report") :]
    assert (
        'Table “QGBS: search settings” : no final evaluations of a method named "FMQ" with several'
        in absent
    )
    assert "Learning curves" not in absent  # not tried here
    assert not (tmp_path / "r/tables/qgbs.md").exists()
    assert 'No two of the methods that this report compares ("FMQ", "MVP", "QC",' in text


def test_one_seed_answers_nothing() -> None:
    data = study_data(*small_study(tasks=[CUBE], seeds=[0], settings={}))
    assert {answer.verdict for answer in answers(data)} == {"? too few seeds"}


def test_every_figure_can_say_why_it_is_absent() -> None:
    assert all(f.absent and not f.absent.endswith(".") for f in FIGURES)
    assert all(f.caption.endswith(".") and len(f.caption) > 80 and f.alt for f in FIGURES)


def test_an_earlier_report_is_replaced_and_foreign_files_stay(
    quick: StudyData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "new" / "r"
    written = write_report(quick, {}, folder, title="First")
    assert written[0] == folder / "report.html" and all(path.is_file() for path in written)
    (folder / "figures/trust_region.png").write_text("of an earlier report with more data")
    (folder / "figures/mine.png").write_text("mine")
    (folder / "notes.txt").write_text("mine")
    (never_drawn,) = [f for f in FIGURES if f.key == "trust_region"]
    monkeypatch.setattr(report_module, "FIGURES", (FIGURES[0], never_drawn))
    assert write_report(quick, {}, folder, title="Second") == written
    assert not (folder / "figures/trust_region.png").exists()
    assert (folder / "figures/mine.png").read_text() == "mine"
    assert (folder / "notes.txt").read_text() == "mine"
    assert "<h1>Second</h1>" in (folder / "report.html").read_text(encoding="utf-8")
    assert [path.name for path in folder.parent.iterdir()] == ["r"]


def test_all_is_made_within_the_output(
    quick: StudyData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The output may be a link to another disk, to which nothing can be renamed."""
    disk, link = tmp_path / "disk", tmp_path / "link"
    disk.mkdir()
    link.symlink_to(disk)
    killed = disk / ".staging-killed"
    killed.mkdir()
    (killed / "report.md").write_text("half")
    moved = []

    def replace(source: Path, target: Path) -> None:
        moved.append(Path(source).resolve().is_relative_to(disk))
        Path(source).rename(target)

    monkeypatch.setattr(report_module.os, "replace", replace)
    write_report(quick, {}, link)
    assert moved and all(moved)
    assert {path.name for path in disk.iterdir()} == {
        "figures",
        "report.html",
        "report.md",
        "tables",
    }
    assert {path.name for path in tmp_path.iterdir()} == {"disk", "link"}


def test_a_failure_leaves_everything_as_it_was(
    quick: StudyData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "r"
    write_report(quick, {}, folder)
    before = files_below(tmp_path)

    def fails(*_: Any) -> str:
        raise RuntimeError("disk full")

    monkeypatch.setattr(report_module, "report_markdown", fails)
    with pytest.raises(RuntimeError, match="disk full"):
        write_report(quick, {}, folder, title="Other")
    assert files_below(tmp_path) == before
    with pytest.raises(RuntimeError, match="disk full"):
        write_report(quick, {}, tmp_path / "never")
    assert not (tmp_path / "never").exists()


@pytest.mark.parametrize("name", ["r", "r/figures"])
def test_a_file_in_the_way_of_a_folder(quick: StudyData, tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("mine")
    with pytest.raises(ValueError, match="is a file; name another folder"):
        write_report(quick, {}, tmp_path / "r")
    assert files_below(tmp_path) == {name: b"mine"}


def test_texts_are_escaped(quick: StudyData, tmp_path: Path) -> None:
    info = {"description": "a < b & <script>", "scale": "reduced", "scale_note": "<i>small</i>"}
    write_report(StudyData(quick.frame, info), {}, tmp_path / "r", title="<b>")
    text = (tmp_path / "r/report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert page.having("script") == page.having("i") == page.having("b") == []
    assert "a < b & <script>" in page.text and "Scale: reduced. <i>small</i>" in page.text
    assert "<title>&lt;b&gt;</title>" in text


def test_scale_is_stated_in_any_case(quick: StudyData, tmp_path: Path) -> None:
    known = configs(quick.frame)
    small = {name: config | {"actor_hidden": [256] * 2} for name, config in known.items()}
    for scale, described, words in (
        ("paper", known, "Scale: the paper's. Tasks, networks and budgets are the paper's."),
        (
            "paper",
            small,
            "Scale: not the paper's. The study says that it runs at the paper's scale, but: "
            "actor_hidden [256, 256] instead of [512, 512, 512, 512].",
        ),
        ("paper", {}, "Scale: not the paper's."),
        ("", {}, "Scale: not stated. The study does not say how its budgets compare"),
    ):
        write_report(StudyData(quick.frame, {"scale": scale}), described, tmp_path / "r")
        text = Page((tmp_path / "r/report.html").read_text(encoding="utf-8")).text
        assert words in text


def test_budgets_that_differ_by_task_are_a_range() -> None:
    builder = StudyBuilder()
    for task, steps in ((CUBE, 500), (MAZE, 2000)):
        builder.trial(task, "FMQ", 0, online=[(steps, 0.5)], finals=[best_of(32, 0.5)])
    shown = dict(facts(study_data(builder.frame(), {})))
    assert shown["Online environment steps"] == "500 to 2,000, by task"
    assert "Offline updates" not in shown
    assert shown["Seeds"] == "0"
    assert shown["Wall time"].startswith("22 min")


def test_the_first_screen_says_that_the_source_was_edited(quick: StudyData) -> None:
    frame = quick.frame.assign(git_revision="0123456789ab+changes")
    assert dict(facts(study_data(frame, {})))["Version"] == (
        "rllib-fmq 0.1.0; revision 0123456789+changes"
    )


@pytest.mark.parametrize(
    ("seconds", "words"), [(45, "45 s"), (90, "2 min"), (3600, "60 min"), (5400, "1.5 h")]
)
def test_duration(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_inlined_svg_keeps_its_references_and_nothing_of_the_page_changes() -> None:
    result = inline_svg(SVG, "fig", 'curves of "FMQ" < 1')
    assert 'id="fig-c"' in result and 'id="fig-g"' in result
    assert 'clip-path="url(#fig-c)"' in result and 'xlink:href="#fig-g"' in result
    assert "clip-path: url(#fig-c)" in result
    assert "metadata" not in result and "style>" not in result and "<?xml" not in result
    assert 'aria-label="curves of &quot;FMQ&quot; &lt; 1"' in result
    assert 'style="max-width:96px;min-width:96px"' in result and "width=" not in result
    assert Page(result).open == []


@pytest.mark.parametrize(
    "text", ["no XML", "<svg/>", SVG.replace("72pt", "100%"), "<p xmlns='x' width='1pt'/>"]
)
def test_what_is_not_a_picture_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="the picture fig is not an SVG document"):
        inline_svg(text, "fig", "")
