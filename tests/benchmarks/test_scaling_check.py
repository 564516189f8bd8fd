"""The check of the scaling model, and its reckoning for clusters, from end to end and tiny."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from benchmarks.scaling import __main__ as command
from benchmarks.scaling import check, clusters

FRAGMENT, PAUSE = 4, 0.02


@pytest.mark.slow
def test_pieces_are_measured_compared_and_reckoned_with(
    ray_session: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(check, "PASSES", 1)
    monkeypatch.setattr(check, "ROBOT", PAUSE)
    monkeypatch.setattr(check, "RATIOS", (1.0,))
    monkeypatch.setattr(clusters, "MOST", 20)
    pieces, rows = check.check(tmp_path, [2], FRAGMENT)
    assert [row.what for row in rows] == [
        "robots: 2",
        *(f"robots: 2, updates 1 x collection, lag {lag}" for lag in (1, 0)),
        *(f"no pause: {n}, lag {lag}" for n in (1, 2) for lag in (1, 0)),
    ]
    for row in rows:
        # No round is shorter than its environments' pauses, measured or predicted.
        least = FRAGMENT * PAUSE if "robots" in row.what else 0.0
        assert min(row.measured, row.quiet, row.loaded) > least, row
        assert min(row.driver_slowdown, row.runner_slowdown) >= 1.0
    assert min(pieces.update, pieces.request, pieces.plan_seconds(1)) > 0.0

    stored = {
        "env_step": {},
        "planning": {},
        "update": {},
        "check": [row._asdict() for row in rows],
        "paper_pieces": asdict(pieces),
        "load": [0, 0],
    }
    (tmp_path / "pieces.json").write_text(json.dumps(stored))
    image = tmp_path / "scaling.png"
    arguments = ["--from", str(tmp_path / "pieces.json"), "--image", str(image)]
    monkeypatch.setattr(sys, "argv", ["scaling", *arguments])
    command.main()
    lines = capsys.readouterr().out.splitlines()
    assert image.stat().st_size > 1_000
    for workload in clusters.WORKLOADS:
        answers = [line for line in lines if line.startswith(f"| {workload} |")]
        assert len(answers) == len(clusters.TRAININGS), lines
