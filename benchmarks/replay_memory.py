"""What a replay costs in memory, and what loading it costs at its peak.

    python benchmarks/replay_memory.py --rows 2000000

Transitions of cube-triple's size (observations 46, actions 5), episodes of 1,000 steps. "Raw" are
the float32 arrays of observation, action, reward and termination without next observations:
4 * (46 + 5 + 1 + 1) bytes a row. The resident memory is that of a process of its own.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import subprocess
import sys

import numpy as np

OBS_DIM, ACTION_DIM, EPISODE = 46, 5, 1000


def resident(field: str = "RssAnon") -> int:
    """A line of this process's status, in bytes."""
    with open("/proc/self/status") as status:
        for line in status:
            if line.startswith(f"{field}:"):
                return 1024 * int(line.split()[1])
    raise OSError(f"no {field} in /proc/self/status: this needs Linux")


def make_columns(rows: int) -> dict[str, np.ndarray]:
    """Random columns of a table, without temporaries of their size."""
    random = np.random.default_rng(0)
    end = np.zeros(rows, bool)
    end[EPISODE - 1 :: EPISODE] = True
    end[-1] = True
    return {
        "obs": random.random((rows, OBS_DIM), np.float32),
        "actions": random.random((rows, ACTION_DIM), np.float32),
        "rewards": random.random(rows, np.float32),
        "terminated": np.zeros(rows, bool),
        "episode_end": end,
        "final_obs": random.random((int(end.sum()), OBS_DIM), np.float32),
    }


def measure(rows: int) -> dict[str, float]:
    """Fill a replay in this process.

    Args:
        rows: Transitions, which the replay has room for exactly.
    Returns:
        In bytes a row: `raw`, `tensors` (what the replay says it holds), `resident` (by how much
        the process has grown for it), `peak` (with the dataset that it was copied from).
    """
    import torch

    from rllib_fmq.learner.replay import ReplayTable

    torch.set_num_threads(1)
    small = ReplayTable(10, OBS_DIM, ACTION_DIM)  # what the first use of torch costs is not ours
    small.add_offline(make_columns(10))
    small.sample(4, 2)
    gc.collect()
    before = resident()
    columns = make_columns(rows)
    with open("/proc/self/clear_refs", "w") as refs:
        refs.write("5")  # the peak starts from here
    files = resident("VmRSS") - resident()
    replay = ReplayTable(rows, OBS_DIM, ACTION_DIM)
    replay.add_offline(columns)
    replay.sample(256, 5)
    peak = resident("VmHWM") - files
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    after = resident()
    return {
        "raw": 4.0 * (OBS_DIM + ACTION_DIM + 1 + 1),
        "tensors": replay.num_bytes / rows,
        "resident": (after - before) / rows,
        "peak": (peak - before) / rows,
    }


def measure_apart(rows: int) -> dict[str, float]:
    """`measure` in a process of its own."""
    command = [sys.executable, __file__, "--rows", str(rows), "--json"]
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    figures: dict[str, float] = json.loads(result.stdout)
    return figures


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--json", action="store_true", help="measure here, print JSON")
    args = parser.parse_args()
    if args.json:
        print(json.dumps(measure(args.rows)))
        return
    figures = measure_apart(args.rows)
    raw, narrow = figures["raw"], figures["raw"] - 4
    print(f"{args.rows:,} rows, raw {raw:.0f} bytes a row = {args.rows * raw / 1e6:.0f} MB")
    for name in ("tensors", "resident", "peak"):
        value = figures[name]
        print(
            f"{name:9} {value:6.1f} bytes a row, {args.rows * value / 1e6:6.0f} MB, "
            f"{value / raw:.3f} of raw ({value / narrow:.3f} without terminations)"
        )


if __name__ == "__main__":
    main()
