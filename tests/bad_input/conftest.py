"""A folder for each bad input, a Ray that must not start, and the count at the end."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.bad_input.harness import AREAS, DATA, STARTED, Record
from tests.cli.conftest import pendulum_data, rllib  # noqa: F401  (fixtures)

_COUNTED = "bad_inputs"
_RANDOM = "random_bad_inputs"


@pytest.fixture()
def folder(
    tmp_path: Path,
    pendulum_data: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """The working folder of one case; home and data folder lie in it, and Ray cannot start."""
    import ray

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError(STARTED)

    monkeypatch.setattr(ray, "init", refuse)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MPLCONFIGDIR", str(tmp_path_factory.getbasetemp() / "matplotlib"))
    monkeypatch.setenv("RLLIB_FMQ_OFFLINE", "1")
    for variable in ("RLLIB_FMQ_DATA_DIR", "RLLIB_FMQ_MIRRORS", "MINARI_DATASETS_PATH"):
        monkeypatch.delenv(variable, raising=False)
    shutil.copy(pendulum_data, tmp_path / DATA)
    return tmp_path


@pytest.fixture()
def tried(record_property: Any) -> Record:
    """Count bad inputs of an area."""
    return lambda area, number: record_property(_COUNTED, (area, number))


@pytest.fixture()
def tried_random(record_property: Any) -> Record:
    """Count bad inputs that were drawn at random."""
    return lambda area, number: record_property(_RANDOM, (area, number))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print how many bad inputs were tried in each area."""
    counts: dict[str, Counter[str]] = {_COUNTED: Counter(), _RANDOM: Counter()}
    for report in terminalreporter.stats.get("passed", ()):
        for name, value in getattr(report, "user_properties", ()):
            if name in counts and report.when == "call":
                area, number = value
                counts[name][area] += number
    both = counts[_COUNTED] + counts[_RANDOM]
    if not both:
        return
    areas = ", ".join(f"{area} {both[area]}" for area in AREAS)
    drawn = sum(counts[_RANDOM].values())
    terminalreporter.write_line(
        f"bad inputs: {sum(both.values())} cases: {areas} ({drawn} of them drawn at random)"
    )
