"""Make RoboMimic-format demonstrations with scripted policies, in parallel over Ray tasks.

Every demonstration is a function of (seed, its number) alone, given its quality tier: neither the
number of workers nor the order in which they finish changes the file, and a longer dataset begins
with the shorter one.
"""

from __future__ import annotations

import importlib.metadata
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rllib_fmq._version import __version__
from rllib_fmq.data.downloads.locate import data_dirs
from rllib_fmq.data.generation.parallel import run_jobs
from rllib_fmq.data.generation.scripted_arm import TIERS
from rllib_fmq.tasks.catalog import parse_robomimic

if TYPE_CHECKING:  # these need the extra [robomimic]
    from rllib_fmq.data.formats.robomimic_writer import Demo
    from rllib_fmq.data.generation.scripted_episode import DemoJob

_TASKS = ("lift", "can", "square")
DEFAULT_TIERS: Mapping[str, float] = {"better": 0.5, "okay": 0.3, "worse": 0.2}
"""Share of each quality tier in a dataset."""


def generated_demonstrations() -> list[str]:
    """RoboMimic's tasks that have a scripted demonstrator."""
    return list(_TASKS)


def can_demonstrate(task: str) -> bool:
    """Whether `generate_demonstrations` knows the task, by any of RoboMimic's names for it."""
    parsed = parse_robomimic(task)
    return parsed is not None and parsed[0] in _TASKS


def generate_demonstrations(
    task: str,
    out: str | Path | None = None,
    *,
    episodes: int,
    seed: int,
    num_workers: int | None = None,
    tiers: Mapping[str, float] | None = None,
    val_fraction: float = 0.1,
    keep_failures: bool = False,
    overwrite: bool = False,
    progress: bool = True,
) -> Path:
    """Generate demonstrations of a RoboMimic task in its low_dim HDF5 format.

    A demonstration ends with success or at the task's step limit. Failed ones are thrown away and
    repeated from another start, in every tier, unless `keep_failures` is set; the attribute
    `attempts` of each demonstration tells how many it took.

    Args:
        task: RoboMimic name of lift, can or square, such as "can" or "can-mh".
        out: File to write (.hdf5), or a data folder; None is the first of $RLLIB_FMQ_DATA_DIR and
            ~/.ogbench/data. In a folder the file is robomimic/TASK/scripted/low_dim_v15.hdf5.
        episodes: Number of demonstrations, >= 1.
        seed: Seed, >= 0.
        num_workers: Demonstrations recorded at the same time; None is every CPU that Ray has, 0
            records in this process, without Ray.
        tiers: Relative share of each of "better", "okay" and "worse"; None is `DEFAULT_TIERS`.
        val_fraction: Fraction of demonstrations in the mask `valid` instead of `train`, in [0, 1);
            at least one if it is not 0 and there are two.
        keep_failures: Keep each first attempt, whether it succeeds or not.
        overwrite: Replace an existing file.
        progress: Show a progress bar on standard error.
    Returns:
        The file. Its masks are `train`, `valid` and one per tier; the attribute `generator` of
        `data` (JSON) tells how it was made.
    Raises:
        ValueError: If an argument is out of range, or there is no scripted policy for the task.
        FileExistsError: If the file exists and `overwrite` is off.
        ModuleNotFoundError: If robosuite is not installed.
    """
    name = _task(task)
    _check_numbers(episodes=(episodes, 1), seed=(seed, 0), num_workers=(num_workers or 0, 0))
    if not 0 <= val_fraction < 1:
        raise ValueError(f"val_fraction must be at least 0 and below 1, got {val_fraction}")
    shares = _shares(DEFAULT_TIERS if tiers is None else tiers)
    path = _output(out, name)
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists; overwrite it explicitly, or name another file")

    from rllib_fmq.tasks.robomimic_simulator import import_robosuite

    import_robosuite()
    from rllib_fmq.data.formats.robomimic_writer import write_robomimic
    from rllib_fmq.data.generation.scripted_episode import DemoJob, record_demo
    from rllib_fmq.tasks.robomimic import default_env_args

    dealt = _deal(shares, episodes)
    jobs = [DemoJob(name, tier, seed, k, keep_failures) for k, tier in enumerate(dealt)]
    recorded = run_jobs(
        record_demo, jobs, num_workers, title=f"{name} demonstrations", progress=progress
    )
    made = {
        "by": f"rllib_fmq {__version__}",
        "with": {
            package: importlib.metadata.version(package) for package in ("robosuite", "mujoco")
        },
        "task": name,
        "policy": "scripted",
        "episodes": episodes,
        "seed": seed,
        "tiers": shares,
        "val_fraction": val_fraction,
        "keep_failures": keep_failures,
    }
    return write_robomimic(
        path,
        _in_order(recorded),
        default_env_args(name),
        _masks(dealt, val_fraction, seed),
        attrs={"generator": json.dumps(made)},
    )


