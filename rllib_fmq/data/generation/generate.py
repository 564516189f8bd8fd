"""Make datasets in OGBench's format with scripted policies, in parallel over Ray tasks.

Every episode is a function of (seed, its number) alone: neither the number of workers nor the
order in which episodes finish changes a byte, and a longer dataset begins with the shorter one.
"""

from __future__ import annotations

import difflib
import importlib.metadata
import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from rllib_fmq._version import __version__
from rllib_fmq.data.downloads.locate import data_dirs
from rllib_fmq.data.formats.npz import Arrays, write_npz
from rllib_fmq.data.generation.collect import EpisodeJob, run_job
from rllib_fmq.data.generation.collect_legged import upright
from rllib_fmq.data.generation.families import (
    Recipe,
    generated_datasets,
    parse_generated,
    policy_datasets,
)
from rllib_fmq.data.generation.low_level_policy import LowLevelPolicy, load_low_level_policy
from rllib_fmq.data.generation.parallel import run_jobs
from rllib_fmq.tasks.catalog import ogbench_task
from rllib_fmq.tasks.names import NUM_TASKS, OGBenchName

_TRAIN, _VALIDATION = 0, 1


def generate_dataset(
    task: str,
    out: str | Path | None = None,
    *,
    steps: int,
    seed: int,
    num_workers: int | None = None,
    noise: float | None = None,
    noise_smoothing: float = 0.5,
    episode_steps: int | None = None,
    val_fraction: float = 0.1,
    overwrite: bool = False,
    progress: bool = True,
    policy: str | Path | None = None,
    goal_fraction: float = 0.0,
) -> Path:
    """Generate a dataset and its validation part, in OGBench's npz format.

    Args:
        task: Dataset name such as "cube-single-play-v0", or any single task on it.
        out: File to write (NAME.npz; NAME-val.npz comes beside it), or a folder; None is the
            first of $RLLIB_FMQ_DATA_DIR and ~/.ogbench/data.
        steps: Transitions in the training part, > 0; the last episode is cut to fit.
        seed: Seed, >= 0.
        num_workers: Episodes recorded at the same time; None is every CPU that Ray has, 0 records
            in this process, without Ray.
        noise: Action noise; None is the official dataset's (play and noisy 0.1, point mazes 0.5,
            mazes with a robot 0.2).
        noise_smoothing: Width, in steps, of the Gaussian that smooths the noise of play data.
        episode_steps: Transitions an episode; None is the official dataset's (1000; 2000 in giant
            mazes and for the humanoid, 4000 for both).
        val_fraction: Size of the validation part relative to the training part, in [0, 1]; 0
            writes none.
        overwrite: Replace an existing file.
        progress: Show a progress bar on standard error.
        policy: Low-level policy of the robot in an antmaze or humanoidmaze: an npz file, such as
            examples/train_directional_policy.py writes, or the folder of an RLlib checkpoint (a
            pickle: only your own).
        goal_fraction: Share of a manipulation dataset's episodes, in [0, 1], that start in a task's
            initial state and solve the environment's tasks in turn; 0 is the official recipe,
            targets drawn at random throughout.
    Returns:
        The training file.
    Raises:
        ValueError: If an argument is out of range, there is no recipe for the task, or the
            low-level policy is missing, damaged or another robot's.
        FileExistsError: If the file exists and `overwrite` is off.
        FileNotFoundError: If there is no such policy.
    """
    parsed = parse_generated(task)
    if parsed is None:
        names = [*generated_datasets(), *policy_datasets()]
        close = difflib.get_close_matches(task, names, n=3) or names
        raise ValueError(
            f"no scripted policy makes a dataset for {task!r}; there is one for {', '.join(close)}"
        )
    name, recipe = parsed
    noise = recipe.noise if noise is None else noise
    episode_steps = recipe.episode_steps if episode_steps is None else episode_steps
    _check(steps=(steps, 1), seed=(seed, 0), episode_steps=(episode_steps, 1))
    _check(noise=(noise, 0), noise_smoothing=(noise_smoothing, 0), val_fraction=(val_fraction, 0))
    _check(num_workers=(0 if num_workers is None else num_workers, 0))
    if val_fraction > 1:
        raise ValueError(f"val_fraction must be at most 1, got {val_fraction}")
    if not 0 <= goal_fraction <= 1:
        raise ValueError(f"goal_fraction must be between 0 and 1, got {goal_fraction}")
    if goal_fraction and recipe.policy not in ("plan", "markov"):
        raise ValueError(
            f"goal_fraction is for cubes, scene and puzzles; {name.dataset} goes from goal to goal "
            "anyway: leave it at 0"
        )

    train_path = _output(out, name.dataset)
    val_path = train_path.with_name(f"{train_path.stem}-val.npz")
    for path in (train_path, val_path):
        if path.exists() and not overwrite:
            raise FileExistsError(f"{path} exists; overwrite it explicitly, or name another file")

    low_level = _low_level(name, recipe, policy)  # last of the checks: it reads a file

    lengths = {
        _TRAIN: _episode_lengths(steps, episode_steps),
        _VALIDATION: _episode_lengths(round(steps * val_fraction), episode_steps),
    }
    jobs = [
        EpisodeJob(
            name,
            recipe,
            length,
            seed,
            (part, number),
            noise,
            noise_smoothing,
            task=_first_task(number, goal_fraction),
            low_level=low_level,
        )
        for part in (_TRAIN, _VALIDATION)
        for number, length in enumerate(lengths[part])
    ]
    recorded = run_jobs(
        run_job,
        jobs,
        num_workers,
        title=name.dataset,
        size=lambda job: job.steps,
        unit="steps",
        progress=progress,
    )
    episodes = {job.key: arrays for job, arrays in recorded}
    made = {
        "by": f"rllib_fmq {__version__}",
        "with": {package: importlib.metadata.version(package) for package in ("ogbench", "mujoco")},
        "dataset": name.dataset,
        "policy": recipe.policy,
        "steps": steps,
        "seed": seed,
        "noise": noise,
        "noise_smoothing": noise_smoothing,
        "episode_steps": episode_steps,
    }
    if goal_fraction:
        made["goal_fraction"] = goal_fraction
    if low_level is not None:
        made["low_level_policy"] = f"sha256 {low_level.fingerprint}"
    files = {train_path: _assemble(episodes, _TRAIN, made)}
    if lengths[_VALIDATION]:
        # First into place, so that a training file never stands without it.
        files = {val_path: _assemble(episodes, _VALIDATION, made), **files}
    write_npz(files)
    return train_path


