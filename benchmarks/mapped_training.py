"""What training on a dataset that stays on disk takes of memory.

    python benchmarks/mapped_training.py --rows 5000000 --updates 200

Writes a folder of columns (observations 37, actions 5, episodes of 1,000 steps; --rows 100000000 is
18 GB), trains a small network on it with FMQ's learner, and prints by how much the process grew in
anonymous memory, which is what cannot be given back. What is mapped is the system's page cache: it
is dropped from memory when something else needs the room, and counted apart.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from rllib_fmq.data.formats.columns import load_columns, write_columns
from rllib_fmq.data.table import TransitionTable

OBS_DIM, ACTION_DIM, EPISODE, SHARD = 37, 5, 1000, 200
TASK = "cube-double-play-singletask-task3-v0"
ONLINE_STEPS = 10_000


def shards(rows: int) -> Iterator[TransitionTable]:
    """Random tables of 200 episodes."""
    random = np.random.default_rng(0)
    for start in range(0, rows, SHARD * EPISODE):
        num = min(SHARD * EPISODE, rows - start)
        end = np.arange(start, start + num) % EPISODE == EPISODE - 1
        end[-1] = True
        yield TransitionTable.from_columns(
            obs=random.standard_normal((num, OBS_DIM), np.float32),
            actions=2 * random.random((num, ACTION_DIM), np.float32) - 1,
            rewards=-random.random(num, np.float32),
            terminated=random.random(num, np.float32) < 0.001,
            episode_end=end,
            final_obs=random.standard_normal((int(end.sum()), OBS_DIM), np.float32),
            source="random numbers",
        )


def status(field: str) -> float:
    """A line of this process's status, in MB."""
    with open("/proc/self/status") as lines:
        for line in lines:
            if line.startswith(f"{field}:"):
                return int(line.split()[1]) / 1024
    raise OSError(f"no {field} in /proc/self/status: this needs Linux")


def drop_from_cache(folder: Path) -> None:
    """Have the system forget the files, as if they were read for the first time."""
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def measure(folder: Path, updates: int) -> dict[str, float]:
    """Train in this process.

    Args:
        folder: Of columns.
        updates: Gradient updates, batch 256.
    Returns:
        In MB: `dataset` on disk; by how much this process's anonymous memory has grown at most
        (`anonymous`), and its memory in all (`resident`); `updates_per_second`.
    """
    import gymnasium
    import torch

    from rllib_fmq import FMQConfig

    torch.set_num_threads(1)
    spaces = (
        gymnasium.spaces.Box(-np.inf, np.inf, (OBS_DIM,), np.float32),
        gymnasium.spaces.Box(-1.0, 1.0, (ACTION_DIM,), np.float32),
    )

    def build(dataset: Path):
        config = (
            FMQConfig()
            .environment(TASK)
            .offline_data(dataset=str(dataset))
            .training(actor_hidden=(32, 32), critic_hidden=(32, 32), num_candidates=4)
            .phases(offline_updates=updates, online_env_steps=ONLINE_STEPS)
            .learners(num_learners=0)
            .debugging(seed=0, log_level="ERROR")
        )
        spec = config.get_multi_rl_module_spec(spaces={"default_policy": spaces})
        learner = config.get_default_learner_class()(config=config, module_spec=spec)
        learner.build()
        return learner

    with tempfile.TemporaryDirectory() as small:
        # What imports, network and optimiser cost is not the dataset's.
        first = build(write_columns(Path(small) / "small.columns", shards(2 * EPISODE), source="x"))
        first.update(num_updates=20)
    gc.collect()
    anonymous, resident = status("RssAnon"), status("VmRSS")
    learner = build(folder)
    most = status("RssAnon")
    start, done = time.perf_counter(), 0
    while done < updates:
        learner.update(num_updates=min(20, updates - done))
        done += min(20, updates - done)
        most = max(most, status("RssAnon"))
    seconds = time.perf_counter() - start
    assert learner.replay.num_offline == load_columns(folder).num_steps
    return {
        "dataset": sum(path.stat().st_size for path in folder.iterdir()) / 2**20,
        "anonymous": most - anonymous,
        "resident": status("VmRSS") - resident,
        "updates_per_second": updates / seconds,
    }


def measure_apart(folder: Path, updates: int) -> dict[str, float]:
    """`measure` in a process of its own."""
    command = [sys.executable, __file__, "--folder", str(folder), "--updates", str(updates)]
    result = subprocess.run([*command, "--json"], check=True, capture_output=True, text=True)
    figures: dict[str, float] = json.loads(result.stdout.splitlines()[-1])
    return figures


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--updates", type=int, default=200)
    parser.add_argument("--folder", type=Path, help="NAME.columns to keep, made if it is not there")
    parser.add_argument("--json", action="store_true", help="measure here, print JSON")
    args = parser.parse_args()
    if args.json:
        print(json.dumps(measure(args.folder, args.updates)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary) / "random.columns"
        if not folder.exists():
            start, before = time.perf_counter(), status("RssAnon")
            write_columns(folder, shards(args.rows), source="random numbers")
            print(
                f"written in {time.perf_counter() - start:.0f} s; "
                f"{status('RssAnon') - before:.0f} MB of anonymous memory more than before"
            )
        for cache in ("cold", "warm"):
            if cache == "cold":
                drop_from_cache(folder)
            figures = measure_apart(folder, args.updates)
            print(
                f"{cache} cache: dataset {figures['dataset']:.0f} MB; anonymous memory grew by "
                f"{figures['anonymous']:.0f} MB, all resident by {figures['resident']:.0f} MB; "
                f"{figures['updates_per_second']:.1f} updates a second"
            )


if __name__ == "__main__":
    main()
