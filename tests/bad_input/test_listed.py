"""Listed bad inputs: one clear line, a non-zero exit, nothing half written."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bad_input import cases_cli, cases_config, cases_dataset, cases_environment
from tests.bad_input.harness import Case, Record, check
from tests.command import Command

pytestmark = pytest.mark.timeout(60)

LISTED = {
    "cli": cases_cli.cases(),
    "config": cases_config.cases(),
    "dataset": cases_dataset.cases(),
    "environment": cases_environment.cases(),
}


def test_so_many_are_listed() -> None:
    names = [(area, case.name) for area, listed in LISTED.items() for case in listed]
    assert len(set(names)) == len(names) >= 300


@pytest.mark.parametrize(
    ("area", "case"),
    [pytest.param(a, c, id=f"{a}: {c.name}") for a, listed in LISTED.items() for c in listed],
)
def test_refused(rllib: Command, folder: Path, tried: Record, area: str, case: Case) -> None:
    check(rllib, folder, case)
    tried(area, 1)