def attempt_outcomes(
    task: str,
    tier: str,
    *,
    episodes: int,
    seed: int,
    num_workers: int | None = 0,
    progress: bool = False,
) -> list[tuple[bool, int]]:
    """Let a demonstrator try, and return what came of each attempt.

    Args:
        task: As in `generate_demonstrations`.
        tier: "better", "okay" or "worse".
        episodes: Number of attempts, >= 1.
        seed: Seed, >= 0.
        num_workers: As in `generate_demonstrations`.
        progress: Show a progress bar on standard error.
    Returns:
        For each attempt, whether it succeeded within the task's step limit, and its steps.
    Raises:
        ValueError: If an argument is out of range, or there is no scripted policy for the task.
        ModuleNotFoundError: If robosuite is not installed.
    """
    name = _task(task)
    _check_numbers(episodes=(episodes, 1), seed=(seed, 0), num_workers=(num_workers or 0, 0))
    _shares({tier: 1.0})
    from rllib_fmq.tasks.robomimic_simulator import import_robosuite

    import_robosuite()
    from rllib_fmq.data.generation.scripted_episode import DemoJob, record_outcome

    jobs = [DemoJob(name, tier, seed, k, keep_failures=True) for k in range(episodes)]
    done = run_jobs(record_outcome, jobs, num_workers, title=f"{name} {tier}", progress=progress)
    outcomes = {job.number: outcome for job, outcome in done}
    return [outcomes[k] for k in range(episodes)]


def measure_success(
    task: str, tier: str, *, episodes: int, seed: int, num_workers: int | None = 0
) -> float:
    """Success rate of a demonstrator's attempts within the task's step limit.

    Args:
        task: As in `generate_demonstrations`.
        tier: "better", "okay" or "worse".
        episodes: Number of attempts, >= 1.
        seed: Seed, >= 0.
        num_workers: As in `generate_demonstrations`.
    """
    outcomes = attempt_outcomes(task, tier, episodes=episodes, seed=seed, num_workers=num_workers)
    return sum(success for success, _ in outcomes) / episodes


def _task(task: str) -> str:
    if not can_demonstrate(task):
        raise ValueError(
            f"no scripted policy demonstrates {task!r}; there is one for {', '.join(_TASKS)}"
        )
    parsed = parse_robomimic(task)
    assert parsed is not None
    return parsed[0]


def _check_numbers(**bounds: tuple[int, int]) -> None:
    for name, (value, least) in bounds.items():
        if value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")


def _shares(tiers: Mapping[str, float]) -> dict[str, float]:
    """Shares that add up to 1, of the tiers that have any, the best first."""
    for tier, share in tiers.items():
        if tier not in TIERS:
            raise ValueError(f"unknown quality tier {tier!r}; there are {', '.join(TIERS)}")
        if not 0 <= share < math.inf:
            raise ValueError(f"the share of tier {tier!r} must be at least 0, got {share}")
    total = sum(tiers.values())
    if not total > 0:
        raise ValueError(f"at least one tier must have a share above 0, got {dict(tiers)}")
    return {tier: tiers[tier] / total for tier in TIERS if tiers.get(tier, 0) > 0}


def _deal(shares: Mapping[str, float], episodes: int) -> list[str]:
    """Tier of each demonstration: always of the one that lags furthest behind its share."""
    counts = dict.fromkeys(shares, 0)
    dealt: list[str] = []
    for number in range(1, episodes + 1):
        # Rounded, so that ties go to the better tier whatever the last bit of a share.
        tier = max(shares, key=lambda name: round(shares[name] * number - counts[name], 9))
        counts[tier] += 1
        dealt.append(tier)
    return dealt


def _masks(dealt: list[str], val_fraction: float, seed: int) -> dict[str, list[str]]:
    """Filter keys: a random split into train and valid, and the tiers."""
    episodes = len(dealt)
    held_out = math.floor(episodes * val_fraction)
    if val_fraction > 0 and episodes > 1:
        held_out = max(1, held_out)
    order = np.random.default_rng(np.random.SeedSequence(seed)).permutation(episodes)
    valid = set(order[:held_out].tolist())
    numbers = {
        "train": [k for k in range(episodes) if k not in valid],
        "valid": sorted(valid),
        **{tier: [k for k, dealt_tier in enumerate(dealt) if dealt_tier == tier] for tier in TIERS},
    }
    return {key: [f"demo_{k}" for k in members] for key, members in numbers.items() if members}


def _in_order(recorded: Iterable[tuple[DemoJob, Demo]]) -> Iterator[Demo]:
    """Demonstrations by number; those that come early wait."""
    waiting: dict[int, Demo] = {}
    following = 0
    for job, demo in recorded:
        waiting[job.number] = demo
        while following in waiting:
            yield waiting.pop(following)
            following += 1


def _output(out: str | Path | None, task: str) -> Path:
    path = data_dirs()[0] if out is None else Path(out).expanduser()
    if path.suffix in (".hdf5", ".h5"):
        return path
    if path.suffix and not path.is_dir():
        raise ValueError(f"the output must be a folder or a file ending in .hdf5, got {str(out)!r}")
    return path / "robomimic" / task / "scripted" / "low_dim_v15.hdf5"
