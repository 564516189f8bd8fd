"""What a checkpoint's replay costs: after new rows, against all rows written anew.

    python benchmarks/checkpoint_cost.py --rows 1000000 --new-rows 10000

Transitions of cube-single's size (observations 28, actions 5), fragments of 50 steps from 16
environments in turn, episodes of 200 steps. In every round the new rows are added, then the
checkpoint's replay is written as a run does it, and all of it into an empty folder; both are
synced, and the rounds alternate which comes first. Some rounds merge small segments.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pyarrow.fs import LocalFileSystem

from rllib_fmq.checkpointing.replay_store import ReplayStore
from rllib_fmq.learner.replay import ReplayTable

OBS_DIM, ACTION_DIM, FRAGMENT, EPISODE, ENVS = 28, 5, 50, 200, 16


def add_rows(table: ReplayTable, rows: int) -> None:
    """Add random fragments of interleaved episodes, at least so many rows."""
    random = np.random.default_rng(table.num_added)
    for number in range(
        table.num_online // FRAGMENT, (table.num_online + rows - 1) // FRAGMENT + 1
    ):
        turn, env = divmod(number, ENVS)
        episode, part = divmod(turn, EPISODE // FRAGMENT)
        table.add_fragment(
            f"{env}-{episode}",
            random.random((FRAGMENT + 1, OBS_DIM), np.float32),
            random.random((FRAGMENT, ACTION_DIM), np.float32),
            random.random(FRAGMENT, np.float32),
            terminated=False,
            done=part == EPISODE // FRAGMENT - 1,
        )


def timed_write(
    folder: Path, table: ReplayTable, known: dict[str, Any] | None
) -> tuple[dict[str, Any], float, int]:
    """Write into a folder; returns the index, seconds and the bytes of new files."""
    store = ReplayStore(LocalFileSystem(), str(folder))
    before = {segment["name"] for segment in known["segments"]} if known else set()
    start = time.perf_counter()
    index = store.write(table, known)
    seconds = time.perf_counter() - start
    return index, seconds, sum(s["bytes"] for s in index["segments"] if s["name"] not in before)


def measure(folder: Path, rows: int, new_rows: int, rounds: int) -> dict[str, list[float]]:
    """Save a replay again and again.

    Args:
        folder: Where to.
        rows: In the replay at first.
        new_rows: Between two checkpoints.
        rounds: How many checkpoints after the first.
    Returns:
        Seconds and bytes of each round, of the incremental and of the whole write.
    """
    table = ReplayTable(rows + (new_rows + FRAGMENT) * rounds + FRAGMENT, OBS_DIM, ACTION_DIM)
    add_rows(table, rows)
    index, _, _ = timed_write(folder / "run", table, None)
    figures: dict[str, list[float]] = {}
    for number in range(rounds):
        add_rows(table, new_rows)
        known = {"incremental": index, "whole": None}
        for kind in sorted(known, reverse=bool(number % 2)):
            place = folder / "run" if kind == "incremental" else folder / f"whole-{number}"
            written, seconds, size = timed_write(place, table, known[kind])
            figures.setdefault(f"{kind} seconds", []).append(seconds)
            figures.setdefault(f"{kind} bytes", []).append(size)
            if kind == "incremental":
                index = written
            else:
                for file in place.iterdir():
                    file.unlink()
    return figures


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--new-rows", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--folder", help="on the disk to measure; default: a temporary one")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        figures = measure(Path(folder), args.rows, args.new_rows, args.rounds)
    print(f"{args.rows:,} rows, {args.new_rows:,} new ones a checkpoint, {args.rounds} checkpoints")
    for unit, scale, name in (("seconds", 1.0, "s"), ("bytes", 1e-6, "MB")):
        new, whole = (np.array(figures[f"{kind} {unit}"]) for kind in ("incremental", "whole"))
        ratios = new / whole
        print(
            f"{unit}: incremental {statistics.median(new) * scale:.3f} {name} (median), whole "
            f"{statistics.median(whole) * scale:.3f} {name}; ratio {statistics.median(ratios):.3f} "
            f"(median), {ratios.mean():.3f} (mean), {ratios.max():.3f} (largest)"
        )


if __name__ == "__main__":
    main()
