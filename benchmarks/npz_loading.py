"""How much longer loading an OGBench file takes than NumPy needs to read its members.

    python benchmarks/npz_loading.py --rows 1000000 --repeats 5

The file has the sizes of cube-triple-play (observations 46, actions 5, qpos 35, qvel 32) and smooth
trajectories in full float32 precision, compressed by np.savez_compressed. Timed in turns, by the
clock and as time of this process's CPU: the table as training gets it (read, checked, relabelled
with the rewards of the task, fingerprinted), and NumPy reading the members it needs. Making the
environment, which gives the task's goal, takes the same time for any number of rows and is timed
apart too. Loading decompresses two members at a time, so by the clock a second core helps it.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from rllib_fmq.data import load_dataset
from rllib_fmq.tasks.registry import make_env

TASK = "cube-triple-play-singletask-task4-v0"
MEMBERS = ("observations", "actions", "terminals", "qpos")
SIZES = {"observations": 46, "actions": 5, "qpos": 35, "qvel": 32}
EPISODE = 1001


def write_file(path: Path, rows: int, seed: int = 0) -> Path:
    """Write smooth random trajectories in OGBench's format.

    Args:
        path: npz file.
        rows: States.
        seed: Of the numbers.
    """
    random = np.random.default_rng(seed)
    step = np.arange(rows) % EPISODE
    arrays = {}
    for name, size in SIZES.items():
        # Two waves a column: neighbours are close, and hardly a value comes twice.
        array = np.empty((rows, size), np.float32)
        for column in range(size):
            fast, slow = random.uniform(0.001, 0.03, 2)
            phase = random.uniform(0, 6, rows // EPISODE + 1)[np.arange(rows) // EPISODE]
            array[:, column] = np.sin(fast * step + phase) * np.cos(slow * step)
        arrays[name] = array
    arrays["terminals"] = (step == EPISODE - 1) | (np.arange(rows) == rows - 1)
    np.savez_compressed(path, **arrays)
    return path


def read_with_numpy(path: Path) -> None:
    """Read the members that training needs."""
    with np.load(path) as archive:
        for name in MEMBERS:
            archive[name]


def make_environment(path: Path) -> None:
    """The part of loading that does not depend on the rows."""
    env = make_env(TASK)
    env.reset()
    env.close()


def load(path: Path) -> None:
    """Load the dataset for its task."""
    load_dataset(path, TASK)


def measure(path: Path, repeats: int) -> dict[str, list[tuple[float, float]]]:
    """Time in turns.

    Returns:
        For "numpy", "load" and "environment", the clock's and the CPU's seconds of each repeat.
    """
    ways: dict[str, Callable[[Path], None]] = {
        "numpy": read_with_numpy,
        "load": load,
        "environment": make_environment,
    }
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            clock, cpu = time.perf_counter(), time.process_time()
            way(path)
            times[name].append((time.perf_counter() - clock, time.process_time() - cpu))
    return times


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--file", type=Path, help="a file to keep, made if it is not there")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = args.file or Path(folder) / "cube-triple-play-v0.npz"
        if not path.exists():
            write_file(path, args.rows)
        load(path)  # imports, and the environment's first compile
        times = measure(path, args.repeats)
        print(f"{args.rows:,} rows, {path.stat().st_size / 1e6:.0f} MB, {args.repeats} repeats")
    for name, pairs in times.items():
        clock, cpu = np.median(pairs, axis=0)
        print(f"{name:11} {clock:6.2f} s by the clock, {cpu:6.2f} s of CPU (medians)")
    for name, (clock, cpu) in ratios(times).items():
        print(
            f"{name}: {clock:.2f} by the clock, {cpu:.2f} of CPU (medians of the repeats' ratios)"
        )


def ratios(times: dict[str, list[tuple[float, float]]]) -> dict[str, tuple[float, float]]:
    """Loading over NumPy's reading, by the clock and of CPU."""
    numpy, load, environment = (np.array(times[name]) for name in ("numpy", "load", "environment"))
    ways = {"load / numpy": load, "load without environment / numpy": load - environment}
    medians = {name: np.median(seconds / numpy, axis=0) for name, seconds in ways.items()}
    return {name: (float(clock), float(cpu)) for name, (clock, cpu) in medians.items()}


if __name__ == "__main__":
    main()
