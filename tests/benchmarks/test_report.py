"""From numbers to verdicts and tables."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.speed.__main__ import DOCUMENT, main
from benchmarks.speed.problem import SELECTORS, UPDATES
from benchmarks.speed.report import TABLES, render, write_into
from benchmarks.speed.results import Results, Target, targets
from benchmarks.speed.timing import Spread

# Seconds of a call, in the order of the method's cells.
UPDATE_SECONDS = {"plain": 1.5, "jax": 1.2, "rllib_fmq": 1.0, "eager": 1.25, "ceiling": 0.75}
DECISION_SECONDS = {"sample": 1.0, "best_of_n": 9.0, "qgbs": 8.1, "euler": 24.0}
REPLAY_SECONDS = {"replay": 0.5, "numpy gather": 2.0, "contiguous": 0.4}


def timings(seconds: dict[str, float]) -> dict[str, Any]:
    """Two rounds, of which the second ran at half the clock rate."""
    series = {name: [value, 2 * value] for name, value in seconds.items()}
    return {"wall": copy.deepcopy(series), "cpu": series, "repeats": dict.fromkeys(seconds, 1)}


@pytest.fixture()
def data() -> dict[str, Any]:
    """Results of a made-up run of every group."""
    updates = [f"update cube-double {name}" for name in UPDATES]
    shares = {"share": [0.02, 0.02, 0.04], "work": [1.0, 2.0], "per_update": [0.01, 0.02]}
    loop = {"share": [0.95], "collect": [0.03], "sync": [0.01], "rest": [0.01], "seconds": [1.0]}
    plain = {f"plain {kind}": 2 * value for kind, value in DECISION_SECONDS.items()}
    return {
        "timings": {name: timings(UPDATE_SECONDS) for name in updates}
        | {
            "decision cube-double 1": timings(DECISION_SECONDS | plain),
            "replay": timings(REPLAY_SECONDS),
            "runner": timings({"runner": 1.3, "bare": 1.0}),
        },
        "shares": {
            "learner eager": shares
            | {"per_call": [0.1, 0.2], "parts": {"losses": 3.0, "backward": 1.0}},
            "loop best-of-32": loop,
            "loop one-sample": loop,
        },
        "work": {name: {"forward": 1_000_000_000, "backward": 3_000_000_000} for name in updates}
        | {
            "decision cube-double 1": {
                kind: {"flops": 6_000_000, "bytes": 4_000_000} for kind in SELECTORS
            }
        },
        "notes": {},
        "machine": {"processor": "abacus"},
        "run": {"rounds": 2, "seconds": 120, "load before": 0.5, "load after": 1.0},
    }


def verdicts(data: dict[str, Any]) -> dict[str, tuple[float | None, str]]:
    """Median and verdict of every target."""
    return {
        target.text: (target.measured and round(target.measured.median, 3), target.verdict)
        for target in targets(Results(data))
    }


def cells(table: str) -> dict[str, list[str]]:
    """Rows of a Markdown table by their first cell, without the header."""
    rows = [[c.strip() for c in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    return {row[0]: row[1:] for row in rows}


def test_every_figure_has_its_bound(data):
    found = verdicts(data)
    met, missed = "met", "**NOT met**"
    assert found["cube-double FMQ-offline-1: of the GEMM ceiling"] == (75.0, met)
    assert found["cube-double FMQ-online-32: of the GEMM ceiling"] == (75.0, missed)
    assert found["cube-double FMQ-online-1: plain PyTorch / rllib_fmq"] == (1.5, met)
    assert found["cube-double FMQ-online-1: JAX / rllib_fmq"] == (1.2, missed)
    assert found["cube-double FMQ-offline-1: JAX / rllib_fmq"] == (1.2, met)
    assert found["cube-double QC-32: JAX / rllib_fmq"] == (1.2, met)
    assert found["RLlib's share of an offline update, eager"] == (2.0, met)
    assert found["RLlib's share of an offline update, compiled"] == (None, "not measured")
    assert found["online loop, best-of-32: in the update"] == (95.0, missed)
    assert found["online loop, one-sample: in the update"] == (95.0, met)
    one = "one observation: time of "
    assert found[f"{one}QGBS (1, 4, 4) / best-of-32"] == (0.9, met)
    assert found[f"{one}best-of-32 / sample"] == (9.0, met)
    assert found[f"{one}10-step Euler best-of-32 / sample"] == (24.0, missed)
    assert found["replay: time of a batch / a numpy gather"] == (0.25, met)
    assert found["replay: time of a batch / a contiguous one"] == (1.25, missed)
    # 8 updates against JAX, 4 of them FMQ's with two figures more; 2 + 2 shares; 3 + 2 ratios.
    assert len(found) == 8 + 2 * 4 + 4 + 5


@pytest.mark.parametrize(
    ("relation", "value", "verdict"),
    [
        ("at least", 1.3, "met"),
        ("at least", 1.299, "**NOT met**"),
        ("at most", 1.3, "met"),
        ("at most", 1.301, "**NOT met**"),
    ],
)
def test_the_median_decides(relation, value, verdict):
    spread = Spread(value, 0.0, 9.0)
    assert Target("", spread, relation, 1.3).verdict == verdict


def test_numbers_land_in_their_cells(data):
    results = Results(data)
    row = cells(TABLES["updates"](results))["cube-double FMQ-offline-1"]
    flat = [f"{x} [{x}, {x}]" for x in ("1.50", "1.20", "1.25", "1.20", "75", "60", "50", "62")]
    assert row == ["4.00", *flat, "2"]
    work = TABLES["work"](results)
    assert "| cube-double QC-1 | forward | 1.000 | 25.0 |\n|  | backward | 3.000 | 75.0 |" in work
    decisions = TABLES["decisions"](results).splitlines()
    (qgbs,) = (line for line in decisions if "QGBS" in line)
    assert qgbs == (
        "| cube-double, 1 obs | QGBS (1, 4, 4) | 0.90 [0.90, 0.90] | 2.00 [2.00, 2.00] "
        "| 6.0 | 4.0 | 1.5 |"
    )
    rllib = cells(TABLES["rllib"](results))
    assert rllib["eager"] == [
        "2.00 [2.00, 3.00]",
        "1.00 [0.83, 1.17]",
        "10.00 [8.33, 11.67]",
        "losses 75.0, backward 25.0",
    ]
    assert cells(TABLES["loop"](results))["one-sample"][0] == "95.0 [95.0, 95.0]"
    assert cells(TABLES["runner"](results))["env-runner / bare loop"] == ["1.30 [1.30, 1.30]"]
    machine = cells(TABLES["machine"](results))
    assert machine["processor"] == ["abacus"] and machine["whole run"] == ["2 minutes"]


def test_turns_of_other_processes_do_not_count(data):
    data["timings"] = {"replay": timings(REPLAY_SECONDS)}
    data["timings"]["replay"]["wall"]["replay"] = [1.5, 3.0]
    ratio = [
        Results(data, clock).ratio("replay", "replay", "numpy gather") for clock in ("cpu", "wall")
    ]
    assert [r and r.median for r in ratio] == [0.25, 0.75]
    # 3 of 11.7 seconds.
    machine = cells(TABLES["machine"](Results(data)))
    assert machine["wall time without a processor"] == ["25.6 %"]
    assert machine["ratios of"] == ["processor time"]


def test_missing_figures_are_named(data):
    for group in data["timings"].values():
        group["wall"].pop("jax", None), group["cpu"].pop("jax", None)
    del data["timings"]["replay"]
    data["notes"]["jax"] = "not installed"
    row = cells(TABLES["updates"](Results(data)))["cube-double FMQ-offline-1"]
    assert row.count("not installed") == 2
    assert verdicts(data)["cube-double QC-1: JAX / rllib_fmq"] == (None, "not measured")
    text = render(Results(data))
    assert "Not measured in this run." in text and "note on jax" in text


def test_report_fills_the_document_and_keeps_its_text(data, tmp_path: Path):
    document, numbers = tmp_path / "performance.md", tmp_path / "bench.json"
    original = DOCUMENT.read_text(encoding="utf-8")
    document.write_text(original, encoding="utf-8")
    numbers.write_text(json.dumps(data), encoding="utf-8")
    for _ in range(2):  # writing twice changes nothing
        main(["--report", "--json", str(numbers), "--document", str(document)])
        written = document.read_text(encoding="utf-8")
        for name, make in TABLES.items():
            begin, end = f"<!-- {name}: begin -->\n", f"\n<!-- {name}: end -->"
            assert written.split(begin)[1].split(end)[0] == make(Results(data))

    def outside(text: str) -> list[str]:
        kept, inside = [], False
        for line in text.splitlines():
            inside = inside and not line.endswith(": end -->")
            if not inside:
                kept.append(line)
            inside = inside or line.endswith(": begin -->")
        return kept

    assert outside(written) == outside(original)
    document.write_text("no markers", encoding="utf-8")
    with pytest.raises(ValueError, match="0 pairs"):
        write_into(document, Results(data))
