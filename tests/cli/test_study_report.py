"""``rllib study report`` as a person calls it."""

from __future__ import annotations

import importlib.util
import json
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import typer

from rllib_fmq.analysis import report as report_module
from rllib_fmq.cli.errors import run_app
from rllib_fmq.cli.study_report import report
from tests.analysis.study_frames import CUBE, StudyBuilder, best_of, configs, small_study

needs_matplotlib = pytest.mark.skipif(
    importlib.util.find_spec("matplotlib") is None, reason="needs the extra rllib-fmq[plots]"
)
Call = Callable[..., tuple[int, str, str]]


@pytest.fixture()
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """``call(STUDY, ...)``: exit code, standard output and standard error."""
    app = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
    app.command("report")(report)

    def called(*arguments: str | Path) -> tuple[int, str, str]:
        code = run_app(app, [str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return called


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return small_study(tasks=[CUBE], seeds=[0, 1], settings={})[0]


@pytest.fixture()
def study(frame: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study's folder; its reports have a single figure, since that takes a second."""
    monkeypatch.setattr(report_module, "FIGURES", report_module.FIGURES[:1])
    folder = tmp_path / "study"
    folder.mkdir()
    frame.to_parquet(folder / "results.parquet")
    (folder / "configs.json").write_text(json.dumps(configs(frame)))
    info = {"name": "cubes", "scale": "reduced", "tasks": [CUBE, "can-mh"]}
    (folder / "study.json").write_text(json.dumps(info))
    return folder


@needs_matplotlib
def test_a_folder_gets_a_report_and_answers(call: Call, study: Path) -> None:
    code, out, err = call(study)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    folder = study / "report"
    assert lines[0] == f"page      {folder / 'report.html'}"
    assert lines[1] == f"text      {folder / 'report.md'}"
    assert lines[2] == f"figures   1, PNG and SVG, in {folder / 'figures'}"
    tables = len(list((folder / "tables").glob("*.tex")))
    assert lines[3] == f"tables    {tables}, Markdown and LaTeX, in {folder / 'tables'}"
    assert lines[4] == "missing   1, listed in the report: can: planned, but there are no results."
    # By hand: 0.70 and 0.72 against the offline policy's 0.20 and 0.21.
    assert lines[5].startswith(
        "answer    ▲ above: FMQ's IQM 0.71 [0.70, 0.72] lies above its own offline policy's 0.2"
    )
    assert len(lines) == 5 + 4
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert "<h1>Study cubes</h1>" in text
    assert f"rllib study report {shlex.quote(str(study))}\n" in (folder / "report.md").read_text()


@needs_matplotlib
@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_a_table_alone_is_enough(
    call: Call, study: Path, frame: pd.DataFrame, tmp_path: Path, kind: str
) -> None:
    alone = tmp_path / "alone"
    alone.mkdir()
    table = alone / f"results.{kind}"
    frame.to_parquet(table) if kind == "parquet" else frame.to_csv(table, index=False)
    code, out, err = call(table, "-o", tmp_path / "out", "--title", "Mine")
    assert (code, err) == (0, "")
    assert out.startswith(f"page      {tmp_path / 'out' / 'report.html'}\n")
    text = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "<h1>Mine</h1>" in text and "Scale: not stated" in text
    assert [path.name for path in alone.iterdir()] == [table.name]
    call(study, "-o", tmp_path / "whole")
    main = "tables/main.tex"
    assert "0.71" in (tmp_path / "out" / main).read_text()
    rows = [(tmp_path / name / main).read_text().split("FMQ")[-1] for name in ("out", "whole")]
    assert rows[0].split("footnotesize")[0] == rows[1].split("footnotesize")[0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: (f / "results.parquet").write_bytes(b"PAR1 cut short"), "results.parquet"),
        (lambda f: (f / "results.parquet").unlink(), "no "),
        (lambda f: (f / "study.json").write_text("{"), "study.json is damaged"),
        (lambda f: (f / "configs.json").write_text("[]"), "configs.json is damaged"),
    ],
    ids=["damaged table", "no table", "damaged study.json", "damaged configs.json"],
)
def test_bad_studies_are_one_line(
    call: Call, study: Path, change: Callable[[Path], Any], words: str
) -> None:
    change(study)
    before = sorted(study.iterdir())
    code, out, err = call(study)
    assert code == 1 and out == ""
    assert err.count("\n") == 1 and err.startswith("rllib: ") and words in err
    assert sorted(study.iterdir()) == before


def test_an_empty_or_foreign_table_is_one_line(
    call: Call, study: Path, frame: pd.DataFrame
) -> None:
    frame.iloc[:0].to_parquet(study / "results.parquet")
    code, _, err = call(study)
    assert code == 1 and err.count("\n") == 1 and "no measurement" in err
    frame.drop(columns="success").to_parquet(study / "results.parquet")
    code, _, err = call(study)
    assert code == 1 and err.count("\n") == 1 and "'success'" in err
    code, _, err = call(study / "absent")
    assert code == 1 and err.count("\n") == 1 and "absent" in err
    assert not (study / "report").exists()


def test_without_matplotlib_it_says_what_to_install(
    call: Call, study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    code, _, err = call(study)
    assert code == 1
    assert err == (
        "rllib: no figures: the package 'matplotlib' is not installed: "
        "pip install 'rllib-fmq[plots]'\n"
    )
    assert not (study / "report").exists()


@needs_matplotlib
def test_nothing_to_compare_yet(call: Call, study: Path) -> None:
    builder = StudyBuilder()
    builder.trial(CUBE, "FMQ/MVP", 0, offline=[(500, 0.1)], finals=[best_of(32, 0.2)])
    builder.frame().to_parquet(study / "results.parquet")
    code, out, _ = call(study)
    assert code == 0
    assert "figures   0," in out
    assert out.splitlines()[-1].startswith("answer    No two of the methods that this report")
