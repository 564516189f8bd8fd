"""Measure the paper's tasks and write the table of docs/TASKS.md.

    OMP_NUM_THREADS=1 python benchmarks/tasks.py --data-dir DIR --output docs/TASKS.md

For each task: sizes, environment steps a second on one core, what the dataset in DIR holds, and the
memory of a replay. DIR is filled by `rllib data generate` (see docs/TASKS.md) or
`rllib data download`. The table replaces what stands between the two marker lines of the file.
"""

from __future__ import annotations

import argparse
import contextlib
import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import track

from rllib_fmq.atomic import replacing
from rllib_fmq.data.downloads.locate import locate
from rllib_fmq.data.table import TransitionTable
from rllib_fmq.learner.replay import ReplayTable
from rllib_fmq.tasks.catalog import Task, paper_tasks
from rllib_fmq.tasks.registry import make_env

BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
REPLAY_ROWS = 2_000_000
HEADER = (
    "| task | obs | action | limit | steps/s | reset, ms | rows | successes: rows (episodes) | "
    "replay of 2M, GB |\n|---|---|---|---|---|---|---|---|---|"
)


def measure_speed(name: str, seconds: float) -> tuple[float, float]:
    """Environment steps a second, and the median seconds of a reset.

    Args:
        name: Of a task.
        seconds: Wall time to step for, resets excluded.
    """
    env = make_env(name)
    env.action_space.seed(0)
    resets: list[float] = []
    stepping, steps, seed = 0.0, 0, 0
    env.reset(seed=seed)  # compiles the model
    while stepping < seconds:
        seed += 1
        start = time.perf_counter()
        env.reset(seed=seed)
        resets.append(time.perf_counter() - start)
        done = False
        start = time.perf_counter()
        while not done and stepping + time.perf_counter() - start < seconds:
            _, _, terminated, truncated, _ = env.step(env.action_space.sample())
            done = terminated or truncated
            steps += 1
        stepping += time.perf_counter() - start
    env.close()  # type: ignore[no-untyped-call]
    return steps / stepping, float(np.median(resets))


def count_successes(table: TransitionTable) -> tuple[int, int]:
    """Rows that end in success, and the recorded trajectories that have any."""
    episode = np.concatenate([[0], np.cumsum(table.episode_end)[:-1]])
    return int(table.terminated.sum()), len(np.unique(episode[table.terminated]))


def replay_bytes(task: Task) -> int:
    """Bytes of the columns of a replay at the paper's capacity."""
    replay = ReplayTable(REPLAY_ROWS, task.obs_dim, task.action_dim)
    return replay.num_bytes


def row(task: Task, data_dir: str | None, seconds: float) -> str:
    """One line of the table."""
    from rllib_fmq.data.loading import load_dataset

    speed, reset = measure_speed(task.name, seconds)
    rows, successes = "none here", "-"
    with contextlib.suppress(FileNotFoundError):
        path = locate(task.name, data_dir=data_dir, download=False)
        table = load_dataset(path, task.name)
        solved, episodes = count_successes(table)
        rows, successes = f"{table.num_steps:,}", f"{solved:,} ({episodes:,})"
    cells: list[Any] = [
        f"`{task.short_name}`",
        task.obs_dim,
        task.action_dim,
        task.max_episode_steps,
        f"{speed:,.0f}",
        f"{1e3 * reset:,.0f}",
        rows,
        successes,
        f"{replay_bytes(task) / 1e9:.2f}",
    ]
    return "| " + " | ".join(map(str, cells)) + " |"


def main() -> None:
    """Measure, print, and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", help="folder of the datasets, beside the usual ones")
    parser.add_argument("--seconds", type=float, default=5.0, help="stepping time a task")
    parser.add_argument("--output", type=Path, help="Markdown file with the two marker lines")
    arguments = parser.parse_args()
    lines = [
        row(task, arguments.data_dir, arguments.seconds)
        for task in track(paper_tasks(), description="tasks")
    ]
    table = "\n".join([HEADER, *lines])
    print(table)
    if arguments.output is None:
        return
    text = arguments.output.read_text(encoding="utf-8")
    if BEGIN not in text or END not in text:
        raise SystemExit(f"{arguments.output} lacks the lines {BEGIN} and {END}")
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    with replacing(arguments.output) as staged:
        staged.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
