"""What several learners cost: throughput, and the share of it that communication takes.

    OMP_NUM_THREADS=1 python -m benchmarks.learners --learners 1 2 4 --width 256

Random data of cube-double's sizes (observations 37, actions 5), FMQ's offline update, gloo. Each
learner is a process with its own batch, as in a run: n learners process n batches an update.
Communication is what an update takes less when DDP does not synchronise its gradients
(``no_sync``): sending, and waiting for the slowest learner. Learners that share cores also wait for
these: with more learners than cores, windows/s cannot rise.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import ray
import torch
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.tune.registry import register_env

from rllib_fmq import FMQConfig
from rllib_fmq.data.formats.transitions_npz import save_transitions

ENV = "rllib_fmq_benchmarks/Sizes"
OBS_DIM, ACTION_DIM, ROWS, EPISODE = 37, 5, 20_000, 200
ROUNDS = 3


class Sizes(gym.Env[np.ndarray, np.ndarray]):
    """Cube-double's spaces; nothing steps it."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (OBS_DIM,), np.float32)
    action_space = gym.spaces.Box(-1.0, 1.0, (ACTION_DIM,), np.float32)


class Row(NamedTuple):
    """One line of the table."""

    learners: int
    seconds: float
    """Of an update."""
    alone: float
    """The same without synchronisation."""


def write_data(path: Path) -> Path:
    """Random transitions in episodes of equal length."""
    random = np.random.default_rng(0)
    obs = random.standard_normal((ROWS, OBS_DIM)).astype(np.float32)
    last = np.arange(ROWS) % EPISODE == EPISODE - 1
    return save_transitions(
        path,
        observations=obs,
        actions=random.uniform(-1.0, 1.0, (ROWS, ACTION_DIM)),
        rewards=random.standard_normal(ROWS),
        # A step's next observation is the one of the step after it, but at the end.
        next_observations=np.concatenate([obs[1:], obs[:1]]),
        terminated=np.zeros(ROWS, bool),
        truncated=last,
    )


def measure(number: int, data: Path, width: int, batch: int, updates: int) -> Row:
    """Start so many learners and time their updates with and without synchronisation."""
    config = (
        FMQConfig()
        .environment(ENV)
        .offline_data(dataset=str(data))
        .training(
            actor_hidden=(width,) * 4,
            critic_hidden=(width,) * 4,
            num_candidates=4,
            diagonal_warmup_updates=0,
            interval_anneal_end=0,
            train_batch_size_per_learner=batch,
            parameter_check_interval=0,  # unsynchronised learners do differ
            learner_threads=1,
            compile_updates=False,
        )
        .learners(num_learners=number)
        .debugging(seed=0, log_level="ERROR")
    )
    config.validate()
    spaces = {DEFAULT_MODULE_ID: (Sizes.observation_space, Sizes.action_space)}
    group = config.build_learner_group(
        rl_module_spec=config.get_multi_rl_module_spec(spaces=spaces)
    )

    def timed(learner: Any, synchronise: bool) -> float:
        several = torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1
        context: Any = contextlib.nullcontext()
        if several:
            torch.distributed.barrier()
            if not synchronise:
                context = learner.module[DEFAULT_MODULE_ID].no_sync()
        start = time.perf_counter()
        with context:
            learner.update(num_updates=updates)
        if several:
            torch.distributed.barrier()
        return time.perf_counter() - start

    def seconds(synchronise: bool) -> float:
        answers = group.foreach_learner(lambda learner: timed(learner, synchronise))
        return max(answer.get() for answer in answers) / updates

    try:
        # In turn; the first pair warms up.
        pairs = [(seconds(True), seconds(False)) for _ in range(1 + ROUNDS)][1:]
        return Row(number, *(statistics.median(column) for column in zip(*pairs, strict=True)))
    finally:
        group.shutdown()


HEAD = """\
| learners | ms an update | windows/s | without synchronisation, ms | communication |
|---:|---:|---:|---:|---:|"""


def line(row: Row, batch: int) -> str:
    """Of the Markdown table."""
    share = max(0.0, 1.0 - row.alone / row.seconds) if row.learners > 1 else 0.0
    windows = row.learners * batch / row.seconds
    return (
        f"| {row.learners} | {1e3 * row.seconds:.1f} | {windows:,.0f} "
        f"| {1e3 * row.alone:.1f} | {share:.0%} |"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--learners", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--width", type=int, default=256, help="of four hidden layers")
    parser.add_argument("--batch", type=int, default=256, help="of each learner")
    parser.add_argument("--updates", type=int, default=100, help="in a round")
    options = parser.parse_args()
    ray.init(num_cpus=max(options.learners), include_dashboard=False, log_to_driver=False)
    register_env(ENV, lambda config: Sizes())
    try:
        with tempfile.TemporaryDirectory() as folder:
            data = write_data(Path(folder) / "data.npz")
            print(HEAD, flush=True)
            for number in options.learners:
                row = measure(number, data, options.width, options.batch, options.updates)
                print(line(row, options.batch), flush=True)
    finally:
        ray.shutdown()


if __name__ == "__main__":
    main()
