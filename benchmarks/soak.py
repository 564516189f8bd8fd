"""A long run of tiny steps: memory and disk have to stay flat after the warm-up.

    python -m benchmarks.soak --output results/soak

A real `rllib train` job with remote env-runners, a remote learner, and checkpoints of which the
last three are kept. The replay holds 20,000 rows, so it is full, and overwritten, from a twentieth
of the run on. Samples the memory of each kind of process every second: the unique set size, which
leaves shared libraries aside, and of Ray's raylet, which holds the object store, the shared
memory. Writes samples.jsonl, soak.json and memory.png, and with `--document docs/ROBUSTNESS.md` the
table and the picture there; ends with 1 if anything grows faster than ``BOUND_MIB``.

The bound is less than what a process grows by that keeps each of the tiny transitions (2.4 MiB in
100,000 steps). It is the same for all: the object store is emptied after each round, so that the
raylet touches no new memory either, and Tune's logs of the results are a third of it.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import psutil

from benchmarks.chaos.environment import ENVIRONMENT, write_dataset
from benchmarks.chaos.jobs import Job
from benchmarks.chaos.kills import ACTORS
from benchmarks.marked import write_parts
from rllib_fmq.atomic import replacing

WARM_UP = 0.5
"""Share of the run."""
BOUND_MIB = 2.0
"""Growth in 100,000 environment steps that is not taken for a leak."""
_DISK = "checkpoints on disk"
_OBJECTS = "object store"
_RUNNERS = 2


def main() -> int:
    """Run, draw, judge."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("results/soak"))
    parser.add_argument("--steps", type=int, default=400_000)
    parser.add_argument("--every", type=float, default=1.0, help="seconds between samples")
    parser.add_argument("--document", type=Path, help="write table and picture there")
    arguments = parser.parse_args()
    output = arguments.output.resolve()
    output.mkdir(parents=True, exist_ok=True)
    samples = run(output, arguments.steps, arguments.every)
    with replacing(output / "samples.jsonl") as path:
        path.write_text("".join(json.dumps(sample) + "\n" for sample in samples), encoding="utf-8")
    try:
        slopes = growth(samples, arguments.steps)
    except ValueError as error:
        sys.exit(f"soak: {error}")
    draw(samples, arguments.steps, output / "memory.png")
    for name, slope in slopes.items():
        print(f"{name:20s} {slope:+8.2f} MiB in 100,000 steps after the warm-up")
    summary = {"steps": arguments.steps, "bound_mib": BOUND_MIB, "growth_mib": slopes}
    with replacing(output / "soak.json") as path:
        path.write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    if arguments.document:
        write_parts(arguments.document, {"memory": table(samples[-1], slopes)})
        with replacing(arguments.document.parent / "images" / "soak-memory.png") as path:
            shutil.copyfile(output / "memory.png", path)
    if growing := leaks(slopes):
        print(f"grows by more than {BOUND_MIB:g} MiB: {', '.join(growing)}")
    return int(bool(growing))


def run(output: Path, steps: int, every_s: float) -> list[dict[str, Any]]:
    """Run the job, and sample it.

    Args:
        output: Where its folder is made, and removed in the end.
        steps: Environment steps.
        every_s: Seconds between samples.
    Returns:
        Dicts with "seconds", "steps", and MiB of each kind of process, of the object store and of
        the checkpoints on disk.
    Raises:
        RuntimeError: If the job fails.
    """
    job = Job(output / "job", _config(steps), ENVIRONMENT, write_dataset(output / "drift.npz"))
    job.remove_files()
    started, samples = time.monotonic(), []
    job.start()
    try:
        while job.running():
            if measured := _sample(job):
                samples.append({"seconds": round(time.monotonic() - started, 1), **measured})
                if len(samples) % 20 == 0:
                    print(json.dumps(samples[-1]), flush=True)
            time.sleep(every_s)
        if job.exit_code() != 0:
            raise RuntimeError(f"the job failed: {job.last_words()}")
    finally:
        job.left_behind()
        job.remove_scratch()
    job.remove_files()
    return samples


def growth(samples: list[dict[str, Any]], steps: int) -> dict[str, float]:
    """MiB in 100,000 steps after the warm-up.

    The median slope of the lines through every two samples (Theil and Sen): an allocator that
    takes or gives back a few MiB at once bends a line of least squares more.

    Args:
        samples: From ``run``.
        steps: Of the whole run.
    Raises:
        ValueError: If fewer than two moments after the warm-up were sampled.
    """
    late = [sample for sample in samples if sample["steps"] >= WARM_UP * steps]
    at = np.array([sample["steps"] for sample in late], float) / 100_000
    one, other = np.nonzero(at[:, None] < at)
    if not len(one):
        raise ValueError(
            f"{len(late)} samples after the warm-up of {WARM_UP * steps:,.0f} steps: growth needs "
            "two at least; raise --steps or lower --every."
        )
    slopes = {}
    for name in [name for name in samples[-1] if name not in ("seconds", "steps")]:
        values = np.array([sample[name] for sample in late])
        between = (values[other] - values[one]) / (at[other] - at[one])
        slopes[name] = round(float(np.median(between)), 2)
    return slopes


