"""A run whose env-runners are on several nodes survives the loss of one of these."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_a_node_is_lost_and_another_one_comes() -> None:
    process = subprocess.run(
        [sys.executable, "-m", "tests.cluster.lose_a_node"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0"},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert process.returncode == 0, process.stderr[-4_000:]
    outcome = json.loads(process.stdout.splitlines()[-1])

    first, during, last = map(set, outcome["homes"])
    assert len(first) == 2  # each runner on a node of its own
    assert len(during) == 1 and during < first
    assert len(last) == 2 and during < last and last != first
    # It ended; what was counted is there, once.
    assert outcome["steps"] == outcome["rows"] >= 3_000
    assert outcome["most_often"] == 1
    # At most what the lost runner had in flight: the fragments of its two environments, in two
    # rounds.
    assert 0 <= outcome["fragments_lost"] <= 4
    assert outcome["updates"] == 20 + int(10 / 14 * (outcome["steps"] - 4))