def _check(**bounds: tuple[float, float]) -> None:
    for name, (value, least) in bounds.items():
        if not least <= value < math.inf:
            raise ValueError(f"{name} must be at least {least} and finite, got {value}")


def _first_task(number: int, goal_fraction: float) -> int | None:
    """Task with which an episode starts if it is directed: evenly spread, all tasks in turn.

    A function of the episode's number alone, so that a longer dataset begins with the shorter one.
    """
    before, after = math.floor(number * goal_fraction), math.floor((number + 1) * goal_fraction)
    return None if after == before else before % NUM_TASKS + 1


def _low_level(
    name: OGBenchName, recipe: Recipe, policy: str | Path | None
) -> LowLevelPolicy | None:
    """The robot's policy, checked to fit; None where no robot walks."""
    if recipe.policy != "legged":
        if policy is not None:
            raise ValueError(
                f"{name.dataset} is made by a script alone: leave out the low-level policy {policy}"
            )
        return None
    robot = "ant" if name.environment.startswith("ant") else "humanoid"
    if policy is None:
        raise ValueError(
            f"no scripted policy walks for {name.dataset!r}: train one with `python "
            f"examples/train_directional_policy.py --robot {robot} --output {robot}.npz`, then add "
            f"--policy {robot}.npz (in Python policy='{robot}.npz')"
        )
    low_level = load_low_level_policy(policy)
    task = ogbench_task(name)
    # The direction's two numbers are where the observation has x and y.
    expected, got = (task.obs_dim, task.action_dim), (low_level.obs_dim, low_level.action_dim)
    if got != expected:
        raise ValueError(
            f"low-level policy {policy} takes {got[0]} numbers and gives {got[1]}; that of the "
            f"{robot} in {name.environment} takes {expected[0]} (proprioception without x and y, "
            f"then the direction) and gives {expected[1]}"
        )
    return low_level


def _output(out: str | Path | None, dataset: str) -> Path:
    if out is None:
        return data_dirs()[0] / f"{dataset}.npz"
    path = Path(out).expanduser()
    if path.suffix == ".npz":
        return path
    if path.suffix and not path.is_dir():
        raise ValueError(f"the output must be a folder or a file ending in .npz, got {str(out)!r}")
    return path / f"{dataset}.npz"


def _episode_lengths(steps: int, episode_steps: int) -> list[int]:
    """Transitions of each episode: full ones, then what is left."""
    full, rest = divmod(steps, episode_steps)
    return [episode_steps] * full + ([rest] if rest else [])


def _assemble(episodes: dict[tuple[int, int], Arrays], part: int, made: dict[str, Any]) -> Arrays:
    chosen = [episodes[key] for key in sorted(episodes) if key[0] == part]
    arrays: Arrays = {
        name: np.concatenate([episode[name] for episode in chosen]) for name in chosen[0]
    }
    # OGBench reads only the members it knows; this one tells where the file is from.
    made = {**made, "part": ("train", "val")[part]}
    if made["policy"] == "legged":
        environment = made["dataset"].rpartition("-navigate")[0]
        ends = np.array([episode["qpos"][-1] for episode in chosen])
        made["episodes_that_end_fallen"] = int((~upright(environment, ends)).sum())
    arrays["generator"] = np.array(json.dumps(made))
    return arrays