def leaks(slopes: dict[str, float]) -> list[str]:
    """Names of what grows faster than the bound.

    Args:
        slopes: From ``growth``.
    """
    return [name for name, slope in slopes.items() if slope > BOUND_MIB]


def table(last: dict[str, Any], slopes: dict[str, float]) -> str:
    """Markdown: what there is in the end, and how fast it grew."""
    lines = [
        f"After {last['steps']:,} steps:",
        "",
        "| | MiB | growth in 100,000 steps after the warm-up |",
        "|---|---:|---:|",
        *(f"| {name} | {last[name]:.1f} | {slope:+.2f} |" for name, slope in slopes.items()),
    ]
    return "\n".join(lines)


def draw(samples: list[dict[str, Any]], steps: int, path: Path) -> None:
    """Memory over environment steps, and its change since the end of the warm-up."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (whole, change) = pyplot.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
    at = [sample["steps"] / 1000 for sample in samples]
    warm_up = WARM_UP * steps / 1000
    warm = next(sample for sample in samples if sample["steps"] >= WARM_UP * steps)
    for name in [name for name in samples[-1] if name not in ("seconds", "steps")]:
        values = np.array([sample[name] for sample in samples])
        whole.plot(at, values, label=name, linewidth=1.5)
        change.plot(at, values - warm[name], linewidth=1.5)
    for axes in (whole, change):
        axes.axvspan(0, warm_up, color="0.92", zorder=0)
        axes.set(xlabel="environment steps (thousands)", xlim=(0, steps / 1000))
        axes.grid(alpha=0.3)
    whole.set(ylabel="MiB", ylim=(0, None), title="grey: warm-up")
    change.set(ylabel="MiB", ylim=(-5 * BOUND_MIB, 5 * BOUND_MIB), title="change since the warm-up")
    figure.legend(loc="outside right center", frameon=False)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=100)
    pyplot.close(figure)


def _config(steps: int) -> dict[str, Any]:
    return {
        "seed": 0,
        "horizon_length": 5,
        "actor_hidden": [8],
        "critic_hidden": [8],
        "num_candidates": 2,
        "diagonal_warmup_updates": 2,
        "interval_anneal_end": 20,
        "train_batch_size_per_learner": 8,
        "num_env_runners": _RUNNERS,
        "num_envs_per_env_runner": 16,
        "num_learners": 1,
        "rollout_fragment_length": 50,
        "replay_capacity": 20_000,
        "offline_updates": 20,
        "updates_per_iteration": 20,
        "utd_ratio": 0.01,
        "online_env_steps": steps,
        "learning_starts": 0,
        "compile_updates": False,
        "learner_threads": 1,
    }


def _sample(job: Job) -> dict[str, float] | None:
    """None while not all processes have begun to work, or have ended."""
    results = job.results()
    if not results or results[-1]["phase"] != "online":
        return None
    with suppress(psutil.NoSuchProcess, psutil.ZombieProcess, psutil.AccessDenied):
        actors = {name: job.actors(title) for name, title in ACTORS.items()}
        raylets = [p for p in job.driver.children(recursive=True) if p.name() == "raylet"]
        if [len(found) for found in actors.values()] != [1, 1, _RUNNERS] or len(raylets) != 1:
            return None
        measured = {"steps": results[-1]["num_online_env_steps"], "driver": _unique(job.driver)}
        for name, found in actors.items():
            measured[name] = sum(map(_unique, found))
        measured[_OBJECTS] = raylets[0].memory_info().shared / 2**20
        measured[_DISK] = _size(job.trial) if job.trial else 0.0
        return {name: round(value, 2) for name, value in measured.items()}
    return None


def _unique(process: psutil.Process) -> float:
    """MiB of memory that would be free if the process ended."""
    return float(process.memory_full_info().uss) / 2**20


def _size(folder: Path) -> float:
    total = 0
    for place, _, names in os.walk(folder):  # leaves out what is deleted meanwhile
        for name in names:
            with suppress(FileNotFoundError):
                total += os.stat(os.path.join(place, name)).st_size
    return total / 2**20


if __name__ == "__main__":
    sys.exit(main())
