"""Damaged datasets of every format: refused in one line, or read to exactly what is intact."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ogbench")
pytest.importorskip("minari")
pytest.importorskip("h5py")

from rllib_fmq.data.table import COLUMNS
from tests.data.formats.damage import MAZE_TASK, table_of, variants
from tests.data.formats.damage_common import Variant

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::UserWarning:minari"),
]
WORKER = Path(__file__).with_name("damage_worker.py")
Outcome = tuple[Variant, dict[str, Any]]


def run(jobs: list[dict[str, Any]], folder: Path, label: str) -> dict[str, dict[str, Any]]:
    """Read them in another process; a job at which that process ended is noted and passed over."""
    results = folder / f"results-{label}.jsonl"
    results.touch()
    done: dict[str, dict[str, Any]] = {}
    waiting = jobs
    while waiting:
        todo = folder / f"jobs-{label}.jsonl"
        todo.write_text("\n".join(map(json.dumps, waiting)))
        root = str(WORKER.parents[3])
        process = subprocess.run(
            [sys.executable, str(WORKER), str(todo), str(results)],
            capture_output=True,
            text=True,
            timeout=300,
            env={**os.environ, "PYTHONPATH": root},
        )
        lines = map(json.loads, results.read_text().splitlines())
        done |= {line["name"]: line for line in lines}
        waiting = [job for job in waiting if job["name"] not in done]
        if waiting:
            end = f"the process ended ({process.returncode}): {process.stderr[-500:]}"
            done[waiting[0]["name"]] = {"wrong": end}
            waiting = waiting[1:]
    return done


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory, maze_file: Path) -> Iterator[list[Outcome]]:
    folder = tmp_path_factory.mktemp("damaged")
    minari_root = tmp_path_factory.mktemp("minari")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(minari_root))
        made = list(variants(folder, maze_file, minari_root, folder / "canary"))
    jobs = [
        {
            "name": variant.name,
            "path": str(variant.path),
            "env": MAZE_TASK if variant.path.stem.startswith("ogbench") else "MyEnv-v0",
            "filter_key": variant.filter_key,
            "verify": variant.verify,
            "columns": list(COLUMNS),
        }
        for variant in made
    ]
    assert len({variant.name for variant in made}) == len(made)
    done = run(jobs, folder, "all")
    yield [(variant, done[variant.name]) for variant in made]
    assert not (folder / "canary").exists(), "a pickle was loaded"


def test_there_are_many_of_every_format(outcomes: list[Outcome]) -> None:
    assert len(outcomes) >= 200
    for kind in (
        "ogbench",
        "plain",
        "stored",
        "robomimic",
        "d4rl",
        "damaged-v0",
        "rllib",
        "rows",
        "columns",
    ):
        assert sum(kind in variant.name for variant, _ in outcomes) >= 20, kind
    # Damage does not go by unnoticed for the most part, and is not all there is.
    refused = sum("refused" in outcome for _, outcome in outcomes)
    assert 0.6 < refused / len(outcomes) < 1


def test_none_hangs_crashes_or_fails_otherwise(outcomes: list[Outcome]) -> None:
    wrong = [(variant.name, out["wrong"]) for variant, out in outcomes if "wrong" in out]
    assert not wrong, wrong


def test_what_is_read_is_exactly_what_is_intact(outcomes: list[Outcome]) -> None:
    expected = {v.same_as: table_of(v.same_as) for v, _ in outcomes if v.same_as is not None}
    wrong = [
        variant.name
        for variant, out in outcomes
        if "read" in out and out["read"] != expected.get(variant.same_as)
    ]
    assert not wrong, wrong


def test_refusals_are_one_clear_line(outcomes: list[Outcome]) -> None:
    unclear = [
        (variant.name, message)
        for variant, out in outcomes
        if (message := out.get("refused")) is not None
        and not (
            "\n" not in message
            and len(message) < 900
            and str(variant.path) in message
            and re.search(variant.says, message)
        )
    ]
    assert not unclear, unclear


def test_readable_variants_are_not_refused(outcomes: list[Outcome]) -> None:
    kept = ("pickled infos", "twice", "out of order", "lost episode", "lost fragment", "last end")
    for variant, out in outcomes:
        if any(label in variant.name for label in kept) or variant.name == "ogbench cut.npz":
            assert "read" in out, (variant.name, out)
