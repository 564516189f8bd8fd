"""What a replay costs: the raw arrays and little more, measured in a process of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rllib_fmq.learner import ReplayTable

OBS_DIM, ACTION_DIM = 46, 5
RAW = 4 * (OBS_DIM + ACTION_DIM + 1 + 1)


def test_tracked_bytes_of_two_million_rows() -> None:
    # Columns take memory as they are filled, so this one is cheap to make.
    replay = ReplayTable(2_000_000, OBS_DIM, ACTION_DIM)
    assert RAW - 4 < replay.num_bytes / replay.capacity < 1.02 * RAW


def test_columns_are_freed_as_they_are_copied() -> None:
    rows = 50
    end = np.arange(rows) == rows - 1
    columns = {
        "obs": np.zeros((rows, 3), np.float32),
        "actions": np.zeros((rows, 2), np.float32),
        "rewards": np.zeros(rows, np.float32),
        "terminated": np.zeros(rows, bool),
        "episode_end": end,
        "final_obs": np.zeros((1, 3), np.float32),
    }
    ReplayTable(rows, 3, 2).add_offline(columns)
    assert columns == {}


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="memory is read from /proc")
def test_two_million_transitions_cost_at_most_1_15_times_their_arrays() -> None:
    replay_memory = pytest.importorskip("benchmarks.replay_memory")
    figures = replay_memory.measure_apart(2_000_000)
    assert figures["raw"] == RAW
    assert figures["tensors"] < 1.15 * RAW
    assert figures["resident"] < 1.15 * RAW, figures
    # While loading, the largest column is there twice and nothing else is.
    assert figures["peak"] < 1.95 * RAW, figures
