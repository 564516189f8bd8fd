"""The committed results: a table, and what one command makes of it."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest

from rllib_fmq.analysis.report import write_report
from rllib_fmq.analysis.study_data import study_data
from rllib_fmq.studies.store import read_configs, read_info, read_results

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "results" / "two-cores"
DOCUMENT = ROOT / "docs" / "RESULTS.md"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    data = study_data(read_results(RESULTS), read_info(RESULTS))
    write_report(data, read_configs(RESULTS), folder)
    return folder


def test_both_tables_hold_the_same() -> None:
    parquet = read_results(RESULTS / "results.parquet")
    pd.testing.assert_frame_equal(parquet, read_results(RESULTS / "results.csv"))


def test_every_run_has_its_full_config() -> None:
    configs = read_configs(RESULTS)
    table = read_results(RESULTS)
    assert set(table["config_id"]) <= set(configs)
    for _, row in table.drop_duplicates("trial").iterrows():
        config = configs[row["config_id"]]
        assert (config["env"], config["seed"]) == (row["task"], row["seed"])
    assert not re.search(r'"/\w', (RESULTS / "configs.json").read_text()), "a path of a machine"


def test_report_has_the_same_tables_when_it_is_made_anew(report: Path) -> None:
    made = {path.name: path.read_text() for path in (report / "tables").glob("*.md")}
    kept = {path.name: path.read_text() for path in (RESULTS / "report" / "tables").glob("*.md")}
    assert made == kept


def test_document_quotes_the_tables(report: Path) -> None:
    quoted = re.findall(r"<!-- table: (\w+) -->\n(.*?)<!-- end -->", DOCUMENT.read_text(), re.S)
    assert len(quoted) >= 3
    for name, text in quoted:
        table = (report / "tables" / f"{name}.md").read_text()
        assert text.strip() in table, name
